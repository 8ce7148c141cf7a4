package mqtt

import (
	"errors"
	"net"
	"time"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
)

// rest is how a session whose client says nothing is parked: it gives up its
// goroutine and its reader until there is something to read. The stack of a
// goroutine that waits in a read is most of what an idle connection costs.
type rest struct {
	reads  uint32 // begun, if only for look; 0 before CONNECT was accepted
	seen   uint32 // reads at the last look
	parks  bool   // the connection can be parked
	roused bool   // the read under way was ended, for the session to be parked
	parked bool   // no goroutine of the session reads
}

// What serve answers, or goes on after, when a read was ended on purpose.
var (
	errParked = errors.New("the session is parked")
	errGoOn   = errors.New("the session goes on reading")
)

// watch looks at every session twice in ParkAfter, until the server is cut.
func (s *Server) watch() {
	if s.cfg.ParkAfter < 0 {
		return
	}
	looks := time.NewTicker(max(s.cfg.ParkAfter/2, time.Millisecond))
	defer looks.Stop()
	var all []*session
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-looks.C:
		}
		s.mu.Lock()
		for ses := range s.sessions {
			all = append(all, ses)
		}
		s.mu.Unlock()
		for _, ses := range all {
			ses.look(time.Now())
		}
		clear(all)
		all = all[:0]
	}
}

// look ends a read that has waited since the look before, so that the session
// parks, and holds a parked session to its keep-alive.
func (s *session) look(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.cause != nil || !s.parks:
	case s.parked:
		if s.keepAlive > 0 && now.Sub(s.armed) > s.patience() {
			s.endLocked(errSilent)
		}
	case s.reads == 0 || s.reads != s.seen:
		s.seen = s.reads
	case !s.roused:
		s.roused = true
		_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // long past
	}
}

// isQuiet reports whether a client that has said p often says nothing more for a
// long time. So does one whose CONNECT was accepted.
func isQuiet(p packet.Packet) bool {
	switch p.(type) {
	case *packet.Subscribe, *packet.Unsubscribe, packet.Pingreq:
		return true
	}
	return false
}

// settle gives up the goroutine at once, because the client is not expected to go
// on soon. A fleet that comes in at once would else have a goroutine for each of
// its connections until they are looked at.
func (s *session) settle() bool {
	if s.reader.Buffered() > 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
	if s.cause != nil || !s.parks || !s.parkLocked() {
		return false
	}
	s.armed = time.Now()
	return true
}

// parkLocked gives up goroutine, reader and deadline, unless something was read
// already: then all is as it was.
func (s *session) parkLocked() bool {
	if s.reader.Buffered() > 0 || !s.srv.lot.Park(s.conn, s) {
		return false
	}
	_ = s.conn.SetReadDeadline(time.Time{})
	s.srv.leaveReader(s.reader)
	s.reader, s.parked, s.roused = nil, true, false
	s.srv.metrics.parked.Inc()
	return true
}

// reader is a packet.Reader, one that a session left if there is such.
func (s *Server) reader(conn net.Conn, version packet.Version, limit int) *packet.Reader {
	r, ok := s.readers.Get().(*packet.Reader)
	if !ok {
		return packet.NewReader(conn, version, limit)
	}
	r.Renew(conn, version, limit)
	return r
}

// leaveReader gives up a reader that holds nothing unread. None of its packets is used
// any more.
func (s *Server) leaveReader(r *packet.Reader) {
	r.Renew(nil, 0, 0)
	s.readers.Put(r)
}

// park gives up the goroutine, if its read was ended for that; nil when it was
// not. In the middle of a packet the session goes on reading, with the deadline
// there was before.
func (s *session) park() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil || !s.roused {
		return s.cause
	}
	s.roused = false
	if s.parkLocked() {
		return errParked
	}
	var deadline time.Time
	if s.keepAlive > 0 {
		deadline = s.armed.Add(s.patience())
	}
	if err := s.conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	return errGoOn
}

// Wake implements parking.Waiter: there is something to read.
func (s *session) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unpark()
}

// unpark gives a parked session a goroutine again. The lock is held.
func (s *session) unpark() {
	if s.parked {
		s.parked = false
		s.srv.metrics.parked.Dec()
		s.srv.start(s)
	}
}

// resume makes a session that was parked ready to read.
func (s *session) resume() error {
	s.reader = s.srv.reader(s.conn, s.version, s.srv.cfg.maxPacket())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = time.Time{} // parking took the deadline
	return s.cause
}
