package mqtt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/parking"
)

// session is one connection. Its goroutine reads; callbacks of the house and a
// writer that exists only while there is something to write do the rest. What an
// idle connection costs is this more than anything else: keep it below 512 bytes.
type session struct {
	srv     *Server
	conn    net.Conn
	reader  *packet.Reader
	door    string // the listener it came by; "": a WebSocket
	who     device.Principal
	client  string               // client identifier, ours when the client gave none
	leave   func(device.Leaving) // tells the house that the session is over; nil before it was entered
	routes  []route
	aliases map[uint16]string // of topics, by the client; nil until the first

	keepAlive time.Duration // 0: off
	armed     time.Time     // when the read deadline was last set

	version    packet.Version
	joined     bool  // CONNECT was accepted
	problems   bool  // it wants reason strings
	peerAlias  uint8 // topic aliases the client takes
	peerWindow int32 // deliveries it takes unacknowledged
	peerPacket int32 // bytes of the largest packet it takes

	mu     sync.Mutex
	sealed bool       // nothing may be written any more
	opened bool       // CONNECT was read, or the session is over
	change *sync.Cond // of anything below; nil until somebody waits
	cause  error      // why the session ends; the first one counts
	rest
	going int32 // bytes that left the output and are being written, if something is; here it takes no room
	output
	window
	mail
	lasting
	topics *subscriber // the session's side of topics; nil until it subscribes to one
}

// errGone ends a session by the peer's own DISCONNECT.
var errGone = errors.New("the client disconnected")

func newSession(srv *Server, conn net.Conn) *session {
	s := &session{srv: srv, conn: conn, problems: true}
	s.reader = srv.reader(conn, 0, maxUnauthenticated)
	s.parks = srv.cfg.ParkAfter > 0 && parking.Possible(conn)
	return s
}

// key names the session's client.
func (s *session) key() clientKey { return clientKey{s.who.ID, s.client} }

// mailWindow is how many commands of one device the client takes unacknowledged.
func (s *session) mailWindow() int { return min(int(s.peerWindow), s.srv.cfg.CommandWindow) }

// awaitChange waits until something of the session has changed. The lock is held.
func (s *session) awaitChange() {
	if s.change == nil {
		s.change = sync.NewCond(&s.mu)
	}
	s.change.Wait()
}

// changed wakes those who wait for a change. The lock is held.
func (s *session) changed() {
	if s.change != nil {
		s.change.Broadcast()
	}
}

// run serves until the session is over, or parked.
func (s *session) run() {
	if err := s.serve(); !errors.Is(err, errParked) {
		s.over(err)
	}
}

func (s *session) over(err error) {
	defer s.srv.leave()
	defer s.srv.forget(s)
	defer s.conn.Close()
	defer s.contain(nil)
	defer func() {
		if s.leave != nil {
			s.leave(leaving(err))
		}
	}()
	if s.joined {
		s.srv.metrics.connections.Dec()
	}
	s.open()
	s.finish(err)
	if log := s.srv.cfg.Logger; log.Enabled(context.Background(), slog.LevelDebug) {
		log.Debug("connection closed", "client", s.client, s.who.ID.Log(), "remote", s.conn.RemoteAddr().String(), "error", err)
	}
}

// contain keeps a panic of ours from costing more than this connection. It is
// deferred, before any lock is taken; *err, when given, is set.
func (s *session) contain(err *error) {
	r := recover()
	if r == nil {
		return
	}
	s.srv.metrics.panics.Inc()
	s.srv.cfg.Logger.Error("a connection failed by our fault", "client", s.client, s.who.ID.Log(), "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	fault := closeWith(packet.UnspecifiedError, "internal error")
	if err != nil {
		*err = fault
	}
	s.end(fault)
}

// serve reads until the connection has to end and says why, or errParked.
func (s *session) serve() (err error) {
	defer s.contain(&err)
	begin, quiet := s.handshake, true
	if s.joined {
		begin, quiet = s.resume, false
	}
	if err := begin(); err != nil {
		return err
	}
	for {
		if quiet && s.settle() {
			return errParked
		}
		if err := s.arm(); err != nil {
			return err
		}
		p, err := s.reader.Next()
		if err != nil {
			if err = s.readError(err); errors.Is(err, errGoOn) {
				continue
			}
			return err
		}
		quiet = isQuiet(p)
		if err := s.handle(p); err != nil {
			return err
		}
	}
}

// arm prepares the next read: it writes what is held (but CONNACK leaves with the SUBACK
// of a client that did not wait for it, if that is there soon), waits until a slow peer has taken enough of our
// output, and moves the keep-alive deadline. The deadline is set again only after a
// sixteenth of the keep-alive, and is later by as much.
func (s *session) arm() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reads > 0 || !s.reader.Holds(packet.SUBSCRIBE) {
		s.release()
	}
	for len(s.out) > maxQueuedOutput && s.cause == nil {
		s.awaitChange()
	}
	if s.cause != nil {
		return s.cause
	}
	s.reads++
	if now := time.Now(); s.keepAlive > 0 && now.Sub(s.armed) > s.slack() {
		s.armed, s.roused = now, false
		return s.conn.SetReadDeadline(now.Add(s.patience()))
	}
	return nil
}

