package amqp

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/internal/doorway"
)

// Server is the AMQP 1.0 door. It implements adapters.Adapter.
type Server struct {
	cfg      Config
	gate     adapters.Gate
	apps     adapters.Applications // nil where the house has nothing for them
	replies  replies
	metrics  *metrics
	listener *doorway.Door

	mu       sync.Mutex
	conns    map[*conn]struct{}
	stopping bool
	running  sync.WaitGroup // connections

	ctx    context.Context // ends when the server has stopped
	cancel context.CancelFunc
}

var _ adapters.Adapter = (*Server)(nil)

// Open checks the configuration and binds the listeners.
func Open(cfg Config, gate adapters.Gate) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("amqp: register metrics: %w", err)
	}
	l, err := doorway.Open(doorway.Config{
		Name: "amqp", Addr: cfg.Addr, TLSAddr: cfg.TLSAddr, TLS: cfg.TLS, Max: cfg.MaxConnections,
		Timeout: cfg.HandshakeTimeout, Logger: cfg.Logger, Registerer: cfg.Registerer,
	})
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, gate: gate, metrics: m, listener: l, conns: map[*conn]struct{}{}}
	s.apps, _ = gate.(adapters.Applications)
	s.replies.far, _ = gate.(adapters.Replies)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Addrs implements adapters.Adapter.
func (s *Server) Addrs() map[string]net.Addr { return s.listener.Addrs() }

// Serve implements adapters.Adapter.
func (s *Server) Serve() error {
	s.listener.Each(s.ServeConn)
	return nil
}

// ServeConn serves a connection that came some other way, a WebSocket; it
// returns at once. The connection is closed when the server is stopping.
func (s *Server) ServeConn(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		doorway.Cut(nc)
		return
	}
	s.conns[c] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	s.metrics.connections.Inc()
	go func() {
		defer s.running.Done()
		c.serve()
		s.metrics.connections.Dec()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
}

// Shutdown implements adapters.Adapter. Every connection reads no more, waits
// for its messages to be stored, tells their outcomes, gives its commands back
// and closes with amqp:connection:forced.
func (s *Server) Shutdown(ctx context.Context) error {
	defer s.cancel()
	s.mu.Lock()
	s.stopping = true
	_ = s.listener.Close() // the second time answers an error of no interest
	for c := range s.conns {
		c.drain()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		c.kill()
	}
	s.mu.Unlock()
	<-done
	return ctx.Err()
}
