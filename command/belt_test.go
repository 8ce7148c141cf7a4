package command_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// stream is one stream in memory: subjects are devices.
type stream struct {
	mu      sync.Mutex
	last    uint64
	msgs    map[uint64]device.StoredEvent
	changed chan struct{}
}

func newStream() *stream {
	return &stream{msgs: map[uint64]device.StoredEvent{}, changed: make(chan struct{})}
}

func (s *stream) add(ev device.StoredEvent, expect uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if expect != command.AnyPlace {
		newest := uint64(0)
		for seq, m := range s.msgs {
			if m.ID() == ev.ID() {
				newest = max(newest, seq)
			}
		}
		if newest != expect {
			return 0, device.Errorf(device.Conflict, "the newest is %d, not %d", newest, expect)
		}
	}
	s.last++
	ev.Position.Seq, ev.StoredAt = s.last, time.Now()
	s.msgs[s.last] = ev
	close(s.changed)
	s.changed = make(chan struct{})
	return s.last, nil
}

func (s *stream) of(id device.ID) (evs []device.StoredEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seq := range slices.Sorted(maps.Keys(s.msgs)) {
		if m := s.msgs[seq]; m.ID() == id {
			evs = append(evs, m)
		}
	}
	return evs
}

func (s *stream) Follow(ctx context.Context, after uint64, fn func(device.StoredEvent)) error {
	for {
		s.mu.Lock()
		var batch []device.StoredEvent
		for _, seq := range slices.Sorted(maps.Keys(s.msgs)) {
			if seq > after {
				batch = append(batch, s.msgs[seq])
			}
		}
		changed := s.changed
		s.mu.Unlock()
		for _, ev := range batch {
			fn(ev)
			after = ev.Position.Seq
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *stream) Last(context.Context) (last uint64, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for seq := range s.msgs {
		last = max(last, seq)
	}
	return last, nil
}

func (s *stream) remove(gone func(seq uint64) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.msgs, func(seq uint64, _ device.StoredEvent) bool { return gone(seq) })
}

func (s *stream) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.msgs)
}

type mailbox struct{ *stream }

func (m mailbox) Put(_ context.Context, c *device.Command, expect uint64) (uint64, error) {
	cp := *c
	return m.add(device.StoredEvent{CommandEvent: device.CommandEvent{
		Command: c.ID, Tenant: c.Tenant, Device: c.Device, State: device.StateQueued, At: c.CreatedAt, Request: &cp,
	}}, expect)
}

func (m mailbox) Requests(_ context.Context, id device.ID) ([]device.StoredEvent, error) {
	return m.of(id), nil
}

func (m mailbox) Remove(_ context.Context, before uint64, seqs []uint64) error {
	m.remove(func(seq uint64) bool { return seq < before || slices.Contains(seqs, seq) })
	return nil
}

// eventLog can be told to fail: before (nothing is stored), after (stored, and
// nobody knows) or late (the same, a second later).
type eventLog struct {
	*stream
	mu    sync.Mutex
	fails []string
	read  int // events answered
}

func (l *eventLog) Append(_ context.Context, e *device.CommandEvent, expect uint64) (uint64, error) {
	l.mu.Lock()
	fail := ""
	if len(l.fails) > 0 {
		fail, l.fails = l.fails[0], l.fails[1:]
	}
	l.mu.Unlock()
	if fail == "before" {
		return 0, context.DeadlineExceeded
	}
	seq, err := l.add(device.StoredEvent{CommandEvent: *e}, expect)
	if fail == "late" {
		time.Sleep(time.Second)
	}
	if fail == "after" || fail == "late" {
		return 0, context.DeadlineExceeded
	}
	return seq, err
}

func (l *eventLog) Newest(_ context.Context, id device.ID) (newest device.StoredEvent, _ error) {
	for _, e := range l.of(id) {
		newest = e
	}
	return newest, nil
}

