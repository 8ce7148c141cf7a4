package main_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/pipeline/embedded"
)

// commandHouse is the command room on a real belt.
type commandHouse struct {
	t      *testing.T
	dir    string
	server *embedded.Server
	belt   *pipeline.Belt
	*command.Service
	stored atomic.Pointer[[2]uint64] // what the store claims to hold
}

func openCommands(t *testing.T, dir string, change ...func(*command.Config)) *commandHouse {
	t.Helper()
	server, err := embedded.Start(embedded.Options{Dir: dir})
	must(t, err)
	h := &commandHouse{t: t, dir: dir, server: server}
	h.stored.Store(&[2]uint64{})
	h.belt, err = pipeline.Open(t.Context(), pipeline.Options{Server: server})
	must(t, err)
	h.Service = h.service("node-1", change...)
	return h
}

func (h *commandHouse) service(node string, change ...func(*command.Config)) *command.Service {
	h.t.Helper()
	leases, err := h.belt.Leases(h.t.Context())
	must(h.t, err)
	cfg := command.Config{Node: node, SweepEvery: 20 * time.Millisecond, PurgeDelay: time.Millisecond, PurgeStep: 1,
		Stored: func(context.Context) (uint64, uint64, error) { s := h.stored.Load(); return s[0], s[1], nil }}
	for _, c := range change {
		c(&cfg)
	}
	s, err := command.New(cfg, h.belt.CommandLog(), h.belt.Mailbox(), leases, nil)
	must(h.t, err)
	must(h.t, s.Start(h.t.Context()))
	return s
}

func (h *commandHouse) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	must(h.t, h.Service.Shutdown(ctx))
	must(h.t, h.belt.Close(ctx))
	must(h.t, h.server.Shutdown(ctx))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// seat is a session as an adapter has it.
type seat struct {
	adapters.Attachment
	t    *testing.T
	got  chan device.Delivery
	lost chan struct{}
}

func sit(t *testing.T, s *command.Service, id device.ID, credit int) *seat {
	t.Helper()
	d := &seat{t: t, got: make(chan device.Delivery, 4096), lost: make(chan struct{})}
	a, err := s.Attach(t.Context(), device.Session{Device: id, Protocol: device.MQTT}, func(v device.Delivery) { d.got <- v }, func() { close(d.lost) })
	must(t, err)
	d.Attachment = a
	a.Request(credit)
	return d
}

func (d *seat) next() device.Delivery {
	d.t.Helper()
	select {
	case v := <-d.got:
		return v
	case <-time.After(30 * time.Second):
		d.t.Fatal("nothing was offered")
		panic("unreachable")
	}
}

func (d *seat) settle(v device.Delivery, k device.OutcomeKind) error {
	done := make(chan error, 1)
	d.Settle(v.Command.ID, v.Attempt, device.Outcome{Kind: k}, func(err error) { done <- err })
	return <-done
}

func answer(s *command.Service, id device.ID, cmd string, status int) error {
	done := make(chan error, 1)
	s.Respond(device.Response{Device: id, Command: cmd, Status: status, Protocol: device.MQTT}, func(err error) { done <- err })
	return <-done
}

func (h *commandHouse) send(id device.ID, c device.Command) device.Command {
	h.t.Helper()
	c.Tenant, c.Device, c.Name = id.Tenant, id.Device, "heat"
	r, err := h.Send(h.t.Context(), c)
	must(h.t, err)
	return r.Command
}

func (h *commandHouse) trail(id string) (out string) {
	h.t.Helper()
	r, err := h.Get(h.t.Context(), device.ID{Tenant: "default"}, id)
	must(h.t, err)
	for _, e := range r.Events {
		out += " " + e.State.String()
	}
	return out[1:]
}

func (h *commandHouse) want(id, trail string) {
	h.t.Helper()
	if got := h.trail(id); got != trail {
		h.t.Fatalf("got  %s\nwant %s", got, trail)
	}
}

func dev(n int) device.ID { return device.ID{Tenant: "default", Device: fmt.Sprintf("dev %d.%%", n)} }

