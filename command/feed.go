package command

import (
	"context"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// feed is how far one stream was read.
type feed struct {
	read    uint64        // guarded by Service.mu, as are the others
	count   uint64        // messages read
	changed chan struct{} // closed when read rises; nil while nobody waits
}

func (f *feed) advance(seq uint64) {
	f.read = seq
	f.count++
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// follow reads one stream as long as the service lives, taking it up again
// where it was when reading fails.
func (s *Service) follow(what string, read func(context.Context, uint64, func(device.StoredEvent)) error, f *feed, take func(device.StoredEvent)) {
	for {
		s.mu.Lock()
		after := f.read
		s.mu.Unlock()
		err := read(s.ctx, after, take)
		if s.ctx.Err() != nil {
			return
		}
		s.cfg.Logger.Warn("reading the stream was interrupted; taking it up again", "stream", what, "from", after+1, "error", err)
		select {
		case <-time.After(s.cfg.RetryAfter):
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *Service) onRequest(ev device.StoredEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests.advance(ev.Position.Seq)
	if ev.Request == nil {
		return
	}
	s.track(func() { s.table.request(&ev) })
	if a := s.actors.Get(ev.ID()); a != nil {
		a.post(func(a *actor, err error) {
			if err != nil || ev.Position.Seq <= a.readReq {
				return
			}
			if still, _ := s.begun([]device.StoredEvent{ev}); len(still) > 0 { // it may have ended and be gone by now
				a.admit(ev)
			}
		})
	}
}

func (s *Service) onEvent(ev device.StoredEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events.advance(ev.Position.Seq)
	s.track(func() { s.table.event(&ev) })
	for _, w := range s.watchers[ev.Command] {
		w.add(ev)
	}
	for heed := range s.heeds {
		(*heed)(ev)
	}
	if a := s.actors.Get(ev.ID()); a != nil {
		a.post(func(a *actor, err error) {
			if err == nil {
				a.hear(ev)
			}
		})
	}
}

// track changes the table and wakes the deadline keeper when the earliest
// deadline became another; mu is held.
func (s *Service) track(change func()) {
	first := s.table.next()
	change()
	if now := s.table.next(); now != first {
		select {
		case s.rearm <- struct{}{}:
		default:
		}
	}
}

// catchUp returns when this node has read everything that was stored in either
// stream before the call.
func (s *Service) catchUp(ctx context.Context) error {
	if err := s.reach(ctx, &s.requests, s.mailbox.Last); err != nil {
		return err
	}
	return s.reach(ctx, &s.events, s.log.Last)
}

func (s *Service) reach(ctx context.Context, f *feed, last func(context.Context) (uint64, error)) error {
	for {
		want, err := last(ctx)
		if err != nil {
			return unavailable(err)
		}
		s.mu.Lock()
		if f.read >= want {
			s.mu.Unlock()
			return nil
		}
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-time.After(s.cfg.RetryAfter): // what was the last may have been removed meanwhile
		case <-ctx.Done():
			return unavailable(ctx.Err())
		case <-s.ctx.Done():
			return unavailable(s.ctx.Err())
		}
	}
}
