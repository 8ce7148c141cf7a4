package doorway

import (
	"errors"
	"net"
	"syscall"
)

// keepAliveIdle and keepAliveProbes are what Go asks of each connection by default:
// seconds of silence before a probe and between two, and probes before it is given up.
const (
	keepAliveIdle   = 15
	keepAliveProbes = 9
)

// listenConfig has a listener probe silent connections. An accepted connection has
// the listener's options from the start (tcp(7)), so none of them is asked for again:
// five system calls less for each.
func listenConfig() net.ListenConfig {
	return net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = errors.Join(
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1),
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, keepAliveIdle),
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, keepAliveIdle),
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, keepAliveProbes),
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
			)
		})
		return errors.Join(err, failed)
	}}
}

// roomAhead is for how many descriptors room is made before they are needed: half a MiB
// of the kernel's memory.
const roomAhead = 64 << 10

// makeRoom has the table of this process's descriptors grow now, as far as n of them
// need. It else doubles each time it is full, and every thread that opens something waits
// for milliseconds then, until no processor reads the old one: a fleet that comes at
// once would meet that again and again.
func makeRoom(l net.Listener, n int) {
	c, ok := l.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		last := uintptr(min(n, roomAhead) - 1)
		if far, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, last); errno == 0 {
			_ = syscall.Close(int(far))
		}
	})
}
