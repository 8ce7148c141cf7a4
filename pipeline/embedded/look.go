package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sync/singleflight"
)

const (
	lookPatience = time.Second
	stuckAfter   = time.Minute
)

// errSilent is no fault of the disk: the machine is busy, or a stream of the
// server holds a lock that it does not give back (nats-server 2.15.2 does that
// when a purge finds the disk full).
var errSilent = errors.New("the server does not say whether it is well")

// looks asks a server how it is, and waits for no longer than lookPatience. One
// that does not answer is not asked a second time meanwhile.
type looks struct {
	flights singleflight.Group
	probe   func(*server.Server) error
}

func (l *looks) at(ns *server.Server) error {
	t := time.NewTimer(lookPatience)
	defer t.Stop()
	select {
	case r := <-l.flights.DoChan(fmt.Sprintf("%p", ns), func() (any, error) { return nil, l.probe(ns) }):
		return r.Err
	case <-t.C:
		return errSilent
	}
}

// Run waits until ctx ends. It ends earlier, with an error, when the server has
// been silent for a minute: it is stuck, cannot even be stopped, and only a new
// process helps. What was acknowledged is on the disk.
func (s *Server) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.stuck:
		return fmt.Errorf("embedded nats: %w for %s; this process has to be started anew", errSilent, s.opts.stuckAfter)
	}
}
