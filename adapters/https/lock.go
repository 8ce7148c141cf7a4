package https

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// lock is a command in the hands of the device until it settles it or the time
// is up. It lives in session.locks, guarded by session.mu.
type lock struct {
	offered
	token    string // random, made for this one delivery
	until    time.Time
	timer    *time.Timer
	owner    *poll // whose window it takes
	settling int   // settlements on their way to the gate, all of one kind
	kind     device.OutcomeKind
}

// errStale is one answer for every lock that is not, or no longer, there.
var errStale = device.Errorf(device.Conflict, "the lock token is stale: the command was settled, its lock ran out, or the device attached elsewhere; poll again")

// take gives p what it was handed: under locks of the given duration, or
// without when that is zero (ack=auto).
func (s *session) take(p *poll, duration time.Duration) []*lock {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := make([]*lock, 0, len(p.got))
	for _, o := range p.got {
		l := &lock{offered: o, owner: p}
		if duration > 0 {
			l.token = rand.Text()
			l.until = time.Now().Add(duration)
			l.timer = time.AfterFunc(duration, func() { s.expire(l) })
			s.locks[o.Command.ID] = l
			s.hub.metrics.locks.Inc()
		}
		taken = append(taken, l)
	}
	p.inUse += len(taken)
	p.got = nil
	return taken
}

// drop forgets a lock and frees its place in its poll's window; the caller
// holds s.mu.
func (s *session) drop(l *lock) {
	l.owner.inUse--
	if l.timer != nil {
		l.timer.Stop()
		delete(s.locks, l.Command.ID)
	}
	s.rest()
}

// free ends a lock nobody is settling, or an unlocked command's place in its
// poll's window, and lets that poll ask for the next. It reports whether the
// command was still the caller's to settle.
func (s *session) free(l *lock) bool {
	s.mu.Lock()
	mine := l.token == "" || s.locks[l.Command.ID] == l && l.settling == 0
	ask := func() {}
	if mine {
		s.drop(l)
		ask = s.dealOut()
	}
	s.mu.Unlock()
	ask()
	return mine
}

// expire is the lock's time running out. A settlement on its way came in time,
// if the gate agrees; the lock is looked at again when that may have failed.
func (s *session) expire(l *lock) {
	if s.free(l) {
		s.hub.metrics.expired.Inc()
		l.settle(device.LockExpired, "lock expired")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locks[l.Command.ID] == l {
		l.timer.Reset(time.Second)
	}
}

// abandon gives a command back that could not be written.
func (s *session) abandon(l *lock) {
	if s.free(l) {
		l.settle(device.Released, "the connection broke while it was written")
	}
}

// settle ends the lock that token stands for, and answers when that is durable.
func (s *session) settle(ctx context.Context, srv *Server, id, token string, o device.Outcome) error {
	l := s.claim(id, token, o.Kind)
	if l == nil {
		return errStale
	}
	err := srv.confirm(ctx, func(done func(error)) error {
		l.hold.attachment.Settle(id, l.Attempt, o, func(err error) {
			if err == nil {
				s.hub.repeats.remember(settled{s.who.Device, id, token}, o.Kind) // even if nobody waits any more
			}
			done(err)
		})
		return nil
	})
	s.mu.Lock()
	l.settling--
	s.mu.Unlock()
	if err == nil || !device.CodeOf(err).Retryable() {
		s.free(l) // else the device may try again while the lock lasts
	}
	return err
}

// claim finds a lock by its token and marks it as being settled. The same
// settlement may be under way already: its device did not wait for the answer.
func (s *session) claim(id, token string, kind device.OutcomeKind) *lock {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.locks[id]
	if l == nil || l.settling > 0 && l.kind != kind || subtle.ConstantTimeCompare([]byte(l.token), []byte(token)) != 1 {
		return nil
	}
	l.settling++
	l.kind = kind
	return l
}

// answered settles a command that its answer overtook.
func (s *session) answered(id string) {
	s.mu.Lock()
	l := s.locks[id]
	s.mu.Unlock()
	if l != nil && s.free(l) {
		l.settle(device.Accepted, "answered")
		s.hub.repeats.remember(settled{s.who.Device, id, l.token}, device.Accepted)
	}
}
