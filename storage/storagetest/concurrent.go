package storagetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// testConcurrent reads without pause while batches are written and sealed: a
// reader sees every message whose Write had returned before it asked, none
// twice, and always a whole prefix of the stream.
func testConcurrent(t *testing.T, open Open) {
	r := newRig(t, open)
	const total, each = 3000, 20
	var written atomic.Int64
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		readers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					if n > 3 {
						return
					}
				default:
				}
				if err := readPrefix(t, r.st, written.Load()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for start := 0; start < total; start += each {
		var batch []*device.Message
		for i := start; i < start+each; i++ {
			batch = append(batch, message("d", "", float64(i), value("v", device.Int(int64(i)))))
		}
		r.put(batch...)
		written.Store(int64(start + each))
		if start%300 == 0 {
			r.seal()
		}
	}
	close(stop)
	readers.Wait()
	r.both(func() { r.must(readPrefix(t, r.st, total)) })
}

func readPrefix(t *testing.T, st storage.Store, atLeast int64) error {
	page, err := st.Messages(t.Context(), all("d"))
	if err != nil {
		return err
	}
	if int64(len(page.Messages)) < atLeast {
		return fmt.Errorf("%d messages are seen, %d were written", len(page.Messages), atLeast)
	}
	for i, m := range page.Messages {
		if m.Position.Seq != uint64(i+1) {
			return fmt.Errorf("message %d of %d is %d", i+1, len(page.Messages), m.Position.Seq)
		}
	}
	atLeast = int64(len(page.Messages))
	points, err := st.Points(t.Context(), storage.PointQuery{Tenant: "t", Device: "d", Name: "v", Limit: 100_000})
	if err != nil {
		return err
	}
	if int64(len(points)) < atLeast {
		return fmt.Errorf("%d points are seen after %d messages", len(points), atLeast)
	}
	for i, p := range points {
		if p.Value != device.Int(int64(i)) || !p.Time.Equal(noon.Add(time.Duration(i)*time.Second)) {
			return fmt.Errorf("point %d of %d is %v at %v", i, len(points), p.Value, p.Time)
		}
	}
	last, err := st.Latest(t.Context(), storage.LatestQuery{Tenant: "t", Device: "d"})
	if err != nil {
		return err
	}
	if n := int64(len(points)); n > 0 && (len(last) != 1 || last[0].Value.Int() < n-1) {
		return fmt.Errorf("the latest value is %v after %d points", last, n)
	}
	return nil
}
