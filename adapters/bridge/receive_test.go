package bridge

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/device"
)

func TestAcceptedOnlyOnceStored(t *testing.T) {
	t.Parallel()
	hold := newHolding()
	gate := &adaptertest.Gate{OnSubmit: hold.submit}
	b := startBroker(t, &adaptertest.Gate{}, "127.0.0.1:0")
	b.queue("queue", "m1", "", payload(1))
	bridgeTo(t, b.addr, gate, func(_ *Config, l *Link) { l.Channel = "{message-id}" })
	m := hold.next(t)
	if m.Device != "dev1" || m.Via != "plant" || m.Channel != "m1" || m.Key != "m1" || m.Protocol != device.AMQP ||
		string(m.Payload) != `{"n":1}` || len(m.Measurements) != 1 || m.CreatedAt.IsZero() {
		t.Errorf("the message became %+v", m)
	}
	if s := b.settled(); len(s) != 0 {
		t.Errorf("settled before it was stored: %v", s)
	}
	hold.done(0, nil)
	until(t, b.Gate, "the message is accepted", func() bool { return b.settled()["m1"].Kind == device.Accepted })
}

func TestRefusedOrReleased(t *testing.T) {
	t.Parallel()
	var first atomic.Bool
	gate := &adaptertest.Gate{}
	gate.OnSubmit = func(m *device.Message, done func(error)) error {
		switch m.Key {
		case "bad":
			return device.Errorf(device.Invalid, "not this one")
		case "later-bad":
			go done(device.Errorf(device.Forbidden, "nor this one"))
			return nil
		case "busy":
			if first.CompareAndSwap(false, true) {
				return device.Errorf(device.Busy, "full")
			}
		}
		gate.Store(m)
		go done(nil)
		return nil
	}
	b := startBroker(t, &adaptertest.Gate{}, "127.0.0.1:0")
	for _, id := range []string{"bad", "later-bad", "busy"} {
		b.queue("queue", id, "", payload(1))
	}
	bridge := bridgeTo(t, b.addr, gate, func(*Config, *Link) {})
	until(t, b.Gate, "all are settled", func() bool {
		s := b.settled()
		return s["bad"].Kind == device.Rejected && s["later-bad"].Kind == device.Rejected && s["busy"].Kind == device.Accepted
	})
	var trail []string
	for _, r := range gate.Refusals() {
		trail = append(trail, device.CodeOf(r.Err).String()+" "+string(r.Raw)+" "+r.Address)
	}
	slices.Sort(trail)
	if want := []string{`forbidden {"n":1} queue/commands`, `invalid {"n":1} queue/commands`}; !slices.Equal(trail, want) {
		t.Errorf("the trail is %q, want %q", trail, want)
	}
	s := untilStatus(t, bridge, "all are counted", func(s Status) bool { return s.InFlight == 0 && s.Accepted == 1 })
	if s.Received != 4 || s.Rejected != 2 || s.Released != 1 {
		t.Errorf("counted %+v", s)
	}
}

func TestOnlyAsManyAsTheCredit(t *testing.T) {
	t.Parallel()
	hold := newHolding()
	b := startBroker(t, &adaptertest.Gate{}, "127.0.0.1:0")
	for i := range 20 {
		b.queue("queue", string(rune('a'+i)), "", payload(i))
	}
	bridge := bridgeTo(t, b.addr, &adaptertest.Gate{OnSubmit: hold.submit}, func(_ *Config, l *Link) { l.Credit = 4 })
	for range 4 {
		hold.next(t)
	}
	if n := b.Queued(device.ID{Tenant: device.DefaultTenant, Device: "queue"}); n < 16-4 {
		t.Errorf("%d of 20 messages are left at the broker", n)
	}
	if s := bridge.Status()[0]; s.InFlight != 4 {
		t.Errorf("%d messages are in flight, the credit is 4", s.InFlight)
	}
	for i := range 20 {
		hold.done(i, nil)
		if i%2 == 1 && i < 16 { // credit comes in halves
			hold.next(t)
			hold.next(t)
		}
	}
	until(t, b.Gate, "all are accepted", func() bool { return len(b.settled()) == 20 })
}

