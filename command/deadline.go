package command

import (
	"container/heap"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// next is the earliest deadline in nanoseconds; 0 when there is none.
func (t *table) next() int64 {
	if len(t.due) == 0 {
		return 0
	}
	return t.due[0].at
}

// longestNap bounds how late a deadline is met after the wall clock was set forward.
const longestNap = time.Minute

// keepDeadlines tells every command whose time has come what time it is. The
// heap says whom to ask; Next decides.
func (s *Service) keepDeadlines() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.rearm:
		case <-s.ctx.Done():
			return
		}
		for {
			id, cmd, wait := s.dueNow()
			if cmd == "" {
				timer.Reset(wait)
				break
			}
			select {
			case s.ticks <- struct{}{}:
			case <-s.ctx.Done():
				return
			}
			s.with(id, func(a *actor, err error) {
				defer func() { <-s.ticks }()
				s.tick(a, cmd, err)
			})
		}
	}
}

// dueNow takes a command whose deadline has passed from the heap, or tells how
// long there is none.
func (s *Service) dueNow() (id device.ID, cmd string, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.table.next()
	if next == 0 {
		return id, "", longestNap
	}
	if wait = time.Until(time.Unix(0, next)); wait > 0 {
		return id, "", min(wait, longestNap)
	}
	e := heap.Pop(&s.table.due).(*entry)
	return e.dev.Value(), e.id.String(), 0
}

func (s *Service) tick(a *actor, cmd string, err error) {
	if err == nil {
		_, err = a.apply(cmd, transition{Event: Event{Kind: Tick, At: now()}})
	}
	var again time.Time
	c := a.find(cmd)
	switch {
	case err != nil && device.CodeOf(err) != device.NotFound:
		s.cfg.Logger.Warn("deadline not met; trying again", "command", cmd, "error", err)
		again = time.Now().Add(s.cfg.RetryAfter)
	case c != nil && !c.state.Terminal():
		again = c.state.Due() // it moved, or the clock was set back
	default:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.track(func() { s.table.again(cmd, again) })
}
