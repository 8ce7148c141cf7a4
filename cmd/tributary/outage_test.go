package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// outageEnv says how long the store is away; it is 3s unless said.
const outageEnv = "TRIBUTARY_TEST_STORE_OUTAGE"

// outageLoad is devices that send QoS 1 messages over MQTT, numbered from 1 for
// each, at a rate.
type outageLoad struct {
	s       *server
	due     chan struct{} // a message may be sent
	acked   atomic.Int64
	numbers [8]atomic.Int64 // the last of each device
	devices sync.WaitGroup
	failed  atomic.Pointer[error]
}

func (l *outageLoad) start(t *testing.T, ctx context.Context) {
	t.Helper()
	l.due = make(chan struct{}, 1000)
	for d := range l.numbers {
		send, closeIt, err := sendMQTT(ctx, l.s, deviceName(d))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(closeIt)
		for range 8 { // in flight
			l.devices.Go(func() {
				for range l.due {
					n := l.numbers[d].Add(1)
					if err := send(numbered(n)); err != nil {
						l.failed.CompareAndSwap(nil, &err)
						return
					}
					l.acked.Add(1)
				}
			})
		}
	}
}

// numbered is message n, at a time of its own: of points with equal times a
// query shows one.
func numbered(n int64) []byte {
	at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Millisecond)
	return fmt.Appendf(nil, `{"time":"%s","n":%d}`, at.Format(time.RFC3339Nano), n)
}

func deviceName(d int) string { return fmt.Sprintf("dev%d", d) }

// pace lets messages be sent at a rate, a second; 0 is as fast as they can.
func (l *outageLoad) pace(ctx context.Context, rate float64) {
	began, given := time.Now(), 0
	for ctx.Err() == nil {
		if rate > 0 && float64(given) >= rate*time.Since(began).Seconds() {
			time.Sleep(time.Millisecond) // the pace of the load; nothing is asserted of it
			continue
		}
		select {
		case l.due <- struct{}{}:
			given++
		case <-ctx.Done():
		}
	}
}

// TestIngestGoesOnWhileTheStoreIsAway: at half of the rate this machine can do,
// messages are acknowledged while nobody can write to the store; the backlog
// drains when it is back, and every message is stored once.
func TestIngestGoesOnWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	outage := 3 * time.Second
	if text := os.Getenv(outageEnv); text != "" {
		var err error
		if outage, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	l := &outageLoad{s: serve(t, t.TempDir(), "--open")}
	l.start(t, t.Context())
	measured, cancel := context.WithTimeout(t.Context(), max(outage/10, time.Second))
	defer cancel()
	began := time.Now()
	l.pace(measured, 0)
	most := float64(l.acked.Load()) / time.Since(began).Seconds()

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var pacing sync.WaitGroup
	pacing.Go(func() { l.pace(ctx, most/2) })
	unlock := lockStore(t, l.s)
	away, before := time.NewTimer(outage), l.acked.Load()
	began = time.Now()
	eventually(t, "the store is not ready", func() bool {
		return l.s.ready() == http.StatusServiceUnavailable && strings.Contains(l.s.readiness(), "cannot be stored")
	})
	eventually(t, "acknowledgements", func() bool { return l.acked.Load() > before+200 })
	if text := l.s.readiness(); !strings.Contains(text, "\nroom       ready") || !strings.Contains(text, "\nstream     ready") {
		t.Errorf("an outage of the store is none of the stream:\n%s", text)
	}
	<-away.C
	eventually(t, "a backlog", func() bool {
		return l.s.metric("tributary_pipeline_persist_lag_messages", `stream="TELEMETRY"`) > 200
	})
	t.Logf("%.0f/s at most; %.0f/s acknowledged in %s without the store, which was %.0f messages behind", most, float64(l.acked.Load()-before)/time.Since(began).Seconds(),
		time.Since(began).Round(time.Second), l.s.metric("tributary_pipeline_persist_lag_messages", `stream="TELEMETRY"`))
	unlock()
	began = time.Now()
	eventually(t, "the backlog drained, under the same load", func() bool {
		return l.s.metric("tributary_pipeline_persist_lag_messages", `stream="TELEMETRY"`) < most/2+200 && l.s.ready() == http.StatusOK
	})
	t.Logf("drained in %s", time.Since(began).Round(100*time.Millisecond))
	stop()
	pacing.Wait()
	close(l.due)
	l.devices.Wait()
	if err := l.failed.Load(); err != nil {
		t.Errorf("a message was not acknowledged: %v", *err)
	}
	for d := range l.numbers {
		l.verify(t, d)
	}
	l.s.stop()
}

// verify holds the store to what device d was told: numbers 1 to n, each once.
// Their count, sum and largest say so.
func (l *outageLoad) verify(t *testing.T, d int) {
	t.Helper()
	type bucket struct {
		Count    int64 `json:",string"`
		Sum, Max int64
	}
	out := l.s.client("query", "--device", deviceName(d), "--name", "n", "--step", "24h", "--agg", "count,sum,max", "-o", "json")
	var got bucket
	for _, b := range parseLines[bucket](t, out) {
		got.Count, got.Sum, got.Max = got.Count+b.Count, got.Sum+b.Sum, max(got.Max, b.Max)
	}
	n := l.numbers[d].Load()
	if want := (bucket{n, n * (n + 1) / 2, n}); got != want {
		t.Errorf("%s: stored are %+v, wanted %+v; the query says %s", deviceName(d), got, want, out)
	}
}