func TestTheRuleNamesTheDevice(t *testing.T) {
	t.Parallel()
	gate := &adaptertest.Gate{}
	b := startBroker(t, &adaptertest.Gate{}, "127.0.0.1:0")
	for id, subject := range map[string]string{
		"m1": "plant.dev1.telemetry.room", "m2": "plant.dev2.telemetry", "m3": "elsewhere", "m4": "plant.other.telemetry",
	} {
		b.queue("queue", id, subject, payload(1))
	}
	bridgeTo(t, b.addr, gate, func(_ *Config, l *Link) {
		l.Device, l.For = "", "dev*"
		l.Pattern = `^plant\.(?P<device>[^.]+)\.telemetry(\.(?P<channel>.+))?$`
	})
	until(t, b.Gate, "all are settled", func() bool { return len(b.settled()) == 4 })
	var kept []string
	for _, m := range gate.Stored() {
		kept = append(kept, m.Key+" "+m.Device+" "+m.Channel)
	}
	slices.Sort(kept)
	if want := []string{"m1 dev1 room", "m2 dev2 "}; !slices.Equal(kept, want) {
		t.Errorf("kept %q, want %q", kept, want)
	}
	for _, r := range gate.Refusals() {
		if r.Device != (device.ID{Tenant: device.DefaultTenant, Device: "plant"}) {
			t.Errorf("the trail is %v's", r.Device)
		}
	}
	if s := b.settled(); s["m3"].Kind != device.Rejected || s["m4"].Kind != device.Rejected {
		t.Errorf("settled %v", s)
	}
}

// TestBrokerRestarts: whatever the broker is doing when it is cut off, every
// message arrives, and the link comes back.
func TestBrokerRestarts(t *testing.T) {
	t.Parallel()
	const total = 300
	gate, queues := &adaptertest.Gate{}, &adaptertest.Gate{}
	b := startBroker(t, queues, "127.0.0.1:0")
	addr := b.addr
	bridge := bridgeTo(t, addr, gate, func(*Config, *Link) {})
	for round := range 5 {
		for i := range total / 5 {
			b.queue("queue", string(rune('a'+round))+string(rune('A'+i)), "", payload(i))
		}
		until(t, gate, "some of the round came", func() bool { return len(gate.Stored()) > round*total/5 })
		b.kill()
		untilStatus(t, bridge, "the link is down", func(s Status) bool { return s.State != Up && s.Err != "" })
		b = startBroker(t, queues, addr)
	}
	until(t, queues, "all are accepted", func() bool {
		accepted := 0
		for _, o := range b.settled() {
			if o.Kind == device.Accepted {
				accepted++
			}
		}
		return accepted == total
	})
	seen := map[string]bool{}
	for _, m := range gate.Stored() {
		seen[m.Key] = true
	}
	if len(seen) != total {
		t.Errorf("%d of %d messages arrived", len(seen), total)
	}
	if s := untilStatus(t, bridge, "the link is up", func(s Status) bool { return s.State == Up }); s.Err != "" {
		t.Errorf("up, and still %q", s.Err)
	}
}

// TestADurableSubscription: the broker is asked to keep it by the same name.
func TestADurableSubscription(t *testing.T) {
	t.Parallel()
	b := startBroker(t, &adaptertest.Gate{}, "127.0.0.1:0")
	b.queue("queue", "m1", "", payload(1))
	bridgeTo(t, b.addr, &adaptertest.Gate{}, func(_ *Config, l *Link) { l.Durable = true })
	until(t, b.Gate, "the message is accepted", func() bool { return b.settled()["m1"].Kind == device.Accepted })
}

// TestShutdownAnswersWhatItTook: what is being stored when the bridge stops is
// accepted before the connection is closed.
func TestShutdownAnswersWhatItTook(t *testing.T) {
	t.Parallel()
	hold := newHolding()
	b := startBroker(t, &adaptertest.Gate{}, "127.0.0.1:0")
	b.queue("queue", "m1", "", payload(1))
	bridge := bridgeTo(t, b.addr, &adaptertest.Gate{OnSubmit: hold.submit}, func(*Config, *Link) {})
	hold.next(t)
	stopped := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		stopped <- bridge.Shutdown(ctx)
	}()
	<-bridge.stopping.Done()
	hold.done(0, nil)
	if err := <-stopped; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	until(t, b.Gate, "the message is accepted", func() bool { return b.settled()["m1"].Kind == device.Accepted })
	if s := bridge.Status()[0]; s.State != Stopped {
		t.Errorf("after the shutdown the link is %s", s.State)
	}
}

// TestShutdownIsCut: a house that never answers does not hold a shutdown up for
// longer than it may take.
func TestShutdownIsCut(t *testing.T) {
	t.Parallel()
	hold := newHolding()
	b := startBroker(t, &adaptertest.Gate{}, "127.0.0.1:0")
	b.queue("queue", "m1", "", payload(1))
	bridge := bridgeTo(t, b.addr, &adaptertest.Gate{OnSubmit: hold.submit}, func(*Config, *Link) {})
	hold.next(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := bridge.Shutdown(ctx); err == nil {
		t.Error("the shutdown was not cut")
	}
	hold.done(0, nil) // too late, and nobody minds
	if s := b.settled(); s["m1"].Kind == device.Accepted {
		t.Error("accepted after the connection was cut")
	}
}

func TestShutdownBeforeServe(t *testing.T) {
	t.Parallel()
	b, err := Open(Config{Links: []Link{{Name: "plant", URL: "amqp://127.0.0.1:1", Receive: []string{"a"}, Device: "x"}}}, &adaptertest.Gate{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if err := b.Serve(); err != nil {
		t.Error(err)
	}
}
