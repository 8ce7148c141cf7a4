package embedded

import (
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// StartStuck starts a server that answers nobody how it is until release is
// closed, and counts as stuck after a time.
func StartStuck(o Options, release <-chan struct{}, after time.Duration) (*Server, error) {
	o.stuckAfter = after
	o.probe = func(*server.Server) error { <-release; return nil }
	return Start(o)
}
