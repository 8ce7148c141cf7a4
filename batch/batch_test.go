package batch_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-iot/tributary/batch"
	"github.com/tributary-iot/tributary/device"
)

func heat() device.Batch {
	return device.Batch{ID: "b1", Tenant: "acme", Command: device.Command{Name: "heat", Payload: []byte("1")}}
}

func create(t *testing.T, s *batch.Service, b device.Batch, devices ...[]string) device.Batch {
	t.Helper()
	synctest.Wait() // until the records are known
	made, err := s.Create(t.Context(), b, slices.Concat(devices...))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// ended waits for the end and answers the batch.
func ended(t *testing.T, s *batch.Service) (last device.Batch) {
	t.Helper()
	synctest.Wait()
	if err := s.Watch(t.Context(), "acme", "b1", func(b device.Batch) error {
		if last = b; sum(b) != b.Total {
			t.Errorf("%+v does not add up to %d", b.Progress, b.Total)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return last
}

func sum(b device.Batch) int {
	p := b.Progress
	return p.Unsent + p.Pending + p.Succeeded + p.Failed + p.Rejected + p.Expired + p.Cancelled + p.Refused
}

func code(t *testing.T, err error, want device.Code) {
	t.Helper()
	if err == nil || device.CodeOf(err) != want {
		t.Fatalf("got %v, want an error of code %s", err, want)
	}
}

// TestEveryDeviceOnce: a batch ends with what became of everybody.
func TestEveryDeviceOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		s, _ := open(t, newMemory(), f)
		made := create(t, s, heat(), names("ok", 1200), names("fail", 7), names("reject", 5), names("refused", 3), names("slow", 100), names("ok", 10))
		if made.Total != 1315 || made.Progress.Unsent != 1315 || made.State != device.BatchRunning {
			t.Errorf("made %+v", made)
		}
		b := ended(t, s)
		want := device.BatchProgress{Succeeded: 1300, Failed: 7, Rejected: 5, Refused: 3}
		if b.State != device.BatchCompleted || b.Progress != want || b.EndedAt.IsZero() {
			t.Errorf("ended as %+v", b)
		}
		if len(f.sent) != 1312 || f.repeats != 0 {
			t.Errorf("%d commands, %d sent again", len(f.sent), f.repeats)
		}
		told := map[string]device.BatchResult{}
		if err := s.Results(t.Context(), "acme", "b1", func(r device.BatchResult) error {
			if _, twice := told[r.Device]; twice {
				t.Errorf("%s is told twice", r.Device)
			}
			told[r.Device] = r
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(told) != 1315 || told["ok-00003"].Status != 200 || told["fail-00001"].State != device.StateFailed || told["refused-00000"].Error == "" {
			t.Errorf("%d results: %+v", len(told), told["refused-00000"])
		}
	})
}

// TestResultsAsTheyCome: who listens from the beginning hears each end as it is
// written down, and of those that were not sent at the end.
func TestResultsAsTheyCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t, newMemory(), newFleet())
		b := heat()
		b.Window = 20
		create(t, s, b, names("ok", 30), names("silent", 40))
		results := make(chan device.BatchResult, 100)
		done := make(chan error, 1)
		go func() {
			done <- s.Results(t.Context(), "acme", "b1", func(r device.BatchResult) error { results <- r; return nil })
		}()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if len(results) != 30 {
			t.Errorf("%d results while it runs", len(results))
		}
		if _, err := s.Cancel(t.Context(), "acme", "b1", "enough"); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		counts := map[device.CommandState]int{}
		for range len(results) {
			counts[(<-results).State]++
		}
		if want := map[device.CommandState]int{device.StateSucceeded: 30, device.StateCancelled: 20, device.StateNone: 20}; !maps.Equal(counts, want) {
			t.Errorf("results %v, want %v", counts, want)
		}
	})
}

func TestRateAndWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		s, _ := open(t, newMemory(), f)
		b := heat()
		b.Rate, b.Window = 100, 50
		create(t, s, b, names("ok", 1000))
		ended(t, s)
		if took := f.took(); took < 9800*time.Millisecond || took > 11*time.Second {
			t.Errorf("1,000 at 100 a second took %v", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		s, _ := open(t, newMemory(), f)
		b := heat()
		b.Window = 50
		create(t, s, b, names("slow", 200))
		ended(t, s)
		if f.most != 50 {
			t.Errorf("%d had not ended at the same time", f.most)
		}
		if took := f.took(); took < 29*time.Second || took > 35*time.Second {
			t.Errorf("four windows of ten seconds began within %v", took)
		}
	})
}

func TestPauseResumeCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		s, _ := open(t, newMemory(), f)
		b := heat()
		b.Rate = 10
		create(t, s, b, names("silent", 100))
		time.Sleep(5 * time.Second)
		for range 2 {
			if b, err := s.Pause(t.Context(), "acme", "b1"); err != nil || b.State != device.BatchPaused {
				t.Fatal(b, err)
			}
		}
		synctest.Wait()
		paused := f.count()
		time.Sleep(time.Hour)
		if n := f.count(); n != paused || n < 45 || n > 55 {
			t.Errorf("%d were sent when it was paused, %d an hour later", paused, n)
		}
		if _, err := s.Resume(t.Context(), "acme", "b1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if n := f.count(); n < paused+15 || n > paused+25 {
			t.Errorf("%d were sent within two seconds of resuming", n-paused)
		}
		if _, err := s.Cancel(t.Context(), "acme", "b1", "wrong valve"); err != nil {
			t.Fatal(err)
		}
		last := ended(t, s)
		if last.State != device.BatchCancelled || last.Reason != "wrong valve" || last.Progress.Cancelled != f.count() || last.Progress.Unsent != 100-f.count() {
			t.Errorf("ended as %+v after %d were sent", last, f.count())
		}
		_, err := s.Resume(t.Context(), "acme", "b1")
		code(t, err, device.Precondition)
		_, err = s.Pause(t.Context(), "acme", "nosuch")
		code(t, err, device.NotFound)
	})
}

func TestAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		s, _ := open(t, newMemory(), f)
		b := heat()
		b.Rate, b.AbortPercent, b.AbortAfter = 100, 30, 50
		create(t, s, b, names("fail", 300), names("zok", 300))
		last := ended(t, s)
		if last.State != device.BatchAborted || last.Progress.Failed < 50 || last.Progress.Failed > 100 || last.Reason == "" {
			t.Errorf("ended as %+v", last)
		}
	})
	synctest.Test(t, func(t *testing.T) { // few failures, however early, abort nothing
		s, _ := open(t, newMemory(), newFleet())
		b := heat()
		b.AbortPercent, b.AbortAfter = 30, 50
		create(t, s, b, names("fail", 14), names("ok", 100))
		if last := ended(t, s); last.State != device.BatchCompleted {
			t.Errorf("ended as %+v", last)
		}
	})
}

// TestRestarts stops a batch again and again, wherever it stands, and starts another
// node on what is kept: each device has one command all the same, and every end is
// counted once.
func TestRestarts(t *testing.T) {
	for _, cut := range []time.Duration{0, time.Millisecond, 300 * time.Millisecond, time.Second, 1700 * time.Millisecond} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, f := newMemory(), newFleet()
				s, stop := open(t, m, f)
				b := heat()
				b.Rate, b.Window = 400, 700
				create(t, s, b, names("ok", 1000), names("slow", 1000), names("fail", 500))
				for range 6 {
					time.Sleep(cut)
					stop()
					s, stop = open(t, m, f)
				}
				last := ended(t, s)
				want := device.BatchProgress{Succeeded: 2000, Failed: 500}
				if last.State != device.BatchCompleted || last.Progress != want {
					t.Errorf("ended as %+v", last)
				}
				if len(f.sent) != 2500 {
					t.Errorf("%d commands for 2500 devices", len(f.sent))
				}
			})
		})
	}
}

