package registry

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/keyed"
)

// recheckPause is between two attempts to find out whether a connection may go on.
const recheckPause = time.Second

// holds are the connections that stand, by principal. They cost memory for each
// connection, not for each device.
type holds struct {
	mu    sync.Mutex
	of    *keyed.Map[device.ID, hold] // the newest of each principal
	count int
}

// hold is one connection, or one thing a gateway does for a device.
type hold struct {
	id         device.ID
	credential string // what it came in with; "" when only a disabled device ends it
	revoked    func(error)
	expiry     *time.Timer
	over       bool
	older      *hold // of the same principal
	newer      *hold
}

// Hold ties a connection to the principal that Authenticate answered: revoked
// is called, at most once, from another goroutine, when the principal is
// disabled or removed, or the credential it came in with is removed or expires,
// on this node or another, also if that was between Authenticate and Hold. It
// gets the reason, of code Unauthenticated, and must not block. release ends
// it and is idempotent. A principal let in by open mode is never revoked.
func (r *Registry) Hold(p device.Principal, revoked func(error)) (release func()) {
	if p.Open {
		return func() {}
	}
	return r.hold(&hold{id: p.ID, credential: p.Credential, revoked: revoked})
}

// HoldDevice ties what a gateway does for a device to that device: revoked is
// called as by Hold when the device is disabled. One that is not registered,
// or is removed, is the gateway's to speak for.
func (r *Registry) HoldDevice(id device.ID, revoked func(error)) (release func()) {
	return r.hold(&hold{id: id, revoked: revoked})
}

func (r *Registry) hold(h *hold) (release func()) {
	r.holds.enter(h)
	// What changes from here on the watch tells; what changed before is in the
	// cache no more.
	if p, found, _ := r.cache.get(h.id); found {
		r.judge(h.id, p)
	} else {
		go r.recheck(r.stopping, h.id)
	}
	return func() { r.holds.leave(h) }
}

// MayBeSpokenFor answers Forbidden when a device that a gateway speaks for is
// registered and disabled, and Unavailable when that cannot be found out now.
func (r *Registry) MayBeSpokenFor(ctx context.Context, id device.ID) error {
	p, err := r.ask(ctx, id)
	if err == nil && p != nil && p.disabled {
		err = errDisabled
	}
	return err
}

var (
	errDisabled = device.Errorf(device.Forbidden, "the device is disabled")
	errRevoked  = device.Errorf(device.Unauthenticated, "the device was disabled or removed, or its credential was")
)

// judge ends the holds of id that its record, nil for none, no longer allows.
func (r *Registry) judge(id device.ID, p *principal) {
	for _, h := range r.holds.condemned(id, p, time.Now(), func() { r.recheck(r.stopping, id) }) {
		r.metrics.revoked.Inc()
		why := errRevoked
		if h.credential == "" {
			why = errDisabled
		}
		h.revoked(why)
	}
}

// recheck judges id's holds by what the Store says, however long that takes.
func (r *Registry) recheck(ctx context.Context, id device.ID) {
	for r.holds.has(id) {
		p, err := r.lookup(ctx, id)
		if errors.Is(err, errUnreadable) {
			r.cfg.Logger.Error("a record cannot be read: its device is refused", id.Log(), "error", err)
			p, err = &principal{disabled: true}, nil
		}
		if err == nil {
			r.judge(id, p)
			return
		}
		r.cfg.Logger.Warn("cannot find out whether a connection may go on; trying again", id.Log(), "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(recheckPause):
		}
	}
}

// recheckAll judges every hold: while nothing was watched, anything may have changed.
func (r *Registry) recheckAll(ctx context.Context) {
	for _, id := range r.holds.ids() {
		if ctx.Err() != nil {
			return
		}
		r.recheck(ctx, id)
	}
}

func (s *holds) enter(h *hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.older = s.of.Get(h.id); h.older != nil {
		h.older.newer = h
	}
	s.of.Put(h)
	s.count++
}

// leave forgets a hold, if it is still there.
func (s *holds) leave(h *hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked(h)
}

func (s *holds) leaveLocked(h *hold) {
	if h.over {
		return
	}
	h.over = true
	if h.expiry != nil {
		h.expiry.Stop()
	}
	s.count--
	if h.older != nil {
		h.older.newer = h.newer
	}
	switch {
	case h.newer != nil:
		h.newer.older = h.older
	case h.older != nil:
		s.of.Put(h.older)
	default:
		s.of.Delete(h.id)
	}
}

func (s *holds) has(id device.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of.Get(id) != nil
}

func (s *holds) ids() []device.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]device.ID, 0, s.of.Len())
	for h := range s.of.All() {
		all = append(all, h.id)
	}
	return all
}

func (s *holds) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// condemned takes out the holds that p no longer allows, and has the others
// looked at again when their credential expires.
func (s *holds) condemned(id device.ID, p *principal, now time.Time, again func()) (out []*hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for h := s.of.Get(id); h != nil; h = h.older { // those taken out still know their older
		ends, ok := h.allowedBy(p, now)
		if !ok {
			s.leaveLocked(h)
			out = append(out, h)
			continue
		}
		if h.expiry != nil {
			h.expiry.Stop()
			h.expiry = nil
		}
		if !ends.IsZero() {
			h.expiry = time.AfterFunc(time.Until(ends), again)
		}
	}
	return out
}

// allowedBy reports whether a hold may go on, and until when (zero: for good).
func (h *hold) allowedBy(p *principal, now time.Time) (until time.Time, ok bool) {
	switch {
	case h.credential == "":
		return until, p == nil || !p.disabled
	case p == nil || p.disabled:
		return until, false
	}
	for i := range p.proofs {
		one := &p.proofs[i]
		if one.id != h.credential {
			continue
		}
		if one.expires != 0 {
			until = time.UnixMilli(one.expires)
		}
		return until, !one.expired(now)
	}
	return until, false
}