// slack is how much later than the protocol asks the keep-alive may be noticed.
func (s *session) slack() time.Duration { return s.keepAlive / 16 }

// patience is how long a client may say nothing, from the time the deadline was
// set (3.1.2.10).
func (s *session) patience() time.Duration { return s.keepAlive + s.keepAlive/2 + s.slack() }

// end makes the session's goroutine stop reading and finish. It never blocks.
func (s *session) end(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(cause)
}

func (s *session) endLocked(cause error) {
	if s.cause != nil {
		return
	}
	s.cause = cause
	_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // long past: wakes the reader
	if s.parked {
		s.srv.lot.Leave(s.conn)
		s.unpark()
	}
	s.changed()
}

func (s *session) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

func (s *session) readError(err error) error {
	var broken *packet.Error
	switch cause := s.ended(); {
	case cause != nil:
		return cause
	case errors.As(err, &broken):
		s.srv.metrics.malformed.Inc()
		if s.joined && broken.Reason == packet.PacketTooLarge {
			s.trail(s.who.ID, "", nil, "", device.Errorf(device.TooLarge, "%s", broken.Text))
		}
		return broken
	case errors.Is(err, os.ErrDeadlineExceeded):
		if rested := s.park(); rested != nil {
			return rested
		}
		return errSilent
	}
	return err
}

var errSilent = closeWith(packet.KeepAliveTimeout, "nothing was received for one and a half keep-alive intervals")

func (s *session) handle(p packet.Packet) error {
	switch p := p.(type) {
	case *packet.Publish:
		return s.publish(p)
	case *packet.Ack:
		return s.acknowledged(p)
	case *packet.Subscribe:
		return s.subscribe(p)
	case *packet.Unsubscribe:
		return s.unsubscribe(p)
	case packet.Pingreq:
		return s.send(packet.Pingresp{})
	case *packet.Disconnect:
		return s.disconnected(p)
	}
	s.srv.metrics.malformed.Inc()
	return closeWith(packet.ProtocolError, p.Type().String()+" was not expected here")
}

// finish ends the session: what was accepted is acknowledged when the server
// drains, the mailboxes are given back, and the peer is told why.
func (s *session) finish(err error) {
	if ctx := s.srv.draining(); ctx != nil && s.joined {
		s.awaitAcks(ctx)
	}
	if errors.Is(err, errGone) { // it may have left because of what is being written
		s.mu.Lock()
		s.flush()
		s.mu.Unlock()
	}
	s.awaitDecisions()
	s.leaveTopics() // while it is known what it was attached to
	s.detachAll()
	s.srv.forget(s)
	reason, text, send := farewell(err)
	reason, where := s.refer(reason)
	s.mu.Lock()
	if send && s.joined && s.version >= packet.V5 {
		s.appendReason(&packet.Disconnect{Reason: reason, Properties: where}, text)
	}
	s.sealed = true
	s.flush()
	unsure := s.spoke && !s.broken && !errors.Is(err, errGone) && !errors.Is(err, io.EOF)
	s.mu.Unlock()
	if unsure {
		s.linger()
	}
}

// awaitAcks waits until every message read is acknowledged or refused.
func (s *session) awaitAcks(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.inFlight() > 0 && !s.broken && !s.muted && ctx.Err() == nil {
		s.awaitChange()
	}
}

// linger lets the peer read our last words: closing with unread input would
// make the system throw them away. There is none of a peer that has ended.
func (s *session) linger() {
	half, ok := s.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(lingerTime))
	scrap := make([]byte, scrapBytes) // when the server stops, every connection is here at once
	for left := s.srv.cfg.maxPacket(); left > 0; {
		n, err := s.conn.Read(scrap)
		if err != nil {
			return
		}
		left -= n
	}
}

// trail tells the house of a message it will not keep.
func (s *session) trail(id device.ID, topic string, raw []byte, contentType string, err error) {
	s.srv.gate.Refused(refusalOf(id, topic, raw, contentType, err))
}
