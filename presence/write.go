package presence

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// maxWrite bounds what is written at once.
const maxWrite = 500

// Run writes what happens until Shutdown, and then answers nil.
func (s *Service) Run(ctx context.Context) error {
	s.mu.Lock()
	s.ran = true
	s.mu.Unlock()
	defer close(s.written)
	check := time.NewTicker(s.cfg.CheckEvery)
	defer check.Stop()
	for {
		batch, closing := s.take()
		switch {
		case len(batch) > 0:
			if !s.write(ctx, batch) {
				return nil
			}
			continue
		case closing:
			return nil
		}
		select {
		case <-s.wake:
		case <-check.C:
			if err := s.log.Restore(ctx, s.Open); err != nil && ctx.Err() == nil {
				s.cfg.Logger.Warn("the list of open sessions could not be looked after; trying again", "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Service) take() (batch []device.PresenceEvent, closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.queue), maxWrite)
	batch = slices.Clone(s.queue[:n])
	s.queue = s.queue[n:]
	if len(s.queue) == 0 {
		s.queue = nil
	}
	return batch, s.closing
}

// write repeats until the events are written; false when ctx ended first.
func (s *Service) write(ctx context.Context, batch []device.PresenceEvent) bool {
	for {
		err := s.log.Write(ctx, batch)
		if err == nil {
			s.metrics.events.Add(float64(len(batch)))
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		s.metrics.failures.Inc()
		s.cfg.Logger.Warn("presence could not be written; trying again", "events", len(batch), "error", err)
		select {
		case <-time.After(s.cfg.RetryAfter):
		case <-ctx.Done():
			return false
		}
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
