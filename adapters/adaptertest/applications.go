package adaptertest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

var _ adapters.Applications = (*Gate)(nil)

// shared is a subscription: how far its readers came among what is stored.
type shared struct {
	what     adapters.Subscription
	next     int
	released []int
	attempts map[int]int
}

// feed is one reader. The gate's lock guards it.
type feed struct {
	gate  *Gate
	sub   *shared
	offer func(adapters.Telemetry)

	credit   int
	held     map[int]bool
	detached bool
	wake     chan struct{} // holds one
}

// Subscribe implements adapters.Applications: a position is how many messages
// were stored up to it.
func (g *Gate) Subscribe(_ context.Context, what adapters.Subscription, offer func(adapters.Telemetry), _ func(error)) (adapters.Feed, error) {
	f := &feed{gate: g, offer: offer, held: map[int]bool{}, wake: make(chan struct{}, 1)}
	var err error
	g.update(func() {
		if f.sub = g.subscriptions[what.Tenant+"/"+what.Name]; f.sub == nil {
			f.sub = &shared{what: what, attempts: map[int]int{}}
			f.sub.next, err = g.begin(&what)
		}
		if was := f.sub.what; was.Device != what.Device || was.Channel != what.Channel || was.Below != what.Below {
			err = device.Errorf(device.Conflict, "the subscription %q reads something else", what.Name)
		}
		if err != nil {
			return
		}
		if g.subscriptions == nil {
			g.subscriptions = map[string]*shared{}
		}
		if what.Name != "" {
			g.subscriptions[what.Tenant+"/"+what.Name] = f.sub
		}
		g.feeds = append(g.feeds, f)
	})
	if err != nil {
		return nil, err
	}
	go f.run()
	return f, nil
}

// begin finds the first message to offer. The caller holds the lock.
func (g *Gate) begin(what *adapters.Subscription) (int, error) {
	switch {
	case what.First:
		return 0, nil
	case what.After != "":
		n, err := strconv.Atoi(what.After)
		if err != nil || n > len(g.stored) {
			return 0, device.Errorf(device.Invalid, "%q is no position", what.After)
		}
		return n, nil
	case !what.Since.IsZero():
		i := slices.IndexFunc(g.stored, func(m device.Message) bool { return !m.ReceivedAt.Before(what.Since) })
		if i < 0 {
			i = len(g.stored)
		}
		return i, nil
	}
	return len(g.stored), nil
}

func (s *shared) wants(m *device.Message) bool {
	q := &s.what
	return m.Tenant == q.Tenant && (q.Device == "" || q.Device == m.Device) &&
		(q.Channel == "" || q.Channel == m.Channel || q.Below && strings.HasPrefix(m.Channel, q.Channel+"/"))
}

// take answers the next message to offer. The caller holds the lock.
func (s *shared) take(stored []device.Message) (int, bool) {
	if len(s.released) > 0 {
		i := s.released[0]
		s.released = s.released[1:]
		return i, true
	}
	for s.next < len(stored) {
		s.next++
		if s.wants(&stored[s.next-1]) {
			return s.next - 1, true
		}
	}
	return 0, false
}

func (f *feed) run() {
	for range f.wake {
		for t, ok := f.next(); ok; t, ok = f.next() {
			f.offer(t)
		}
	}
}

func (f *feed) next() (t adapters.Telemetry, ok bool) {
	f.gate.mu.Lock()
	defer f.gate.mu.Unlock()
	if f.detached || f.credit == 0 {
		return t, false
	}
	i, ok := f.sub.take(f.gate.stored)
	if !ok {
		return t, false
	}
	f.credit--
	f.held[i] = true
	f.sub.attempts[i]++
	m := f.gate.stored[i]
	return adapters.Telemetry{
		Stored: device.Stored{Message: m, Position: device.Position{Epoch: 1, Seq: uint64(i + 1)}, StoredAt: m.ReceivedAt},
		Token:  strconv.Itoa(i + 1), Attempt: f.sub.attempts[i], Gap: f.gate.Gap,
		Settle: func(kind device.OutcomeKind) { f.settle(i, kind) },
	}, true
}

func (f *feed) settle(i int, kind device.OutcomeKind) {
	f.gate.update(func() {
		if !f.held[i] {
			return
		}
		delete(f.held, i)
		f.gate.consumed = append(f.gate.consumed, kind)
		if kind == device.Released {
			f.sub.released = append(f.sub.released, i)
		}
	})
}

// signal has the reader look again; the caller holds the gate's lock.
func (f *feed) signal() {
	if f.detached {
		return
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Request implements adapters.Feed.
func (f *feed) Request(n int) { f.gate.update(func() { f.credit += n }) }

// Recall implements adapters.Feed.
func (f *feed) Recall() { f.gate.update(func() { f.credit = 0 }) }

// Detach implements adapters.Feed.
func (f *feed) Detach(string) {
	f.gate.update(func() {
		if f.detached {
			return
		}
		f.detached = true
		close(f.wake)
		for i := range f.held {
			f.sub.released = append(f.sub.released, i)
		}
		slices.Sort(f.sub.released)
		f.gate.feeds = slices.DeleteFunc(f.gate.feeds, func(o *feed) bool { return o == f })
	})
}

// Readers is how many read telemetry.
func (g *Gate) Readers() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.feeds)
}

// Consumed is how messages were settled by those who read them.
func (g *Gate) Consumed() []device.OutcomeKind { return snapshot(g, &g.consumed) }

// SendCommand implements adapters.Applications.
func (g *Gate) SendCommand(_ context.Context, c device.Command) (r device.CommandRecord, err error) {
	g.update(func() {
		c.ID, c.CreatedAt = fmt.Sprintf("cmd-%d", len(g.records)+1), time.Now().UTC()
		if c.Deadline.IsZero() {
			c.Deadline = c.CreatedAt.Add(time.Hour)
		}
		if g.records == nil {
			g.records = map[string]*device.CommandRecord{}
		}
		r = device.CommandRecord{Command: c, Events: []device.CommandEvent{{Command: c.ID, State: device.StateQueued, At: c.CreatedAt}}}
		kept := r
		g.records[c.ID] = &kept
		g.enqueue(c.ForDevice(), device.Delivery{Command: c, Attempt: 1})
	})
	return r, nil
}

// Transition moves a command of SendCommand on; who watches it is told.
func (g *Gate) Transition(e device.CommandEvent) { g.update(func() { g.transition(e) }) }

// transition is Transition for who holds the lock.
func (g *Gate) transition(e device.CommandEvent) {
	if r := g.records[e.Command]; r != nil {
		r.Events = append(slices.Clone(r.Events), e)
	}
}

// Commands is every command of SendCommand so far, by id.
func (g *Gate) Commands() map[string]device.CommandRecord {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := map[string]device.CommandRecord{}
	for id, r := range g.records {
		all[id] = *r
	}
	return all
}

// WatchCommand implements adapters.Applications.
func (g *Gate) WatchCommand(ctx context.Context, _ device.ID, id string, fn func(device.CommandRecord) error) error {
	for seen := 0; ; {
		g.mu.Lock()
		if g.changed == nil {
			g.changed = make(chan struct{})
		}
		changed, r := g.changed, *g.records[id]
		g.mu.Unlock()
		if len(r.Events) > seen {
			seen = len(r.Events)
			if err := fn(r); err != nil {
				return err
			}
		}
		if r.Last().State.Terminal(r.Command.OneWay) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
