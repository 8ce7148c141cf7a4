package https

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// session is one stay of a device at this door: the polls it has open, the
// commands it holds under lock, and one attachment to its mailbox shared by
// all. It begins with a poll and ends a linger after the last poll and lock.
//
// No method of an attachment is called under mu: the gate calls back into
// offer and lost, and what locks it holds then is its own business.
type session struct {
	hub *hub
	at  seat
	who device.Session

	attaching chan struct{} // held while attaching: polls that come meanwhile wait

	mu      sync.Mutex
	users   int // polls open, those still attaching included
	waiting []*poll
	hold    *hold
	spare   []offered // came when no poll was waiting; for the next, within the linger
	locks   map[string]*lock
	linger  *time.Timer
	ended   bool

	goodbye  func(device.Leaving) // tells the house that the session is over
	over     chan struct{}        // closed when ended
	expelled device.Leaving       // the house ended it, and why
}

// hold is one attachment and what it was asked for.
type hold struct {
	attachment adapters.Attachment
	asked      int  // requested and not yet offered
	lost       bool // a newer session has the lease, until something is offered again
	told       bool // lost was called; it will not be called again
}

// offered is a delivery with the hold it came by.
type offered struct {
	device.Delivery
	hold *hold
}

func (o offered) settle(kind device.OutcomeKind, reason string) {
	o.hold.attachment.Settle(o.Command.ID, o.Attempt, device.Outcome{Kind: kind, Reason: reason}, nil)
}

// poll is one request that wants commands.
type poll struct {
	window int           // most commands it may have in hand: max of the request
	inUse  int           // of the window: taken and not yet settled
	full   bool          // wants no more
	got    []offered     // handed to it, not yet taken
	wake   chan struct{} // has room for one: something was handed over
}

func newPoll(window int) *poll { return &poll{window: window, wake: make(chan struct{}, 1)} }

func (p *poll) room() int {
	if p.full {
		return 0
	}
	return p.window - p.inUse - len(p.got)
}

func newSession(h *hub, at seat, who device.Session) *session {
	return &session{hub: h, at: at, who: who, attaching: make(chan struct{}, 1), locks: map[string]*lock{}, over: make(chan struct{})}
}

// attach makes sure that this session is the device's newest: a poll is the
// device saying where it stands now.
func (s *session) attach(ctx context.Context) error {
	select {
	case s.attaching <- struct{}{}:
		defer func() { <-s.attaching }()
	case <-ctx.Done():
		return errGone
	}
	s.mu.Lock()
	old := s.hold
	if s.ended || old != nil && !s.mayBeOld(old) {
		s.mu.Unlock()
		return nil
	}
	s.hold = nil
	s.mu.Unlock()
	if old != nil {
		old.attachment.Detach("a newer poll of the device")
	}
	// The attachment outlives the request that made it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.hub.cfg.AckTimeout)
	defer cancel()
	h := &hold{}
	a, err := s.hub.gate.Attach(ctx, s.who,
		func(d device.Delivery) { s.offer(h, d) }, func() { s.lose(h) })
	if err != nil {
		return err
	}
	h.attachment = a
	s.mu.Lock()
	ended := s.ended
	if !ended {
		s.hold = h
	}
	s.mu.Unlock()
	if ended {
		a.Detach("the server is stopping")
	}
	return nil
}

// mayBeOld reports whether a newer session of the device may have the lease. A
// hold is told so once only; one that got its lease back is given up, when
// nothing hangs on it, rather than trusted. The caller holds s.mu and is one of
// the session's users.
func (s *session) mayBeOld(h *hold) bool {
	return h.lost || h.told && s.users == 1 && len(s.locks)+len(s.spare) == 0
}

// wait puts p in line and asks the mailbox for what is missing.
func (s *session) wait(p *poll) {
	s.mu.Lock()
	s.waiting = append(s.waiting, p)
	ask := s.dealOut()
	s.mu.Unlock()
	ask()
}

// finish says that p, still open, wants nothing beyond what it took.
func (s *session) finish(p *poll) {
	s.mu.Lock()
	p.full = true
	s.mu.Unlock()
}

