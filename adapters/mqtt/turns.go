package mqtt

import (
	"context"
	"sync/atomic"

	"github.com/tributary-iot/tributary/device"
)

// turns is what a connection has yet to do about messages that came, one after the
// other: what needs more than to be handed on keeps what came after it waiting (4.6).
type turns struct {
	queue   []func()     // under the session's lock
	waiting atomic.Int32 // in queue, until it is done
	looking atomic.Int32 // of them, those that are looked for first
}

// straight reports whether a message may be handed on at once.
func (s *session) straight(a *pending) bool { return !a.again && s.turns.waiting.Load() == 0 }

// inTurn runs f after what was given to it before, elsewhere.
func (s *session) inTurn(f func()) {
	s.turns.waiting.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turns.queue = append(s.turns.queue, f)
	if len(s.turns.queue) == 1 {
		s.srv.background(s.takeTurns)
	}
}

func (s *session) takeTurns() {
	for {
		s.mu.Lock()
		next := s.turns.queue[0]
		s.mu.Unlock()
		next()
		s.turns.waiting.Add(-1)
		s.mu.Lock()
		if s.turns.queue = s.turns.queue[1:]; len(s.turns.queue) == 0 {
			s.turns.queue = nil
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
	}
}

// passing is a message that cannot be handed on at once.
type passing struct {
	src      device.Source
	topic    string
	mark     string
	retained *device.Publication // to be made its topic's retained message; nil for none
}

// kept is what came of making a message a retained one.
type kept struct {
	seq uint64
	err error
}

// passInTurn hands a message on after those that came before it. One of an earlier
// connection is looked for: nobody knows what became of it, and if it was published
// nothing is done. One to be retained is, before it is published; that begins at once,
// so that many are stored together, unless one that is looked for may be retained yet.
func (s *session) passInTurn(a *pending, p passing, publish func(kept uint64) error) {
	again, after, done := a.again, a.after, a.done
	var coming chan kept
	switch {
	case again:
		s.turns.looking.Add(1)
	case p.retained != nil && s.turns.looking.Load() == 0:
		coming = s.retain(p.retained)
	}
	s.inTurn(func() {
		if again {
			defer s.turns.looking.Add(-1)
			if found, err := s.published(p, after); found || err != nil {
				done(err)
				return
			}
		}
		var k kept
		if p.retained != nil {
			if coming == nil {
				coming = s.retain(p.retained)
			}
			k = <-coming
			if p.retained.QoS == 0 && device.CodeOf(k.err).Retryable() {
				k.err = nil // want of room keeps it from nobody who is there
			}
		}
		err := k.err
		if err == nil {
			err = publish(k.seq)
		}
		if err != nil {
			done(err)
		}
	})
}

func (s *session) retain(p *device.Publication) chan kept {
	told := make(chan kept, 1)
	if err := s.srv.cfg.Topics.Retain(p, func(seq uint64, err error) { told <- kept{seq, err} }); err != nil {
		told <- kept{err: err}
	}
	return told
}

// published looks for a message.
func (s *session) published(p passing, after device.Position) (bool, error) {
	ctx, cancel := context.WithTimeout(s.srv.ctx, s.srv.cfg.ConnectTimeout)
	defer cancel()
	return s.srv.cfg.Topics.Published(ctx, p.src, s.who.ID.Tenant, p.topic, p.mark, after)
}
