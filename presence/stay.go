package presence

import (
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/tributary-iot/tributary/device"
)

// Stay is one session at a door of this node. There may be as many as there are
// connections, so it is small.
type Stay struct {
	s     *Service
	who   device.Session
	id    ulid.ULID
	since int64 // Unix time, in nanoseconds
	end   func(device.Leaving)
	why   device.Leaving // the house ends it, for this; "" while it does not
	place uint64         // among all there were
	heard bool           // its entry came back on the list: what follows there is newer
	over  bool
	older *Stay // of the same session, that is still open
}

// beginning is the event that the stay began with.
func (t *Stay) beginning() device.PresenceEvent {
	at := time.Unix(0, t.since).UTC()
	return device.PresenceEvent{Session: t.who, ID: t.id.String(), Node: t.s.cfg.Node, Connected: true, Since: at, At: at}
}

// Leave takes a session away, once; what the house ended it for counts before what
// the door made of it.
func (t *Stay) Leave(why device.Leaving) {
	if t == nil {
		return
	}
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.over {
		return
	}
	t.over = true
	s.takeOut(t)
	if t.why != "" {
		why = t.why
	}
	s.pass()
	s.metrics.sessions.WithLabelValues(string(t.who.Protocol)).Dec()
	s.metrics.ends.WithLabelValues(string(why)).Inc()
	s.tell(happening{stay: t, at: time.Now().UnixNano(), ended: why})
}

// takeOut takes a stay out of those of its session; mu is held.
func (s *Service) takeOut(t *Stay) {
	newest := s.open.Get(t.who)
	switch {
	case newest != t:
		for newest.older != t {
			newest = newest.older
		}
		newest.older = t.older
	case t.older != nil:
		s.open.Put(t.older)
	default:
		s.open.Delete(t.who)
	}
}

// End ends the session because the house says so.
func (t *Stay) End(why device.Leaving) {
	if t != nil {
		t.s.expel(why, []*Stay{t})
	}
}

// expel ends sessions, each once.
func (s *Service) expel(why device.Leaving, sessions []*Stay) {
	s.mu.Lock()
	var ends []func(device.Leaving)
	for _, t := range sessions {
		if !t.over && t.why == "" {
			t.why = why
			ends = append(ends, t.end)
		}
	}
	s.mu.Unlock()
	for _, end := range ends {
		end(why)
	}
}
