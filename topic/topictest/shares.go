package topictest

import (
	"context"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// shares is the groups of subscribers of a Log. Its fields are under the log's lock.
type shares struct {
	groups  map[shareKey]*group
	changed *sync.Cond
	heard   map[device.Group][]*ear
	turn    int
}

type shareKey struct {
	src device.Source
	device.Group
}

// group is how far a group came in a source.
type group struct {
	after   uint64
	back    []device.Arrival // released
	readers int
	keep    time.Duration
}

// sharer is one reader of a group.
type sharer struct {
	l      *Log
	src    device.Source
	filter string
	g      *group
	wanted int
	held   map[uint64]device.Arrival
	closed bool
	ended  chan struct{}
}

func (l *Log) wake() {
	if l.changed == nil {
		l.changed = sync.NewCond(&l.mu)
	}
	l.changed.Broadcast()
}

// Share implements topic.Log.
func (l *Log) Share(_ context.Context, src device.Source, g device.Group, after uint64,
	offer func(device.Arrival, func(device.OutcomeKind)), _ func(error),
) (adapters.Feed, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wake()
	key := shareKey{src, g}
	if l.groups == nil {
		l.groups = map[shareKey]*group{}
	}
	if l.groups[key] == nil {
		if after == 0 {
			after = uint64(len(l.streams[src]))
		}
		l.groups[key] = &group{after: after}
	}
	s := &sharer{l: l, src: src, filter: g.Filter, g: l.groups[key], held: map[uint64]device.Arrival{}, ended: make(chan struct{})}
	s.g.readers++
	go s.run(g.Tenant, offer)
	return s, nil
}

func (s *sharer) run(tenant string, offer func(device.Arrival, func(device.OutcomeKind))) {
	defer close(s.ended)
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	for !s.closed {
		a, ok := s.next(tenant)
		if !ok {
			s.l.changed.Wait()
			continue
		}
		s.wanted--
		s.held[a.Seq] = a
		s.l.mu.Unlock()
		offer(a, func(kind device.OutcomeKind) { s.settle(a.Seq, kind) })
		s.l.mu.Lock()
	}
}

// next is the next message for the reader, if it wants one. The lock is held.
func (s *sharer) next(tenant string) (a device.Arrival, ok bool) {
	if s.wanted == 0 {
		return a, false
	}
	if len(s.g.back) > 0 {
		a, s.g.back = s.g.back[0], s.g.back[1:]
		return a, true
	}
	for all := s.l.streams[s.src]; s.g.after < uint64(len(all)); {
		a = all[s.g.after]
		if s.g.after++; a.Tenant == tenant && device.FilterMatches(s.filter, a.Topic) {
			return a, true
		}
	}
	return a, false
}

func (s *sharer) settle(seq uint64, kind device.OutcomeKind) {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	a, ok := s.held[seq]
	delete(s.held, seq)
	if ok && kind == device.Released {
		s.g.back = append(s.g.back, a)
		s.l.wake()
	}
}

// Request implements adapters.Feed.
func (s *sharer) Request(n int) {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	s.wanted += n
	s.l.wake()
}

// Recall implements adapters.Feed.
func (s *sharer) Recall() {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	s.wanted = 0
}

// Detach implements adapters.Feed.
func (s *sharer) Detach(string) {
	s.l.mu.Lock()
	if !s.closed {
		s.closed = true
		s.g.readers--
	}
	s.l.wake()
	s.l.mu.Unlock()
	<-s.ended
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	for seq, a := range s.held {
		delete(s.held, seq)
		s.g.back = append(s.g.back, a)
	}
	s.l.wake()
}

// HearShared implements topic.Log.
func (l *Log) HearShared(_ context.Context, g device.Group, fn func(*device.Publication)) (func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heard == nil {
		l.heard = map[device.Group][]*ear{}
	}
	e := &ear{g.Tenant, fn}
	l.heard[g] = append(l.heard[g], e)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for i, other := range l.heard[g] {
			if other == e {
				l.heard[g] = append(l.heard[g][:i:i], l.heard[g][i+1:]...)
			}
		}
	}, nil
}

// shareEars is one listener of each group that takes a message. The lock is held.
func (l *Log) shareEars(p *device.Publication) (fns []func(*device.Publication)) {
	for g, ears := range l.heard {
		if g.Tenant == p.Tenant && device.FilterMatches(g.Filter, p.Topic) && len(ears) > 0 {
			l.turn++
			fns = append(fns, ears[l.turn%len(ears)].fn)
		}
	}
	return fns
}

// KeepShare implements topic.Log.
func (l *Log) KeepShare(_ context.Context, g device.Group, keep time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, group := range l.groups {
		if key.Group == g {
			group.keep = max(group.keep, keep)
		}
	}
	return nil
}

// EndShare implements topic.Log.
func (l *Log) EndShare(_ context.Context, g device.Group) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, group := range l.groups {
		if key.Group == g && group.readers == 0 {
			delete(l.groups, key)
		}
	}
	return nil
}

// Rewind has the groups begin anew, as a server does that was killed before it wrote
// down what it was acknowledged.
func (l *Log) Rewind() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, group := range l.groups {
		group.after, group.back = 0, nil
	}
}

// Kept is how long a group outlives its readers, and whether there is one.
func (l *Log) Kept(g device.Group) (keep time.Duration, there bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, group := range l.groups {
		if key.Group == g {
			keep, there = max(keep, group.keep), true
		}
	}
	return keep, there
}