// TestCancelledOverARestart: what was sent and not written down is withdrawn, too,
// and nothing more is sent.
func TestCancelledOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newMemory(), newFleet()
		s, stop := open(t, m, f)
		b := heat()
		b.Rate = 1000
		create(t, s, b, names("silent", 2000))
		time.Sleep(500 * time.Millisecond)
		stop()
		sent := f.count()
		bystander, stop := open(t, m, f, func(c *batch.Config) { c.Bystander = true })
		synctest.Wait()
		if _, err := bystander.Cancel(t.Context(), "acme", "b1", ""); err != nil {
			t.Fatal(err)
		}
		stop()
		s, _ = open(t, m, f)
		synctest.Wait()
		if last := ended(t, s); last.Progress.Cancelled != sent || last.Progress.Unsent != 2000-sent || f.count() != sent {
			t.Errorf("%d were sent before, %d in all; ended as %+v", sent, f.count(), last.Progress)
		}
	})
}

// TestOneDriver: of two nodes one drives, and the other takes over when it dies.
func TestOneDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newMemory(), newFleet()
		var dead atomic.Bool
		node := func(name string) func(*batch.Config) {
			return func(c *batch.Config) {
				c.Acting = func() (string, error) { return name, nil }
				c.Lives = func(i string) bool { return i == "b" || i == "a" && !dead.Load() }
			}
		}
		one, stop := open(t, m, f, node("a"))
		b := heat()
		b.Rate = 100
		create(t, one, b, names("ok", 1000))
		synctest.Wait()
		two, _ := open(t, m, f, node("b"))
		time.Sleep(3 * time.Second)
		stop() // without a word, as far as the other knows
		synctest.Wait()
		before := f.count()
		time.Sleep(10 * time.Second)
		if f.count() != before {
			t.Errorf("somebody drives what a living node has")
		}
		dead.Store(true)
		last := ended(t, two)
		if last.Progress.Succeeded != 1000 || len(f.sent) != 1000 {
			t.Errorf("ended as %+v with %d commands", last.Progress, len(f.sent))
		}
	})
}

// TestStaleDriver: a node that was cut off while it had commands on their way sends
// none of them any more, however long it goes on trying.
func TestStaleDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newMemory(), newFleet()
		var cut atomic.Bool
		one, _ := open(t, m, f, func(c *batch.Config) {
			c.Acting = func() (string, error) {
				if cut.Load() {
					return "", device.Errorf(device.Unavailable, "cut off")
				}
				return "a", nil
			}
			c.Lives = func(string) bool { return true }
			c.WriteEvery = time.Hour // so that it is not what stops the driver
		})
		f.fail(true) // so that as many are on their way as may be
		create(t, one, heat(), names("ok", 3000))
		synctest.Wait()
		cut.Store(true)
		f.fail(false)
		time.Sleep(time.Minute)
		if n := f.count(); n != 0 {
			t.Fatalf("%d were sent by a node that was cut off", n)
		}
		two, _ := open(t, m, f, func(c *batch.Config) {
			c.Acting = func() (string, error) { return "b", nil }
			c.Lives = func(i string) bool { return i == "b" }
		})
		if last := ended(t, two); last.Progress.Succeeded != 3000 || len(f.sent) != 3000 || f.repeats != 0 {
			t.Errorf("ended as %+v with %d commands, %d were sent again", last.Progress, len(f.sent), f.repeats)
		}
	})
}

// TestOutage: what cannot be sent or written for a while is, later.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newMemory(), newFleet()
		s, _ := open(t, m, f)
		b := heat()
		b.Rate = 100
		create(t, s, b, names("ok", 500))
		time.Sleep(time.Second)
		set := func(err error) {
			m.mu.Lock()
			m.outage = err
			m.mu.Unlock()
			f.fail(err != nil)
		}
		set(device.Errorf(device.Unavailable, "no NATS"))
		time.Sleep(time.Minute)
		set(nil)
		if last := ended(t, s); last.Progress.Succeeded != 500 || len(f.sent) != 500 {
			t.Errorf("ended as %+v with %d commands", last.Progress, len(f.sent))
		}
	})
}

