package topictest

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/tributary-iot/tributary/device"
)

// Records is the records of sessions that several nodes share, in memory. The
// zero value is empty and ready.
type Records struct {
	mu    sync.Mutex
	rows  map[device.SessionKey]record
	rev   uint64
	grown chan struct{}
	log   []change
	nodes map[string]*Sessions
	saves int
}

type record struct {
	value device.SessionRecord
	rev   uint64
}

type change struct {
	key    device.SessionKey
	record *device.SessionRecord
}

// Sessions is a topic.Sessions: the records as one node sees them.
type Sessions struct {
	*Records
	name string
	fn   func(device.SessionKey)
}

// Node is a node that lives until Kill, or a new life of it.
func (r *Records) Node(name string) *Sessions {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.nodes == nil {
		r.nodes = map[string]*Sessions{}
	}
	n := &Sessions{Records: r, name: name}
	r.nodes[name] = n
	return n
}

// Kill ends a node: what it does from now on fails.
func (r *Records) Kill(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.nodes, name)
}

// Saves is how many records were written so far.
func (r *Records) Saves() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.saves
}

// Get is a record as it stands; nil for none.
func (r *Records) Get(key device.SessionKey) *device.SessionRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	row, ok := r.rows[key]
	if !ok {
		return nil
	}
	return &row.value
}

// Incarnation implements topic.Sessions.
func (s *Sessions) Incarnation() (string, error) { return s.name, s.acting() }

func (s *Sessions) acting() error {
	if !s.Lives(s.name) {
		return device.Errorf(device.Unavailable, "the node is dead")
	}
	return nil
}

// Lives implements topic.Sessions.
func (s *Sessions) Lives(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[name] != nil
}

// Elder implements topic.Sessions: the first by name.
func (s *Sessions) Elder() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.nodes) > 0 && slices.Min(slices.Collect(maps.Keys(s.nodes))) == s.name
}

// Load implements topic.Sessions.
func (s *Sessions) Load(_ context.Context, key device.SessionKey) (*device.SessionRecord, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row, ok := s.rows[key]
	if !ok {
		return nil, 0, nil
	}
	return &row.value, row.rev, nil
}

// Save implements topic.Sessions.
func (s *Sessions) Save(_ context.Context, r *device.SessionRecord, rev uint64) (uint64, error) {
	if err := s.acting(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows[r.Key].rev != rev {
		return 0, device.Errorf(device.Conflict, "somebody else was first")
	}
	if s.rows == nil {
		s.rows = map[device.SessionKey]record{}
	}
	s.rev++
	s.saves++
	s.rows[r.Key] = record{*r, s.rev}
	value := *r
	s.tell(change{r.Key, &value})
	return s.rev, nil
}

// Remove implements topic.Sessions.
func (s *Sessions) Remove(_ context.Context, key device.SessionKey, rev uint64) error {
	if err := s.acting(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows[key].rev != rev {
		return device.Errorf(device.Conflict, "somebody else was first")
	}
	delete(s.rows, key)
	s.tell(change{key, nil})
	return nil
}

func (s *Sessions) tell(c change) {
	s.log = append(s.log, c)
	if s.grown != nil {
		close(s.grown)
		s.grown = nil
	}
}

// Follow implements topic.Sessions.
func (s *Sessions) Follow(ctx context.Context, ready func(), fn func(device.SessionKey, *device.SessionRecord)) error {
	for n := 0; ; {
		s.mu.Lock()
		if s.grown == nil {
			s.grown = make(chan struct{})
		}
		grown, news := s.grown, slices.Clone(s.log[n:])
		s.mu.Unlock()
		for _, c := range news {
			fn(c.key, c.record)
		}
		n += len(news)
		ready()
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Ask implements topic.Sessions.
func (s *Sessions) Ask(ctx context.Context, name string, key device.SessionKey) error {
	s.mu.Lock()
	n := s.nodes[name]
	s.mu.Unlock()
	if n == nil || n.fn == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	n.fn(key)
	return nil
}

// Answer implements topic.Sessions.
func (s *Sessions) Answer(fn func(device.SessionKey)) (func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fn = fn
	return func() {}, nil
}
