package presence

import (
	"context"
	"fmt"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// maxWrite bounds what is written at once, and gatherFor is the least time between
// the beginnings of two writes that are not full: a write has its cost however little
// it holds, and when many connect, more gathers for the next.
const (
	maxWrite  = 1000
	gatherFor = 100 * time.Millisecond
)

// Run writes what happens until Shutdown, and then answers nil.
func (s *Service) Run(ctx context.Context) error {
	s.mu.Lock()
	s.ran = true
	s.mu.Unlock()
	defer close(s.written)
	check := time.NewTicker(s.cfg.CheckEvery)
	defer check.Stop()
	s.look(ctx) // while there is little on the list but what was left there
	var batch []device.PresenceEvent
	var closing bool
	for {
		batch, closing = s.take(batch[:0])
		switch {
		case len(batch) > 0:
			next := time.Now().Add(gatherFor)
			if !s.write(ctx, batch) || len(batch) < maxWrite && !pause(ctx, time.Until(next)) {
				return nil
			}
			select {
			case <-check.C: // also where something happens all the time
				s.look(ctx)
			default:
			}
			continue
		case closing:
			return nil
		}
		select {
		case <-s.wake:
		case <-check.C:
			s.look(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// look looks after the list of open sessions.
func (s *Service) look(ctx context.Context) {
	if err := s.log.Restore(ctx, s.untold); err != nil && ctx.Err() == nil {
		s.cfg.Logger.Warn("the list of open sessions could not be looked after; trying again", "error", err)
	}
}

// take adds to batch what is to be written next.
func (s *Service) take(batch []device.PresenceEvent) (_ []device.PresenceEvent, closing bool) {
	s.mu.Lock()
	n := min(len(s.queue), maxWrite)
	happened := s.queue[:n:n]
	s.hand, s.queue = happened, s.queue[n:]
	if len(s.queue) == 0 && n > 0 {
		s.queue = make([]happening, 0, n) // as much may come again
	}
	closing = s.closing
	s.mu.Unlock()
	for i := range happened {
		batch = append(batch, happened[i].event())
	}
	return batch, closing
}

// write repeats until the events are written; false when ctx ended first. What it fails
// for may be the list itself, which is there again once it was looked after.
func (s *Service) write(ctx context.Context, batch []device.PresenceEvent) bool {
	for {
		err := s.log.Write(ctx, batch)
		if err == nil {
			s.mu.Lock()
			s.hand = nil
			s.mu.Unlock()
			s.metrics.events.Add(float64(len(batch)))
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		s.metrics.failures.Inc()
		s.cfg.Logger.Warn("presence could not be written; trying again", "events", len(batch), "error", err)
		if !pause(ctx, s.cfg.RetryAfter) {
			return false
		}
		s.look(ctx)
	}
}

// pause waits; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Shutdown takes no more sessions, writes what is left and ends Run. The doors
// stop before. It works before Run and twice.
func (s *Service) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	ran := s.ran
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	if !ran {
		return nil
	}
	select {
	case <-s.written:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("presence: not all was written: %w", ctx.Err())
	}
}
