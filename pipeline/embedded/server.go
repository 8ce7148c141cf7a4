// Package embedded runs a NATS server with JetStream inside this process, and
// is the only one that imports nats-server. The pipeline reaches it through an
// in-process connection with a credential made anew at every start; on the
// network it listens for stream consumers only, when told to (readers.go).
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Durability says what the server has done with a message when it acknowledges it.
type Durability string

// The durabilities.
const (
	Strict  Durability = "strict"  // fsynced
	Relaxed Durability = "relaxed" // given to the operating system; fsynced within two minutes
)

// MaxPayload is the largest message the server takes, in bytes: a payload of
// 1 MiB, its envelope and its measurements.
const MaxPayload = 2 << 20

// startTimeout bounds recovery of the streams found on disk; it is linear in
// stored bytes after an unclean stop, so it is generous.
const startTimeout = 10 * time.Minute

// Options say how to run. Dir is required.
type Options struct {
	Dir        string       // holds the streams; made when missing; one process at a time
	Durability Durability   // default Strict
	MaxStore   int64        // bytes of all streams together, the hard stop; 0: three quarters of the free disk
	Readers    *Readers     // stream consumers on the network; nil: none
	Logger     *slog.Logger // nil: silent
}

// Server is a running NATS server.
type Server struct {
	lock   *dirLock
	keeper *keeper

	mu        sync.Mutex
	ns        *server.Server
	listening bool // the readers' door is open

	once    sync.Once
	done    chan struct{} // closed when stopped
	stopErr error         // valid then
}

// Start locks the directory, recovers what is stored and answers when the
// server takes messages. A directory another process uses is an error that
// says so.
func Start(o Options) (*Server, error) {
	if o.Dir == "" {
		return nil, errors.New("embedded nats: no directory given")
	}
	if o.Durability == "" {
		o.Durability = Strict
	}
	if o.Durability != Strict && o.Durability != Relaxed {
		return nil, fmt.Errorf("embedded nats: durability %q is neither strict nor relaxed", o.Durability)
	}
	var err error
	if o.Readers, err = o.Readers.withDefaults(); err != nil {
		return nil, fmt.Errorf("embedded nats: %w", err)
	}
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("embedded nats: %w", err)
	}
	if o.Readers != nil {
		o.Readers.full = func() {
			log(o.Logger).Warn("a reader was turned away: too many are connected", "limit", o.Readers.MaxConnections)
		}
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{lock: lock, keeper: newKeeper(o.Readers), done: make(chan struct{})}
	if err := s.start(o); err != nil {
		return nil, errors.Join(fmt.Errorf("embedded nats: %w", err), lock.release())
	}
	return s, nil
}

func (s *Server) start(o Options) error {
	options := &server.Options{
		ServerName:                 "tributary",
		DontListen:                 true, // until Listen
		NoSigs:                     true,
		CustomClientAuthentication: s.keeper,
		MaxPayload:                 MaxPayload,
		JetStream:                  true,
		StoreDir:                   filepath.Clean(o.Dir),
		JetStreamMaxStore:          o.MaxStore, // 0: nats-server takes three quarters of what is free
		SyncAlways:                 o.Durability == Strict,
		DisableJetStreamBanner:     true,
	}
	if o.Readers != nil {
		if err := o.Readers.apply(options); err != nil {
			return err
		}
	}
	ns, err := server.NewServer(options)
	if err != nil {
		return err
	}
	if o.Logger != nil {
		ns.SetLoggerV2(&logger{log: o.Logger}, false, false, false)
	}
	s.ns = ns
	go ns.Start()
	if !ns.ReadyForConnections(startTimeout) {
		s.stop()
		return fmt.Errorf("not ready after %s", startTimeout)
	}
	if !ns.JetStreamEnabled() {
		s.stop()
		return errors.New("JetStream did not start; the log says why")
	}
	if o.Readers != nil {
		if err := s.admit(ns); err != nil {
			s.stop()
			return err
		}
	}
	return nil
}

// InProcessConn dials the server; it makes Server a nats.InProcessConnProvider.
func (s *Server) InProcessConn() (net.Conn, error) { return s.ns.InProcessConn() }

// Credentials are the user and password of the in-process connection.
func (s *Server) Credentials() (user, password string) { return ownUser, s.keeper.own }

// PorterCredentials are those of the in-process connection in the readers' account.
func (s *Server) PorterCredentials() (user, password string) { return porterUser, s.keeper.porter }

// Healthy says whether JetStream works. A failed write or fsync is sticky: the
// server must be restarted, because what the disk holds is not known any more.
func (s *Server) Healthy() error {
	if !s.ns.Running() {
		return errors.New("embedded nats: stopped")
	}
	if h := s.ns.Healthz(&server.HealthzOptions{}); h.Error != "" {
		return fmt.Errorf("embedded nats: %s", h.Error)
	}
	return nil
}

// Shutdown flushes the streams, stops the server and waits until it has
// stopped or ctx ends. A second call does nothing. Close connections first.
func (s *Server) Shutdown(ctx context.Context) error {
	s.once.Do(func() {
		go func() {
			defer close(s.done)
			s.stop()
			s.stopErr = s.lock.release()
		}()
	})
	select {
	case <-s.done:
		return s.stopErr
	case <-ctx.Done():
		return fmt.Errorf("embedded nats: still stopping: %w", ctx.Err())
	}
}

func (s *Server) stop() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
}

func log(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
