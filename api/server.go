package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/tributary-iot/tributary/internal/doorway"
)

// Server is the gRPC listener and its services, and their REST form.
type Server struct {
	cfg      Config
	needs    Needs
	metrics  *metrics
	tokenSum [sha256.Size]byte
	listener *doorway.Door // nil: REST only
	grpc     *grpc.Server
	health   *health.Server
	local    *local // where REST calls go
	rest     http.Handler
	stopping context.Context // ends when Shutdown begins, and ends the streams
	stop     context.CancelFunc
}

// Open checks the configuration and binds the listener.
func Open(cfg Config, needs Needs) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(needs); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, needs: needs, metrics: newMetrics(), tokenSum: sha256.Sum256([]byte(cfg.Token))}
	if err := s.metrics.register(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("api: register metrics: %w", err)
	}
	var err error
	if cfg.Addr != Off {
		if s.listener, err = doorway.Open(cfg.doorway()); err != nil {
			return nil, fmt.Errorf("api: %w", err)
		}
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.grpc = grpc.NewServer(s.options()...)
	s.health = health.NewServer()
	s.register(s.grpc)
	healthv1.RegisterHealthServer(s.grpc, s.health)
	reflection.RegisterV1(s.grpc)
	if s.local, err = s.openLocal(); err == nil {
		s.rest, err = s.openREST()
	}
	if err != nil {
		s.closeListener()
		return nil, err
	}
	return s, nil
}

func (s *Server) register(g grpc.ServiceRegistrar) {
	for _, service := range services {
		service.grpc(s, g)
	}
}

// guards stand before every call, from wherever it comes.
func (s *Server) guards() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
		grpc.MaxRecvMsgSize(s.cfg.MaxRequestBytes),
	}
}

// options bound what one caller can take of the server.
func (s *Server) options() []grpc.ServerOption {
	return append(s.guards(), // TLS is the doorway's
		grpc.MaxConcurrentStreams(256),
		grpc.MaxHeaderListSize(16<<10),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)
}

// Addr is where the server listens, known since Open; nil when it is Off.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

func (s *Server) closeListener() {
	if s.listener != nil {
		s.listener.Close()
	}
}

// SetHealth says of every service, and under "" of the server as a whole,
// whether it is serving. Until it is called all are.
func (s *Server) SetHealth(serving func(service string) bool) {
	set := func(service string) {
		status := healthv1.HealthCheckResponse_NOT_SERVING
		if serving(service) {
			status = healthv1.HealthCheckResponse_SERVING
		}
		s.health.SetServingStatus(service, status)
	}
	set("")
	for service := range s.grpc.GetServiceInfo() {
		set(service)
	}
}

// Serve answers calls until Shutdown, and answers nil then.
func (s *Server) Serve() error {
	var inside sync.WaitGroup
	defer inside.Wait()
	inside.Go(func() {
		if err := s.local.serve(); err != nil {
			s.cfg.Logger.Error("REST has ended", "error", err)
		}
	})
	if s.listener == nil {
		return nil
	}
	err := s.grpc.Serve(s.listener)
	if errors.Is(err, grpc.ErrServerStopped) || s.stopping.Err() != nil {
		return nil
	}
	return err
}

// EndStreams ends all streams as Unavailable, so that a listener in front of
// Handler can drain. Shutdown does it, too.
func (s *Server) EndStreams() { s.stop() }

// Shutdown drains: no new calls, streams end as Unavailable, calls under way
// finish. When ctx ends first the rest is cut, and its error answered. It works
// before Serve and twice.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	s.health.Shutdown()
	defer s.local.stop()
	s.closeListener() // GracefulStop knows the listener only once Serve has run
	drained := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(drained)
	}()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		s.grpc.Stop()
		<-drained
		return fmt.Errorf("api: calls were cut: %w", ctx.Err())
	}
}

// untilStop is a stream's context that ends with Shutdown too.
func (s *Server) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(s.stopping, cancel)
	return ctx, func() { unhook(); cancel() }
}

// barrier waits, for a moment, until the store holds what was stored so far.
func (s *Server) barrier(ctx context.Context) {
	if s.needs.Barrier == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.BarrierTimeout)
	defer cancel()
	if err := s.needs.Barrier(ctx); err != nil {
		s.metrics.barriers.WithLabelValues("late").Inc()
		s.cfg.Logger.Warn("the store is behind the stream; a read answers what it has", "error", err)
		return
	}
	s.metrics.barriers.WithLabelValues("passed").Inc()
}