// TestAttachRacesSend: a command that is sent while its device attaches is
// offered, once.
func TestAttachRacesSend(t *testing.T) {
	t.Parallel()
	h := openCommands(t, t.TempDir())
	defer h.close()
	rounds := 1000
	if testing.Short() {
		rounds = 100
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < rounds; i += 8 {
				id := dev(i)
				sent := make(chan string, 1)
				go func() {
					r, err := h.Send(t.Context(), device.Command{Tenant: id.Tenant, Device: id.Device, OneWay: true})
					if err != nil {
						t.Error(err)
					}
					sent <- r.Command.ID
				}()
				d := sit(t, h.Service, id, 5)
				select {
				case v := <-d.got:
					if want := <-sent; v.Command.ID != want || v.Attempt != 1 {
						t.Errorf("round %d: offered %s attempt %d, want %s", i, v.Command.ID, v.Attempt, want)
					}
					if err := d.settle(v, device.Accepted); err != nil {
						t.Errorf("round %d: %v", i, err)
					}
				case <-time.After(20 * time.Second):
					t.Errorf("round %d: the command was missed", i)
				}
				d.Detach("done")
				if len(d.got) != 0 {
					t.Errorf("round %d: offered again", i)
				}
			}
		})
	}
	wg.Wait()
}

// TestTakeoverRace: sessions come and go and take over from one another; each
// command reaches its end, and no two sessions settle it.
func TestTakeoverRace(t *testing.T) {
	t.Parallel()
	h := openCommands(t, t.TempDir())
	defer h.close()
	id := dev(0)
	const n = 100
	var ids []string
	for range n {
		ids = append(ids, h.send(id, device.Command{OneWay: true}).ID)
	}
	var mu sync.Mutex
	settled := map[string]int{}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(settled) }
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			// Each stays until it has settled five, taken over or not: when the
			// newer ones leave, it is offered commands again.
			for count() < n {
				d := sit(t, h.Service, id, 3)
				for mine := 0; mine < 5 && count() < n; {
					select {
					case v := <-d.got:
						if d.settle(v, device.Accepted) == nil {
							mu.Lock()
							settled[v.Command.ID]++
							mu.Unlock()
							mine++
						}
						d.Request(1)
					case <-time.After(20 * time.Millisecond): // the others may have finished it
					}
				}
				d.Detach("done")
			}
		})
	}
	wg.Go(func() {
		for range 20 { // and one that only disturbs
			sit(t, h.Service, id, 1).Detach("fickle")
		}
	})
	wg.Wait()
	for _, id := range ids {
		if settled[id] != 1 {
			t.Errorf("%s was settled %d times: %s", id, settled[id], h.trail(id))
		}
	}
}

// TestCancelRacesOffer: of cancelling and sending exactly one wins.
func TestCancelRacesOffer(t *testing.T) {
	t.Parallel()
	h := openCommands(t, t.TempDir())
	defer h.close()
	other := h.service("node-2") // cancels through another node: only compare-and-set decides
	defer func() { must(t, other.Shutdown(context.Background())) }()
	d := sit(t, h.Service, dev(0), 1000)
	cancelled := 0
	for range 200 {
		c := h.send(dev(0), device.Command{OneWay: true})
		_, err := other.Cancel(t.Context(), dev(0), c.ID)
		switch {
		case err == nil:
			cancelled++
			h.want(c.ID, "QUEUED CANCELLED")
		case device.CodeOf(err) == device.Precondition:
			v := d.next()
			if v.Command.ID != c.ID {
				t.Fatalf("offered %s, want %s", v.Command.ID, c.ID)
			}
			must(t, d.settle(v, device.Accepted))
		default:
			t.Fatal(err)
		}
	}
	if len(d.got) != 0 {
		t.Fatal("a cancelled command was offered")
	}
	t.Logf("%d of 200 cancelled", cancelled)
}

