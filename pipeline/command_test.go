package pipeline

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func dev(n int) device.ID { return device.ID{Tenant: "default", Device: fmt.Sprintf("dev %d.%%", n)} }

func testCommand(id device.ID, n int) *device.Command {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	return &device.Command{
		ID: fmt.Sprintf("01J%023d", n), Tenant: id.Tenant, Device: id.Device, Name: "heat", Payload: []byte{0, 1, byte(n)},
		ContentType: "x/y", Key: "k", CreatedAt: at, Deadline: at.Add(time.Hour), ResponseTimeout: time.Minute, Sender: "s",
	}
}

// TestMailbox: requests are put in order, read by device, followed by all, and
// removed; two puts behind the same newest request do not both succeed.
func TestMailbox(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	m := b.Mailbox()
	first, err := m.Put(t.Context(), testCommand(dev(0), 1), 0)
	must(t, err)
	_, err = m.Put(t.Context(), testCommand(dev(0), 2), 0)
	if device.CodeOf(err) != device.Conflict {
		t.Fatalf("a put behind nothing, when there is something: %v", err)
	}
	_, err = m.Put(t.Context(), testCommand(dev(0), 2), first)
	must(t, err)
	_, err = m.Put(t.Context(), testCommand(dev(1), 3), anyPlace)
	must(t, err)
	last, err := m.Last(t.Context())
	must(t, err)

	ctx, stop := context.WithCancel(t.Context())
	var followed []string
	err = m.Follow(ctx, first, func(ev device.StoredEvent) {
		followed = append(followed, ev.Command)
		if ev.Position.Seq == last {
			stop()
		}
	})
	if ctx.Err() == nil || fmt.Sprint(followed) != fmt.Sprint([]string{testCommand(dev(0), 2).ID, testCommand(dev(1), 3).ID}) {
		t.Fatalf("followed %v, %v", followed, err)
	}
	got, err := m.Requests(t.Context(), dev(0))
	must(t, err)
	if want := testCommand(dev(0), 1); len(got) != 2 || fmt.Sprint(*got[0].Request) != fmt.Sprint(*want) || got[0].State != device.StateQueued {
		t.Fatalf("read %+v", got)
	}
	must(t, m.Remove(t.Context(), first+1, []uint64{last, last + 1}))
	must(t, m.Remove(t.Context(), first+1, []uint64{last})) // again
	got, err = m.Requests(t.Context(), dev(0))
	must(t, err)
	if len(got) != 1 || got[0].Command != testCommand(dev(0), 2).ID {
		t.Fatalf("left %+v", got)
	}
	if now, err := m.Last(t.Context()); err != nil || now != last-1 {
		t.Fatalf("last is %d, %v", now, err)
	}
}

// TestLargeMailbox reads more than one batch.
func TestLargeMailbox(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	const n = 2500
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := b.Mailbox().Put(t.Context(), testCommand(dev(0), i), anyPlace); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := b.Mailbox().Requests(t.Context(), dev(0))
	must(t, err)
	if len(got) != n {
		t.Fatalf("%d requests, want %d", len(got), n)
	}
	for i := range got[1:] {
		if got[i].Position.Seq >= got[i+1].Position.Seq {
			t.Fatal("not in order")
		}
	}
}

// TestCommandLogTakesOne: of many that append behind the same event one succeeds.
func TestCommandLogTakesOne(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	l := b.CommandLog()
	expect := uint64(0)
	for round := range 20 {
		var mu sync.Mutex
		var wg sync.WaitGroup
		won, last := 0, expect
		for i := range 30 {
			wg.Go(func() {
				e := &device.CommandEvent{Command: "c", Tenant: "default", Device: "d", State: device.StateSent, Attempt: i}
				seq, err := l.Append(t.Context(), e, last)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					won++
					expect = seq
				case device.CodeOf(err) != device.Conflict:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		events, err := l.Events(t.Context(), device.ID{Tenant: "default", Device: "d"}, 0)
		must(t, err)
		if won != 1 || len(events) != round+1 || events[round].Position.Seq != expect {
			t.Fatalf("round %d: %d succeeded, %d events", round, won, len(events))
		}
		newest, err := l.Newest(t.Context(), device.ID{Tenant: "default", Device: "d"})
		must(t, err)
		later, err := l.Events(t.Context(), device.ID{Tenant: "default", Device: "d"}, expect)
		must(t, err)
		if newest.Position.Seq != expect || newest.Attempt != events[round].Attempt || len(later) != 1 || later[0].Attempt != newest.Attempt {
			t.Fatalf("the newest is %+v, from there on there are %d", newest, len(later))
		}
	}
	must(t, l.Purge(t.Context(), expect))
	_, err := l.Append(t.Context(), &device.CommandEvent{Command: "c", Tenant: "default", Device: "d"}, 0)
	must(t, err) // the subject is empty again
}
