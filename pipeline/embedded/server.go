// Package embedded runs a NATS server with JetStream inside this process, and
// is the only one that imports nats-server. The pipeline reaches it through an
// in-process connection with a credential made anew at every start; on the
// network it listens for stream consumers only, when told to (readers.go).
package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
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
	Dir        string                // holds the streams; made when missing; one process at a time
	Durability Durability            // default Strict
	MaxStore   int64                 // bytes of all streams together, the hard stop; 0: none, whoever publishes watches Disk
	Unclean    bool                  // the run before was not stopped in order: believe no index (index.go), sync what it wrote last (settle.go)
	Reserve    int64                 // bytes of the disk that are not for messages (Disk); 0: a twentieth, from 64 MiB to 1 GiB
	Staging    string                // a directory in memory where batches wait for their commit; "": the system's, if it has one; StagingOff
	Readers    *Readers              // stream consumers on the network; nil: none
	Logger     *slog.Logger          // nil: silent
	Registerer prometheus.Registerer // nil: metrics are not shown

	probe      func(*server.Server) error // a test's own; failing
	stuckAfter time.Duration              // a test's own
}

// Server is a running NATS server. When its disk fails it, it is restarted in
// place (mend.go): connections come back by themselves.
type Server struct {
	opts    Options
	lock    *dirLock
	keeper  *keeper
	staging *staging

	ns        atomic.Pointer[server.Server] // nil: between two lives
	mu        sync.Mutex                    // one beginning or end at a time
	listening bool                          // the readers' door is open

	looks    looks
	stuck    chan struct{} // closed when the server was silent for too long
	fault    atomic.Pointer[fault]
	restarts atomic.Uint64
	watching context.CancelFunc
	watched  chan struct{} // closed when nobody watches any more

	once    sync.Once
	done    chan struct{} // closed when stopped
	stopErr error         // valid then
}

// Start locks the directory, recovers what is stored and answers when the
// server takes messages. A directory another process uses is an error that
// says so.
func Start(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("embedded nats: %w", err)
	}
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("embedded nats: %w", err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{opts: o, lock: lock, keeper: newKeeper(o.Readers), looks: looks{probe: o.probe}, stuck: make(chan struct{}), watched: make(chan struct{}), done: make(chan struct{})}
	s.staging, err = openStaging(filepath.Clean(o.Dir), o.Staging)
	switch {
	case err != nil && o.Staging != "": // whoever named a place means it
		return nil, errors.Join(fmt.Errorf("embedded nats: stage batches in %s: %w", o.Staging, err), lock.release())
	case err != nil:
		o.Logger.Info("batches are staged on the disk, which makes acknowledgements slower", "error", err)
	}
	older := s.staging.older()
	ns, err := s.start(o.Unclean)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("embedded nats: %w", err), s.staging.close(), lock.release())
	}
	s.ns.Store(ns)
	if err := errors.Join(removeAll(older), s.register(o.Registerer)); err != nil {
		end(ns)
		return nil, errors.Join(fmt.Errorf("embedded nats: %w", err), s.staging.close(), lock.release())
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.watching = cancel
	go func() { defer close(s.watched); s.watch(ctx) }()
	return s, nil
}

func (o Options) withDefaults() (_ Options, err error) {
	if o.Dir == "" {
		return o, errors.New("no directory given")
	}
	o.Durability = cmp.Or(o.Durability, Strict)
	o.stuckAfter = cmp.Or(o.stuckAfter, stuckAfter)
	if o.probe == nil {
		o.probe = failing
	}
	if o.Durability != Strict && o.Durability != Relaxed {
		return o, fmt.Errorf("durability %q is neither strict nor relaxed", o.Durability)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Readers, err = o.Readers.withDefaults(); err != nil || o.Readers == nil {
		return o, err
	}
	limit := o.Readers.MaxConnections
	o.Readers.full = func() { o.Logger.Warn("a reader was turned away: too many are connected", "limit", limit) }
	return o, nil
}

// start brings one server to life. Unclean says that what is stored was not
// closed in order by the one before.
func (s *Server) start(unclean bool) (*server.Server, error) {
	o := s.opts
	options := &server.Options{
		ServerName:                 "tributary",
		DontListen:                 true, // until Listen
		NoSigs:                     true,
		CustomClientAuthentication: s.keeper,
		MaxPayload:                 MaxPayload,
		JetStream:                  true,
		StoreDir:                   filepath.Clean(o.Dir),
		JetStreamMaxStore:          o.MaxStore,
		SyncAlways:                 o.Durability == Strict,
		DisableJetStreamBanner:     true,
	}
	if o.MaxStore == 0 { // the server's own default is a share of what is free now, and stands when the disk has room again
		options.JetStreamMaxStore = math.MaxInt64
	}
	if o.Readers != nil {
		if err := o.Readers.apply(options); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(sweep(o.Dir), mendSettings(o.Dir, o.Logger.Warn), forgetIndexes(o.Dir, o.Unclean)); err != nil {
		return nil, err
	}
	if unclean && o.Durability == Strict {
		if err := settle(o.Dir); err != nil {
			return nil, err
		}
	}
	ns, err := server.NewServer(options)
	if err != nil {
		return nil, err
	}
	ns.SetLoggerV2(&logger{log: o.Logger}, false, false, false)
	go ns.Start()
	switch {
	case !ns.ReadyForConnections(startTimeout):
		err = fmt.Errorf("not ready after %s", startTimeout)
	case !ns.JetStreamEnabled():
		err = errors.New("JetStream did not start; the log says why")
	case o.Readers != nil:
		err = s.admit(ns)
	}
	if err == nil {
		err = s.Stage()
	}
	if err != nil {
		end(ns)
		return nil, err
	}
	return ns, nil
}

// errBetween is all there is to say while the server is restarted.
var errBetween = errors.New("embedded nats: is being restarted")

// InProcessConn dials the server; it makes Server a nats.InProcessConnProvider.
func (s *Server) InProcessConn() (net.Conn, error) {
	ns := s.ns.Load()
	if ns == nil {
		return nil, errBetween
	}
	return ns.InProcessConn()
}

// Credentials are the user and password of the in-process connection.
func (s *Server) Credentials() (user, password string) { return ownUser, s.keeper.own }

// PorterCredentials are those of the in-process connection in the readers' account.
func (s *Server) PorterCredentials() (user, password string) { return porterUser, s.keeper.porter }

// Shutdown flushes the streams, stops the server and waits until it has
// stopped or ctx ends. A second call does nothing. Close connections first.
func (s *Server) Shutdown(ctx context.Context) error {
	s.once.Do(func() {
		go func() {
			defer close(s.done)
			s.watching()
			<-s.watched
			s.mu.Lock()
			defer s.mu.Unlock()
			end(s.ns.Swap(nil))
			s.stopErr = errors.Join(s.staging.close(), s.lock.release())
		}()
	})
	select {
	case <-s.done:
		return s.stopErr
	case <-ctx.Done():
		return fmt.Errorf("embedded nats: still stopping: %w", ctx.Err())
	}
}

func end(ns *server.Server) {
	if ns == nil {
		return
	}
	ns.Shutdown()
	ns.WaitForShutdown()
}
