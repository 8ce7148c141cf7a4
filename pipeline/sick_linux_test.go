package pipeline

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/internal/crashlab/faultfs"
	"github.com/tributary-iot/tributary/internal/peer"
)

// verifying keeps a belt looking at its servers until the test ends.
func verifying(t *testing.T, b *Belt) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Verify(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// submitTogether submits n messages of a device that are all there when the publisher
// looks, and answers where their fates come.
func submitTogether(b *Belt, name string, n int) (fates []chan error) {
	b.telemetry.mu.Lock()
	defer b.telemetry.mu.Unlock()
	for i := range n {
		m, fate := testMessage(name, i), make(chan error, 1)
		it := item{subject: TelemetrySubject(m.ID(), m.Channel), body: devicepb.MarshalMessage(m), done: func(_ uint64, err error) { fate <- err }}
		b.telemetry.queue, b.telemetry.bytes = append(b.telemetry.queue, it), b.telemetry.bytes+it.size()
		fates = append(fates, fate)
	}
	b.telemetry.poke()
	return fates
}

// held counts the messages of a stream by device and payload.
func held(t *testing.T, b *Belt) map[string]int {
	t.Helper()
	s, err := b.js.Stream(t.Context(), TelemetryStream)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for seq, last := s.CachedInfo().State.FirstSeq, s.CachedInfo().State.LastSeq; seq <= last; seq++ {
		raw, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		m, err := devicepb.UnmarshalMessage(raw.Data)
		if err != nil {
			t.Fatal(err)
		}
		count[m.Device+string(m.Payload)]++
	}
	return count
}

// TestAnExternalServerThatFailedToWriteIsNotBelieved: a server of somebody else's could
// not fsync a batch, tells of it all the same, and calls its repeat a duplicate. Nothing
// of it is acknowledged until the server has been started anew, without what its disk
// never had.
func TestAnExternalServerThatFailedToWriteIsNotBelieved(t *testing.T) {
	t.Parallel()
	peer.FUSE(t)
	for name, look := range map[string]func(*childNATS) Verify{
		"monitor":        (*childNATS).monitor,
		"system account": func(*childNATS) Verify { return systemUser(t, "sys:secret") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk, dir := faultfs.New(faultfs.JournalNames), t.TempDir()
			mount, err := disk.Mount(dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { mount.Detach() })
			nats := startChild(t, dir)
			b := openOn(t, Options{URL: nats.url(), Verify: look(nats), AckTimeout: 500 * time.Millisecond})
			direct := openOn(t, Options{URL: nats.url()})
			verifying(t, b)
			submitAll(t, b, "before", 50)

			disk.Inject(faultfs.Fault{Under: "jetstream/OURS/streams/TELEMETRY/msgs", Sync: true, Errno: syscall.EIO})
			const n = 200
			fates := submitTogether(b, "during", n)
			answered := func() bool { return slices.ContainsFunc(fates, func(c chan error) bool { return len(c) != 0 }) }
			eventually(t, "it is repeated", func() bool {
				return answered() || testutil.ToFloat64(b.metrics.retries.WithLabelValues(TelemetryStream)) >= 3
			})
			if answered() {
				t.Fatal("a message was answered on the word of a server that could not write it")
			}
			if disk.Hits() == 0 || lastSeq(t, direct, TelemetryStream) != 50+n {
				t.Fatalf("%d syncs failed, and the stream tells of %d messages: this shows nothing", disk.Hits(), lastSeq(t, direct, TelemetryStream))
			}
			eventually(t, "it says which stream could not be written", func() bool {
				err := b.Healthy()
				return err != nil && strings.Contains(err.Error(), "TELEMETRY' write error")
			})
			if answered() {
				t.Fatal("a message was answered by a server that is known to be sick")
			}

			nats.kill()
			if err := mount.Unmount(); err != nil {
				t.Fatal(err)
			}
			disk.Heal()
			disk.Cut(nil)
			if mount, err = disk.Mount(dir); err != nil {
				t.Fatal(err)
			}
			nats.start(dir)
			acked := map[string]bool{}
			for i, fate := range fates {
				if <-fate == nil {
					acked[fmt.Sprintf(`during{"n":%d}`, i)] = true
				}
			}
			eventually(t, "it is well again", func() bool { return b.Healthy() == nil })
			submitAll(t, b, "after", 10)
			have := held(t, b)
			for what := range acked {
				if have[what] != 1 {
					t.Errorf("%s was acknowledged, and is there %d times", what, have[what])
				}
			}
			t.Logf("%d of %d were acknowledged in the end; the others were told to come again", len(acked), n)
		})
	}
}

// TestOneSickServerOfThree: what two of three have is stored, so one that cannot write
// is told of, and the others are believed. When two cannot, nobody is.
func TestOneSickServerOfThree(t *testing.T) {
	t.Parallel()
	peer.FUSE(t)
	disk, dir := faultfs.New(faultfs.JournalNames), t.TempDir()
	mount, err := disk.Mount(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mount.Detach() })
	all := childCluster(t, t.TempDir(), filepath.Join(dir, "n1"), filepath.Join(dir, "n2"))
	var look Verify
	for _, c := range all {
		look.Monitor = append(look.Monitor, c.monitor().Monitor...)
	}
	b := openOn(t, Options{URL: all[0].url(), Replicas: 3, Verify: look, AckTimeout: time.Second})
	submitAll(t, b, "well", 20)
	eventually(t, "its word is taken", func() bool { _, err := b.events.word(); return err == nil })

	disk.Inject(faultfs.Fault{Under: "n2", Sync: true, Write: true, Errno: syscall.EIO})
	eventually(t, "all is taken by two", func() bool { submitAll(t, b, "sick", 5); return disk.Hits() > 0 })
	eventually(t, "the one that failed is told of", func() bool {
		_ = b.verifier.look(t.Context())
		seen, err := b.Verification()
		return err == nil && strings.Contains(seen, "restart what failed: the NATS server n2")
	})
	eventually(t, "two are enough", func() bool { _, err := b.events.word(); return err == nil && b.Healthy() == nil })

	disk.Inject(faultfs.Fault{Under: "n1", Sync: true, Write: true, Errno: syscall.EIO})
	if err := b.Submit(testMessage("lost", 1), func(err error) {
		if err == nil {
			t.Error("what one of three could write was acknowledged")
		}
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its word is not taken", func() bool { _, err := b.telemetry.word(); return err != nil && b.Healthy() != nil })
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_ = b.Close(over) // the last message is still repeated
}
