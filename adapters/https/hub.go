package https

import (
	"sync"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// seat tells sessions of one device apart that came in differently: by the
// device or a gateway, with one credential or another. So each ends with what
// it came in with, and a lock belongs to who took it.
type seat struct {
	device     device.ID
	principal  device.ID
	credential string
}

func (c *call) seat() seat { return seat{c.device, c.principal.ID, c.principal.Credential} }

// hub holds the sessions of all devices that poll, or did a moment ago, or hold
// a lock. Locks are taken hub first, session second.
type hub struct {
	cfg     Config
	gate    adapters.Gate
	metrics *metrics
	repeats repeats

	mu       sync.Mutex
	sessions map[seat]*session
	closed   bool
}

func newHub(cfg Config, gate adapters.Gate, m *metrics) *hub {
	return &hub{cfg: cfg, gate: gate, metrics: m, sessions: map[seat]*session{}}
}

// join opens poll p in the caller's session of the device, which it makes or
// revives. After a nil error the caller owes a leave.
func (h *hub) join(c *call, p *poll) (*session, error) {
	s, err := h.enter(c)
	if err != nil {
		return nil, err
	}
	if err := s.attach(c.r.Context()); err != nil {
		s.leave(nil)
		return nil, err
	}
	s.wait(p)
	return s, nil
}

// enter counts the caller among the session's users, so that it stays.
func (h *hub) enter(c *call) (*session, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, device.Errorf(device.Unavailable, "the server is stopping")
	}
	at := c.seat()
	s := h.sessions[at]
	if s == nil {
		s = newSession(h, at, device.Session{Device: c.device, Via: c.via, Protocol: device.HTTP})
		var err error
		if s.goodbye, err = h.gate.Connect(c.principal, s.who, func(why device.Leaving) { h.expel(s, why) }); err != nil {
			return nil, err
		}
		h.sessions[at] = s
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

// find is the session of a seat, or nil.
func (h *hub) find(at seat) *session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[at]
}

// close ends every session; unsettled commands go back to the queue.
func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	ended := make([]*session, 0, len(h.sessions))
	for at, s := range h.sessions {
		ended = append(ended, s)
		h.remove(at)
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
	if h.sessions[s.at] == s {
		h.remove(s.at)
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
func (h *hub) remove(at seat) {
	delete(h.sessions, at)
	h.metrics.sessions.Dec()
}