// TestABatchWaitsUntilBatchesAreKnown, as they are soon after the start, and no longer
// than a caller has patience.
func TestABatchWaitsUntilBatchesAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := batch.New(batch.Config{}, newMemory(), newFleet(), registered{})
		began := time.Now()
		if _, err := s.Create(t.Context(), heat(), names("ok", 1)); device.CodeOf(err) != device.Unavailable || time.Since(began) == 0 {
			t.Errorf("after %s of waiting: %v", time.Since(began), err)
		}
		made := make(chan error)
		go func() {
			_, err := s.Create(t.Context(), heat(), names("ok", 1))
			made <- err
		}()
		synctest.Wait()
		go func() { _ = s.Run(t.Context()) }()
		if err := <-made; err != nil {
			t.Error(err)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestWhoIsMeant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all registered
		for i := range 2500 {
			r := device.Registration{ID: device.ID{Tenant: "acme", Device: fmt.Sprintf("ok-%04d", i)}, Kind: device.KindDevice, Labels: device.Labels{"roof": ""}}
			switch {
			case i%10 == 1:
				r.Labels = nil
			case i%10 == 2:
				r.Disabled = true
			case i%10 == 3:
				r.Kind = device.KindApplication
			}
			all = append(all, r)
		}
		f := newFleet()
		s := batch.New(batch.Config{Keep: time.Hour}, newMemory(), f, all)
		_, err := s.Get(t.Context(), "acme", "b1")
		code(t, err, device.Unavailable) // nothing is known before Run
		go func() { _ = s.Run(t.Context()) }()
		defer func() { _ = s.Shutdown(context.Background()) }()
		b := heat()
		b.Selector = "roof"
		if made := create(t, s, b); made.Total != 1750 {
			t.Errorf("%d are meant", made.Total)
		}
		if last := ended(t, s); last.Progress.Succeeded != 1750 {
			t.Errorf("ended as %+v", last)
		}
		_, err = s.Create(t.Context(), b, nil)
		code(t, err, device.Conflict)
		if all, err := s.List(t.Context(), "acme", "", 10); err != nil || len(all) != 1 || all[0].ID != "b1" {
			t.Errorf("listed %+v, %v", all, err)
		}
		for name, c := range map[string]struct {
			change func(*device.Batch)
			listed []string
			want   device.Code
		}{
			"nobody":    {func(b *device.Batch) { b.Selector = "cellar" }, nil, device.Precondition},
			"neither":   {func(b *device.Batch) { b.Selector = "" }, nil, device.Invalid},
			"both":      {func(*device.Batch) {}, []string{"d"}, device.Invalid},
			"no device": {func(b *device.Batch) { b.Selector = "" }, []string{"a/b"}, device.Invalid},
			"selector":  {func(b *device.Batch) { b.Selector = "a b" }, nil, device.Invalid},
			"name":      {func(b *device.Batch) { b.ID = "a b" }, nil, device.Invalid},
			"rate":      {func(b *device.Batch) { b.Rate = -1 }, nil, device.Invalid},
			"percent":   {func(b *device.Batch) { b.AbortPercent = 101 }, nil, device.Invalid},
			"ttl":       {func(b *device.Batch) { b.TTL = 31 * 24 * time.Hour }, nil, device.Invalid},
			"command":   {func(b *device.Batch) { b.Command.Name = "a/b" }, nil, device.Invalid},
			"payload":   {func(b *device.Batch) { b.Command.Payload = make([]byte, 65<<10) }, nil, device.TooLarge},
		} {
			b := b
			b.ID = "b2"
			c.change(&b)
			if _, err := s.Create(t.Context(), b, c.listed); device.CodeOf(err) != c.want || err == nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		time.Sleep(2 * time.Hour) // it is forgotten, bytes and all
		_, err = s.Get(t.Context(), "acme", "b1")
		code(t, err, device.NotFound)
	})
}

// TestLongList: the largest list is one request, kept in parts.
func TestLongList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newMemory(), newFleet()
		s, _ := open(t, m, f)
		create(t, s, heat(), names("ok", 5000))
		if last := ended(t, s); last.Progress.Succeeded != 5000 || m.len() != 11 {
			t.Errorf("ended as %+v in %d values", last.Progress, m.len())
		}
		_, err := s.Create(t.Context(), device.Batch{Tenant: "acme"}, strings.Split(strings.Repeat("x,", device.MaxBatchDevices+1), ","))
		code(t, err, device.Invalid)
	})
}