// leave takes a poll out of line; what it was handed and did not take goes to
// the others. p is nil for a user that never got to wait.
func (s *session) leave(p *poll) {
	s.mu.Lock()
	s.users--
	if p != nil {
		s.waiting = slices.DeleteFunc(s.waiting, func(q *poll) bool { return q == p })
		s.spare = append(s.spare, p.got...)
		p.got = nil
	}
	ask := s.dealOut()
	s.rest()
	s.mu.Unlock()
	ask()
}

// dealOut hands spares to polls with room, first come first served. What it
// returns asks the mailbox for the rest; run it after s.mu is given back.
func (s *session) dealOut() (ask func()) {
	missing := 0
	for _, p := range s.waiting {
		for p.room() > 0 && len(s.spare) > 0 {
			p.got = append(p.got, s.spare[0])
			s.spare = s.spare[1:]
			select {
			case p.wake <- struct{}{}:
			default:
			}
		}
		missing += p.room()
	}
	h := s.hold
	if h == nil || h.lost || missing <= h.asked {
		return func() {}
	}
	n := missing - h.asked
	h.asked += n
	return func() { h.attachment.Request(n) }
}

// offer is the gate handing a command over.
func (s *session) offer(h *hold, d device.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.asked--
	h.lost = false // the lease came back by itself
	if s.ended || s.hold != h {
		return // detached: the gate takes back what is not settled
	}
	s.spare = append(s.spare, offered{d, h})
	ask := s.dealOut()
	s.rest()
	go ask()
}

// lose is the gate saying that a newer session has the lease: all that this one
// holds is stale.
func (s *session) lose(h *hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.lost, h.told = true, true
	theirs := func(o offered) bool { return o.hold == h }
	s.spare = slices.DeleteFunc(s.spare, theirs)
	for _, p := range s.waiting {
		p.got = slices.DeleteFunc(p.got, theirs)
	}
	for _, l := range s.locks {
		if l.hold == h {
			s.drop(l) // no dealOut: the mailbox is not ours to ask now
		}
	}
	s.rest()
}

// rest starts the linger when nobody uses the session; the caller holds s.mu.
func (s *session) rest() {
	switch {
	case s.users > 0 || s.ended:
	case s.linger == nil:
		s.linger = time.AfterFunc(s.hub.cfg.Linger, s.lingered)
	default:
		s.linger.Reset(s.hub.cfg.Linger)
	}
}

// lingered gives back what waited for a poll that did not come, and ends the
// session unless the device holds a lock.
func (s *session) lingered() {
	s.hub.mu.Lock()
	s.mu.Lock()
	if s.users > 0 || s.ended {
		s.mu.Unlock()
		s.hub.mu.Unlock()
		return
	}
	spare := s.spare
	s.spare = nil
	end := func() {}
	if len(s.locks) == 0 {
		s.hub.remove(s.at)
		end = s.end("no poll", device.LeftClosed)
		spare = nil // Detach gives them back
	}
	s.mu.Unlock()
	s.hub.mu.Unlock()
	for _, o := range spare {
		o.settle(device.Released, "no poll came for it")
	}
	end()
}

// end closes the session for good; the caller holds s.mu and runs what it
// returns afterwards.
func (s *session) end(reason string, why device.Leaving) func() {
	s.ended = true
	close(s.over)
	if s.linger != nil {
		s.linger.Stop()
	}
	h := s.hold
	s.hold = nil
	for _, l := range s.locks {
		s.drop(l)
	}
	return func() {
		if h != nil {
			h.attachment.Detach(reason)
		}
		s.goodbye(why)
	}
}

// expulsion is what a poll is told when the house ended its session; nil when
// it did not.
func (s *session) expulsion() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.expelled {
	case "":
		return nil
	case device.LeftTakenOver:
		return device.Errorf(device.Conflict, "a newer session of the device has taken over")
	case device.LeftDisabled:
		return device.Errorf(device.Unauthenticated, "the device may no longer connect")
	}
	return device.Errorf(device.Unavailable, "this server is cut off from the others or stopping: try again")
}
