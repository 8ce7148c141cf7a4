package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// dial connects to a server of ours, and says what to do when this machine has no port
// left for that.
func dial(ctx context.Context, d *net.Dialer, addr string) (net.Conn, error) {
	conn, err := d.DialContext(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w: this machine has no port left for another connection; wait a minute, until it has forgotten those that have ended", err)
	}
	return conn, err
}
