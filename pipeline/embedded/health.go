package embedded

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// fault is why the server does not store messages.
type fault struct {
	err   error
	since time.Time
}

// Healthy says whether messages can be stored now. A failed write or fsync is
// sticky: what the disk holds is not known any more, the stream answers nobody,
// and the server is restarted once the disk takes data again (mend.go).
func (s *Server) Healthy() error {
	if f := s.fault.Load(); f != nil {
		return fmt.Errorf("embedded nats: since %s: %w", f.since.UTC().Format(time.RFC3339), f.err)
	}
	ns := s.ns.Load()
	if ns == nil || !ns.Running() {
		return errors.New("embedded nats: stopped")
	}
	if err := s.looks.at(ns); err != nil {
		return fmt.Errorf("embedded nats: %w", err)
	}
	if s.opts.MaxStore == 0 {
		return nil
	}
	return full(ns)
}

// Restarts is how many times the server was restarted in place.
func (s *Server) Restarts() uint64 { return s.restarts.Load() }

// sick is what a restart is the cure for: a stream with a sticky error, or one
// that could not be recovered.
func sick(ns *server.Server) error {
	return firstFault(ns, func(server.HealthzError) bool { return true })
}

// failing is sick of a server that runs. There a stream that "could not be
// recovered" is one that is being made: its directory is there before it is.
func failing(ns *server.Server) error {
	return firstFault(ns, func(e server.HealthzError) bool {
		return e.Type != server.HealthzErrorStream || !strings.Contains(e.Error, "could not be recovered")
	})
}

// firstFault passes over one kind of error: the server takes a millisecond for
// the time in which a goroutine of its own must run, and on a machine that is
// busy it does not. That is no fault of a disk, and a restart would make it worse.
func firstFault(ns *server.Server, counts func(server.HealthzError) bool) error {
	for _, e := range ns.Healthz(&server.HealthzOptions{Details: true}).Errors {
		if e.Type != server.HealthzErrorConn && counts(e) {
			return errors.New(e.Error)
		}
	}
	return nil
}

// full says that the streams have reached their limit: new messages are refused
// until there is room.
func full(ns *server.Server) error {
	j, err := ns.Jsz(&server.JSzOptions{})
	if err != nil {
		return fmt.Errorf("embedded nats: %w", err)
	}
	if limit := j.Config.MaxStore; limit > 0 && j.Store >= uint64(limit) {
		return fmt.Errorf("embedded nats: the streams hold %d bytes of the %d they may; give them more", j.Store, limit)
	}
	return nil
}