// TestRestartEverything closes and reopens server, belt and service with a
// command at each state.
func TestRestartEverything(t *testing.T) {
	dir := t.TempDir()
	h := openCommands(t, dir)
	sent, delivered, done := dev(1), dev(2), dev(3)
	queued := h.send(dev(0), device.Command{}).ID
	overdue := h.send(dev(4), device.Command{Deadline: time.Now().Add(50 * time.Millisecond)}).ID
	a := sit(t, h.Service, sent, 1)
	b := sit(t, h.Service, delivered, 1)
	c := sit(t, h.Service, done, 1)
	first := h.send(sent, device.Command{Payload: []byte{0, 1, 2}, ContentType: "x/y", Key: "k"})
	a.next()
	second := h.send(delivered, device.Command{}).ID
	must(t, b.settle(b.next(), device.Accepted))
	third := h.send(done, device.Command{}).ID
	must(t, c.settle(c.next(), device.Rejected))
	h.close()

	h = openCommands(t, dir)
	defer h.close()
	h.want(queued, "QUEUED")
	h.want(second, "QUEUED SENT DELIVERED")
	h.want(third, "QUEUED SENT REJECTED")
	must(t, h.Watch(t.Context(), dev(4), overdue, func(device.CommandRecord) error { return nil }))
	h.want(overdue, "QUEUED EXPIRED")
	// Only a service that is stopped without its sessions' farewell leaves SENT
	// behind; the recovery returned it.
	h.want(first.ID, "QUEUED SENT QUEUED")
	v := sit(t, h.Service, sent, 1).next()
	if v.Attempt != 2 || v.Command.Name != "heat" || string(v.Command.Payload) != "\x00\x01\x02" || v.Command.ContentType != "x/y" ||
		!v.Command.CreatedAt.Equal(first.CreatedAt) || !v.Command.Deadline.Equal(first.Deadline) || v.Command.ResponseTimeout != time.Minute {
		t.Fatalf("offered again as %+v, want %+v", v, first)
	}
	must(t, answer(h.Service, sent, first.ID, 200))
	must(t, answer(h.Service, delivered, second, 200))
	h.want(first.ID, "QUEUED SENT QUEUED SENT SUCCEEDED")
	h.want(second, "QUEUED SENT DELIVERED SUCCEEDED")
}

// TestRemoval: what has ended and is stored leaves both streams, and the
// device's subjects can be written again.
func TestRemoval(t *testing.T) {
	h := openCommands(t, t.TempDir())
	defer h.close()
	d := sit(t, h.Service, dev(0), 10)
	old := h.send(dev(1), device.Command{}) // stays, and what is behind it is removed singly
	for range 5 {
		h.send(dev(0), device.Command{OneWay: true})
		must(t, d.settle(d.next(), device.Accepted))
	}
	h.stored.Store(&[2]uint64{1000, 1000})
	mailbox, log := h.belt.Mailbox(), h.belt.CommandLog()
	left := func(id device.ID) int {
		r, err := mailbox.Requests(t.Context(), id)
		must(t, err)
		e, err := log.Events(t.Context(), id, 0)
		must(t, err)
		return len(r) + len(e)
	}
	eventually(t, "the ended are gone", func() bool { return left(dev(0)) == 0 })
	if left(dev(1)) != 1 {
		t.Fatal("a queued command is gone")
	}
	must(t, mailbox.Remove(t.Context(), 1, []uint64{2, 3, 77})) // again, and what never was
	c := h.send(dev(0), device.Command{OneWay: true})
	must(t, d.settle(d.next(), device.Accepted))
	_, err := h.Cancel(t.Context(), dev(1), old.ID)
	must(t, err)
	_, err = h.Get(t.Context(), dev(0), c.ID)
	must(t, err)
	eventually(t, "all are gone", func() bool { return left(dev(0))+left(dev(1)) == 0 })
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatalf("it did not come to be that %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// TestLargeMailbox reads more than one batch.
func TestLargeMailbox(t *testing.T) {
	t.Parallel()
	h := openCommands(t, t.TempDir(), func(c *command.Config) { c.MaxWaiting = 5000 })
	defer h.close()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 50 {
				h.send(dev(0), device.Command{Payload: make([]byte, 100)})
			}
		})
	}
	wg.Wait()
	r, err := h.belt.Mailbox().Requests(t.Context(), dev(0))
	must(t, err)
	if len(r) != 2500 {
		t.Fatalf("%d requests", len(r))
	}
	for i := range r[1:] {
		if r[i].Position.Seq >= r[i+1].Position.Seq {
			t.Fatal("not in order")
		}
	}
	d := sit(t, h.Service, dev(0), 3)
	for i := range 3 {
		if v := d.next(); v.Command.ID != r[i].Command {
			t.Fatalf("delivery %d is not the oldest", i)
		}
	}
}
