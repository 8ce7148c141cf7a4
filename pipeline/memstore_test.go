package pipeline

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

var errOutage = errors.New("the disk is full")

// memStore keeps what it is given and checks that positions are kept to.
type memStore struct {
	storage.Reader
	t testing.TB

	mu       sync.Mutex
	pos      map[string]device.Position
	messages []device.Stored
	events   []device.StoredEvent
	writes   int
	unread   error                        // what reading answers
	before   func(b *storage.Batch) error // may refuse a write
	after    func(b *storage.Batch) error // may lose the answer of one
}

func newMemStore(t testing.TB) *memStore {
	return &memStore{t: t, pos: map[string]device.Position{}}
}

func (s *memStore) Write(_ context.Context, b storage.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.before != nil {
		if err := s.before(&b); err != nil {
			return err
		}
	}
	have := s.pos[b.Stream]
	switch {
	case b.Epoch < have.Epoch:
		return storage.ErrEpoch
	case b.Epoch == have.Epoch && b.From != have.Seq, b.Epoch > have.Epoch && b.From != 0:
		return storage.ErrPosition
	}
	last := b.From
	for _, m := range b.Messages {
		if m.Seq <= last || m.Seq > b.To {
			s.t.Errorf("row %d in a batch from %d to %d, after %d", m.Seq, b.From, b.To, last)
		}
		last = m.Seq
		s.messages = append(s.messages, device.Stored{Message: *m.Message, Position: device.Position{Epoch: b.Epoch, Seq: m.Seq}, StoredAt: m.StoredAt})
	}
	s.events = append(s.events, b.Events...)
	s.pos[b.Stream] = device.Position{Epoch: b.Epoch, Seq: b.To}
	if s.after != nil {
		return s.after(&b)
	}
	return nil
}

func (s *memStore) Position(_ context.Context, stream string) (device.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pos[stream], nil
}

// After implements storage.Reader.
func (s *memStore) After(_ context.Context, q storage.AfterQuery) (page []device.Stored, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.Limit < 1 || q.Limit > 10_000 {
		return nil, errors.New("limit out of bounds")
	}
	for _, m := range s.messages {
		if m.Tenant == q.Tenant && q.After.Before(m.Position) && len(page) < min(q.Limit, 100) {
			page = append(page, m)
		}
	}
	return page, s.unread
}

// Messages implements storage.Reader, for one device and channel; they are in the
// order of messages, as if that were the order of arrival.
func (s *memStore) Messages(_ context.Context, q storage.MessageQuery) (page storage.MessagePage, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var of []device.Stored
	for _, m := range s.messages {
		if m.Tenant == q.Tenant && m.Device == q.Device && (q.Channel == nil || m.Channel == *q.Channel) {
			of = append(of, m)
		}
	}
	end := len(of)
	if q.Cursor != "" {
		if end, err = strconv.Atoi(q.Cursor); err != nil {
			return page, err
		}
	}
	start := max(0, end-q.Limit)
	if start > 0 {
		page.Next = strconv.Itoa(start)
	}
	page.Messages = of[start:end]
	return page, s.unread
}

func (s *memStore) Close() error { return nil }

func (s *memStore) hook(before, after func(*storage.Batch) error) {
	s.mu.Lock()
	s.before, s.after = before, after
	s.mu.Unlock()
}

// payloads counts every stored payload.
func (s *memStore) payloads() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int{}
	for _, m := range s.messages {
		out[m.Device+string(m.Payload)]++
	}
	return out
}
