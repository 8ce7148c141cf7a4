// Package parking keeps connections that have nothing to say, without a
// goroutine for each: a Lot waits for all of them at once and wakes the one that
// has something to read.
package parking

import (
	"net"
	"syscall"
)

// A Waiter is told once, from the Lot's goroutine, that its connection has
// something to read or has ended. It must not block.
type Waiter interface{ Wake() }

// Possible reports whether a Lot takes connections like this one, on this system.
func Possible(conn net.Conn) bool { return supported && rawConn(conn) != nil }

// rawConn answers the file behind a connection that is bytes of the network and
// nothing else. TLS and WebSockets are not: they may hold input already read.
func rawConn(conn net.Conn) syscall.RawConn {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}
