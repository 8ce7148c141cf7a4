package https

import (
	"context"
	"sync"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// hub holds the sessions of all devices that poll, or did a moment ago, or hold
// a lock. Locks are taken hub first, session second.
type hub struct {
	cfg     Config
	gate    adapters.Gate
	metrics *metrics
	repeats repeats

	mu       sync.Mutex
	sessions map[device.ID]*session
	closed   bool
}

func newHub(cfg Config, gate adapters.Gate, m *metrics) *hub {
	return &hub{cfg: cfg, gate: gate, metrics: m, sessions: map[device.ID]*session{}}
}

// join opens poll p in the device's session, which it makes or revives. After a
// nil error the caller owes a leave.
func (h *hub) join(ctx context.Context, id device.ID, p *poll) (*session, error) {
	s, err := h.enter(id)
	if err != nil {
		return nil, err
	}
	if err := s.attach(ctx); err != nil {
		s.leave(nil)
		return nil, err
	}
	s.wait(p)
	return s, nil
}

// enter counts the caller among the session's users, so that it stays.
func (h *hub) enter(id device.ID) (*session, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, device.Errorf(device.Unavailable, "the server is stopping")
	}
	s := h.sessions[id]
	if s == nil {
		s = newSession(h, id)
		session := device.Session{Device: id, Protocol: device.HTTP}
		var err error
		if s.goodbye, err = h.gate.Connect(session, func(why device.Leaving) { h.expel(s, why) }); err != nil {
			return nil, err
		}
		h.sessions[id] = s
		h.metrics.sessions.Inc()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == h.cfg.MaxPolls {
		return nil, device.Errorf(device.Busy, "the device has %d polls open; close some", s.users)
	}
	s.users++
	return s, nil
}

// find is the session of a device, or nil.
func (h *hub) find(id device.ID) *session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[id]
}

// close ends every session; unsettled commands go back to the queue.
func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	ended := make([]*session, 0, len(h.sessions))
	for id, s := range h.sessions {
		ended = append(ended, s)
		h.remove(id)
	}
	h.mu.Unlock()
	for _, s := range ended {
		s.mu.Lock()
		end := s.end("the server is stopping", device.LeftDrain)
		s.mu.Unlock()
		end()
	}
}

// expel ends a session because the house says so: its polls end, and its locks
// are no longer worth anything.
func (h *hub) expel(s *session, why device.Leaving) {
	h.mu.Lock()
	if h.sessions[s.id] == s {
		h.remove(s.id)
	}
	h.mu.Unlock()
	s.mu.Lock()
	end := func() {}
	if !s.ended {
		s.expelled = why
		end = s.end(string(why), why)
	}
	s.mu.Unlock()
	end()
}

// remove forgets a session; the caller holds h.mu.
func (h *hub) remove(id device.ID) {
	delete(h.sessions, id)
	h.metrics.sessions.Dec()
}
