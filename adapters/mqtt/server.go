package mqtt

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime/debug"
	"sync"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/doorway"
	"github.com/tributary-iot/tributary/internal/keyed"
	"github.com/tributary-iot/tributary/internal/parking"
)

// Server is the MQTT door. It implements adapters.Adapter.
type Server struct {
	cfg      Config
	gate     adapters.Gate
	metrics  *metrics
	listener *doorway.Door
	lot      *parking.Lot
	ctx      context.Context // ends when connections are cut
	cut      context.CancelFunc
	acks     sync.Pool     // of *pending
	buffers  sync.Pool     // of *[]byte, output of a connection
	readers  sync.Pool     // of *packet.Reader, of sessions that have parked
	next     chan *session // to a goroutine whose session has parked or ended
	resting  chan struct{} // a place for each of those

	mu       sync.Mutex
	sessions map[*session]struct{}
	clients  *keyed.Map[clientKey, session]
	drain    context.Context // nil until Shutdown: how long sessions may take to end
	active   int             // goroutines of sessions, and of what they left behind
	greeting int             // of them, sessions that have yet to say CONNECT
	idle     chan struct{}   // closed when those have left that somebody waits for; nil while nobody does
	spare    bool            // and those greeting are not waited for
}

// maxResting is how many goroutines rest until there is a session to run.
const maxResting = 64

// clientKey names a client's one connection. The principal is part of it, so
// that a client id alone steals nothing.
type clientKey struct {
	principal device.ID
	client    string
}

// Open checks the configuration and binds the listeners.
func Open(cfg Config, gate adapters.Gate) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("mqtt: cannot register metrics: %w", err)
	}
	ln, err := doorway.Open(doorway.Config{
		Name: "mqtt", Addr: cfg.Addr, TLSAddr: cfg.TLSAddr, TLS: cfg.TLS, Max: cfg.MaxConnections,
		Timeout: cfg.ConnectTimeout, Logger: cfg.Logger, Registerer: cfg.Registerer,
	})
	if err != nil {
		return nil, err
	}
	lot, err := parking.Open()
	if err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("mqtt: %w", err)
	}
	s := &Server{
		cfg: cfg, gate: gate, metrics: m, listener: ln, lot: lot,
		next: make(chan *session), resting: make(chan struct{}, maxResting),
		sessions: map[*session]struct{}{}, clients: keyed.New((*session).key),
	}
	s.ctx, s.cut = context.WithCancel(context.Background())
	go s.watch()
	return s, nil
}

// Addrs gives the addresses of the listeners under "mqtt" and "mqtts".
func (s *Server) Addrs() map[string]net.Addr { return s.listener.Addrs() }

// Serve accepts connections until Shutdown.
func (s *Server) Serve() error {
	s.listener.Each(func(conn net.Conn) {
		door := "mqtt"
		if _, secure := conn.(*tls.Conn); secure {
			door = "mqtts"
		}
		s.serve(conn, door)
	})
	return nil
}

// ServeConn serves a connection that came some other way, a WebSocket; it
// returns at once. The connection is closed when the server is stopping.
func (s *Server) ServeConn(conn net.Conn) { s.serve(conn, "") }

func (s *Server) serve(conn net.Conn, door string) {
	ses := newSession(s, conn)
	ses.door = door
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drain != nil {
		doorway.Cut(conn)
		return
	}
	s.sessions[ses] = struct{}{}
	s.active++
	s.greeting++
	s.start(ses)
}

// start runs a session, on a goroutine that ran another before, if one rests: its stack
// has grown already.
func (s *Server) start(ses *session) {
	select {
	case s.next <- ses:
	default:
		go s.work(ses)
	}
}

func (s *Server) work(ses *session) {
	for {
		ses.run()
		select {
		case s.resting <- struct{}{}:
		default:
			return // enough rest
		}
		select {
		case ses = <-s.next:
			<-s.resting
		case <-s.ctx.Done():
			return
		}
	}
}

// background runs f so that Shutdown waits for it.
func (s *Server) background(f func()) {
	s.mu.Lock()
	s.active++
	s.mu.Unlock()
	go func() {
		defer s.leave()
		defer func() {
			if r := recover(); r != nil {
				s.metrics.panics.Inc()
				s.cfg.Logger.Error("a call to the house failed", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			}
		}()
		f()
	}()
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	s.tellLeft()
}

func (s *Server) sessionOpened() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.greeting--
	s.tellLeft()
}

// allLeft is closed when no session and nothing of one is running, but for those
// that have yet to say CONNECT, if these are spared.
func (s *Server) allLeft(spare bool) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	s.spare = spare
	idle := s.idle
	s.tellLeft()
	return idle
}

// tellLeft is called with the lock held.
func (s *Server) tellLeft() {
	if s.idle != nil && (s.active == 0 || s.spare && s.active == s.greeting) {
		close(s.idle)
		s.idle = nil
	}
}

// takeOver makes ses its client's connection and ends the one before it.
func (s *Server) takeOver(ses *session) {
	s.mu.Lock()
	old := s.clients.Get(ses.key())
	s.clients.Put(ses)
	s.mu.Unlock()
	if old != nil {
		s.metrics.takeovers.Inc()
		old.end(closeWith(packet.SessionTakenOver, "a newer connection has the same client identifier"))
	}
}

// forget removes what the session holds here; a newer connection of the same
// client keeps its place.
func (s *Server) forget(ses *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, here := s.sessions[ses]; !here {
		return
	}
	delete(s.sessions, ses)
	if s.clients.Get(ses.key()) == ses {
		s.clients.Delete(ses.key())
	}
}

// draining is how long sessions may take to end; nil while we serve.
func (s *Server) draining() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drain
}

// Shutdown implements adapters.Adapter: every message read is stored and
// acknowledged, MQTT 5 clients get DISCONNECT 0x9C with where to go instead, or
// 0x8B when nobody knows, and all connections are closed. When ctx ends first the rest is cut and its error answered.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if s.drain == nil {
		s.drain = ctx
	}
	open := make([]*session, 0, len(s.sessions))
	for ses := range s.sessions {
		open = append(open, ses)
	}
	s.mu.Unlock()
	_ = s.listener.Close()
	err := s.drainAll(ctx, open)
	s.cut()
	if err != nil {
		for _, ses := range open {
			doorway.Cut(ses.conn)
		}
	}
	s.lot.Close()
	return err
}
