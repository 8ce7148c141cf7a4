package https

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/doorway"
)

// Server is the HTTP door, an adapters.Adapter.
type Server struct {
	cfg       Config
	gate      adapters.Gate
	metrics   *metrics
	hub       *hub
	listener  *doorway.Door
	http      *http.Server
	receipts  sync.Pool
	webWrites sync.Pool // buffers for what a WebSocket writes

	draining  chan struct{} // closed when Shutdown begins: polls answer at once
	drainOnce sync.Once
}

var _ adapters.Adapter = (*Server)(nil)

// Open validates the configuration and binds the listeners.
func Open(cfg Config, gate adapters.Gate) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	listener, err := doorway.Open(cfg.doorway())
	if err != nil {
		return nil, err
	}
	s, err := openOn(listener, cfg, gate)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return s, nil
}

// doorway is what is listened on.
func (c Config) doorway() doorway.Config {
	return doorway.Config{
		Name: "http", Addr: c.Addr, TLSAddr: c.TLSAddr, TLS: c.TLS, Max: c.MaxConnections, Refuse: doorway.RefuseHTTP,
		Timeout: c.HeaderTimeout, Logger: c.Logger, Registerer: c.Registerer,
	}
}

// openOn makes a server of listeners that are already bound; cfg is complete.
func openOn(listener *doorway.Door, cfg Config, gate adapters.Gate) (*Server, error) {
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("http: metrics: %w", err)
	}
	s := &Server{cfg: cfg, gate: gate, metrics: m, listener: listener, draining: make(chan struct{})}
	s.hub = newHub(cfg, gate, m)
	s.receipts.New = func() any { return newReceipt() }
	s.http = &http.Server{
		Handler:           s,
		MaxHeaderBytes:    cfg.MaxHeaderBytes,
		ReadHeaderTimeout: cfg.HeaderTimeout,
		ReadTimeout:       cfg.BodyTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		// Long enough for every answer that is not a poll; polls set their own.
		WriteTimeout: cfg.BodyTimeout + 2*cfg.AckTimeout + cfg.WriteTimeout,
		ErrorLog:     slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
		Protocols:    new(http.Protocols), // a connection is one request at a time, with TLS too
	}
	s.http.Protocols.SetHTTP1(true)
	return s, nil
}

// Addrs implements adapters.Adapter.
func (s *Server) Addrs() map[string]net.Addr { return s.listener.Addrs() }

// Serve implements adapters.Adapter.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("http: %w", err)
	}
	return nil
}

// Shutdown implements adapters.Adapter: polls answer 204 at once, posts in
// flight get their answer, then devices detach.
func (s *Server) Shutdown(ctx context.Context) error {
	s.drainOnce.Do(func() { close(s.draining) })
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("http: drain: %w", err), s.http.Close())
	}
	// Before Serve the http.Server does not know the listener.
	if closeErr := s.listener.Close(); closeErr != nil && !errors.Is(closeErr, net.ErrClosed) {
		err = errors.Join(err, fmt.Errorf("http: %w", closeErr))
	}
	s.hub.close()
	return err
}

// call is one request on its way through the door.
type call struct {
	w         http.ResponseWriter
	r         *http.Request
	route     route
	principal device.Principal
	device    device.ID // whom the path names, after SpeakFor
	via       string    // the gateway, when it speaks for another
	written   bool      // an answer has begun
}

// ServeHTTP answers one request; a panic in it costs this request only.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{w: w, r: r}
	defer s.recover(c)
	status, err := s.serve(c)
	if err != nil {
		status = s.refuse(c, err)
	}
	s.metrics.count(c.route.kind, status)
}

func (s *Server) recover(c *call) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	s.metrics.panics.Inc()
	s.cfg.Logger.Error("a request failed by our fault", "path", c.r.URL.Path, "remote", c.r.RemoteAddr, "panic", p, "stack", string(debug.Stack()))
	if c.written {
		panic(http.ErrAbortHandler) // half an answer: only a closed connection is honest
	}
	c.w.Header().Set("Connection", "close")
	s.metrics.count(c.route.kind, s.refuse(c, device.Errorf(device.Internal, "internal error")))
}

// serve finds the route and who is asking, and hands on.
func (s *Server) serve(c *call) (int, error) {
	var ok bool
	if c.route, ok = parseRoute(c.r.URL); !ok {
		c.route = route{}
		if ws := s.webSocket(c.r.URL.Path); ws != nil {
			return s.upgrade(c, ws)
		}
		return 0, errNoRoute
	}
	if c.r.Method != c.route.kind.method() {
		return 0, wrongMethod(c.route.kind)
	}
	var err error
	if c.principal, err = s.authenticate(c); err != nil {
		return 0, err
	}
	if c.device, c.via, err = c.principal.SpeakFor(c.route.device); err != nil {
		return 0, s.refuseSpeaker(c, err)
	}
	switch c.route.kind {
	case routeTelemetry:
		return s.postTelemetry(c)
	case routeCommands:
		return s.getCommands(c)
	case routeSettle:
		return s.settle(c)
	default:
		return s.respond(c)
	}
}

// done answers without a body.
func (c *call) done() (int, error) {
	c.written = true
	c.w.WriteHeader(http.StatusNoContent)
	return http.StatusNoContent, nil
}

// bodyRead ends the deadline for reading: while the house works, a deadline
// passing would look like a client that left.
func (c *call) bodyRead() {
	// Fails only on connections that are not the net package's own.
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{})
}

// unhurried replaces the deadlines of an ordinary request for one that waits:
// its answer must be written within d.
func (c *call) unhurried(d time.Duration) {
	c.bodyRead()
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(d))
}