func (l *eventLog) Events(_ context.Context, id device.ID, from uint64) (events []device.StoredEvent, _ error) {
	for _, e := range l.of(id) {
		if e.Position.Seq >= from {
			events = append(events, e)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.read += len(events)
	return events, nil
}

func (l *eventLog) Purge(_ context.Context, through uint64) error {
	l.remove(func(seq uint64) bool { return seq <= through })
	return nil
}

func (l *eventLog) fail(how ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fails = how
}

// leases counts epochs, and knows the lives of nodes.
type leases struct {
	mu         sync.Mutex
	generation uint64
	revision   uint64
	held       map[device.ID]lease
	lives      map[string]int // of a node; another one when it has died
	others     map[string]*command.Service
}

type lease struct {
	epoch     device.Epoch
	node, via string
	life      int
}

func (l *leases) Take(_ context.Context, s device.Session, node string) (device.Epoch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	had, ok := l.held[s.Device]
	if s.Via != "" && ok && had.via == "" && had.node != node && had.life == l.lives[had.node] {
		return device.Epoch{}, device.Errorf(device.Conflict, "it is on %s itself", had.node)
	}
	l.revision++
	e := device.Epoch{Generation: l.generation, Revision: l.revision}
	l.held[s.Device] = lease{e, node, s.Via, l.lives[node]}
	for name, other := range l.others {
		if name != node {
			other.TakenElsewhere(s.Device, e, node, s.Via == "")
		}
	}
	return e, nil
}

func (l *leases) Release(_ context.Context, id device.ID, e device.Epoch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	had := l.held[id]
	if had.epoch != e {
		return nil
	}
	delete(l.held, id)
	for name, other := range l.others {
		if name != had.node {
			other.FreedElsewhere(id)
		}
	}
	return nil
}

// died has a node's leases count no longer.
func (l *leases) died(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lives[node]++
}

// store answers what was copied into it.
type store struct {
	mu      sync.Mutex
	records []device.CommandRecord
	through [2]uint64
}

func (s *store) Command(_ context.Context, tenant, dev, id string) (device.CommandRecord, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.records {
		if r.Command.ID == id && r.Command.Tenant == tenant && (dev == "" || r.Command.Device == dev) {
			return r, nil
		}
	}
	return device.CommandRecord{}, device.Errorf(device.NotFound, "no such command")
}

func (s *store) Commands(_ context.Context, q storage.CommandQuery) (p storage.CommandPage, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range slices.Backward(s.records) {
		if r.Command.Tenant == q.Tenant && r.Command.Device == q.Device && (q.Key == "" || r.Command.Key == q.Key) && len(p.Records) < q.Limit {
			p.Records = append(p.Records, r)
		}
	}
	return p, nil
}

func (s *store) stored(context.Context) (uint64, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.through[0], s.through[1], nil
}

// belt is everything that outlives a Service.
type belt struct {
	mailbox mailbox
	log     *eventLog
	leases  *leases
	store   *store
}

func newBelt() *belt {
	return &belt{
		mailbox: mailbox{newStream()}, log: &eventLog{stream: newStream()},
		leases: &leases{generation: 1, held: map[device.ID]lease{}, lives: map[string]int{}}, store: &store{},
	}
}

// persist copies both streams into the store, as the persister does.
func (b *belt) persist() {
	requests, events := b.all(b.mailbox.stream), b.all(b.log.stream)
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	for _, r := range requests {
		if r.Position.Seq > b.store.through[0] {
			b.store.through[0] = r.Position.Seq
			b.store.records = append(b.store.records, device.CommandRecord{Command: *r.Request, Events: []device.CommandEvent{r.CommandEvent}})
		}
	}
	for _, e := range events {
		if e.Position.Seq > b.store.through[1] {
			b.store.through[1] = e.Position.Seq
			for i := range b.store.records {
				if b.store.records[i].Command.ID == e.Command {
					b.store.records[i].Events = append(b.store.records[i].Events, e.CommandEvent)
				}
			}
		}
	}
}

func (b *belt) all(s *stream) (evs []device.StoredEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seq := range slices.Sorted(maps.Keys(s.msgs)) {
		evs = append(evs, s.msgs[seq])
	}
	return evs
}
