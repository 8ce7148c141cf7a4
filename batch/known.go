package batch

import (
	"context"
	"encoding/json"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// read keeps known true.
func (s *Service) read() {
	for s.ctx.Err() == nil {
		seen := map[key]bool{}
		err := s.store.Watch(s.ctx, func() { s.caughtUp(seen) }, func(tenant, id string, value []byte, rev uint64) {
			k := key{tenant, id}
			if seen != nil {
				seen[k] = value != nil
			}
			s.heard(k, value, rev)
		})
		if s.ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		s.whole = false
		s.mu.Unlock()
		s.cfg.Logger.Warn("reading the batches was interrupted; beginning anew", "error", err)
		s.sleep(time.Second)
	}
}

// caughtUp is told that everything there is was seen: what was not is gone.
func (s *Service) caughtUp(seen map[key]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.known {
		if !seen[k] {
			delete(s.known, k)
		}
	}
	s.whole = true
	s.announce()
}

// heard takes a record as it is read or was just written here; nil when removed.
func (s *Service) heard(k key, value []byte, rev uint64) {
	r := &record{rev: rev}
	if value != nil {
		if err := json.Unmarshal(value, r); err != nil {
			s.cfg.Logger.Error("a batch cannot be read", "tenant", k.tenant, "batch", k.id, "error", err)
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.known[k]
	switch {
	case old != nil && old.rev >= rev:
		return
	case value == nil:
		delete(s.known, k)
	default:
		s.known[k] = r
	}
	if run := s.driving[k]; run != nil {
		run.nudge()
	}
	s.announce()
}

// announce wakes those who watch, and the driver; mu is held.
func (s *Service) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
	select {
	case s.stir <- struct{}{}:
	default:
	}
}

// errBehind is what is not known yet, or not any more.
var errBehind = device.Errorf(device.Unavailable, "the batches are not known at the moment: try again")

// readFor is how long a caller waits while the batches are read, as they are when a
// server has started.
const readFor = 5 * time.Second

// soon answers what f does, as soon as that is not errBehind.
func soon[T any](ctx context.Context, s *Service, f func() (T, error)) (v T, err error) {
	var patience <-chan time.Time
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if v, err = f(); err != errBehind {
			return v, err
		}
		if patience == nil {
			patience = time.After(readFor)
		}
		select {
		case <-changed:
		case <-patience:
			return v, err
		case <-ctx.Done():
			return v, err
		case <-s.ctx.Done():
			return v, err
		}
	}
}
