package doorway

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// bare is an accepted connection that the runtime's poller knows nothing of until it has
// to be waited for. One whose client has sent what it has to say, and then waits for what
// it is told, may never be: package parking waits for it. So making it and keeping it
// cost less than a connection of package net.
type bare struct {
	remote netip.AddrPort
	file   atomic.Pointer[os.File] // with the poller, once it had to be waited for

	mu      sync.Mutex
	fd      int // the same as of file; -1: closed
	readBy  time.Time
	writeBy time.Time
}

// Read implements net.Conn.
func (c *bare) Read(b []byte) (int, error) {
	f := c.file.Load()
	if f == nil {
		var n int
		var err error
		if n, f, err = c.readNow(b); f == nil {
			return n, c.failed("read", err)
		}
	}
	n, err := f.Read(b)
	return n, c.failed("read", err)
}

// readNow reads what is there. Where nothing is, it answers what is to be read from.
func (c *bare) readNow(b []byte) (n int, wait *os.File, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait, err = c.ready(c.readBy); wait != nil || err != nil {
		return 0, wait, err
	}
	for {
		switch n, err = syscall.Read(c.fd, b); {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			wait, err = c.awaited()
			return 0, wait, err
		case err != nil:
			return 0, nil, err
		case n == 0 && len(b) > 0:
			return 0, nil, io.EOF
		default:
			return n, nil, nil
		}
	}
}

// Write implements net.Conn.
func (c *bare) Write(b []byte) (int, error) {
	f, n := c.file.Load(), 0
	if f == nil {
		var err error
		if n, f, err = c.writeNow(b); f == nil {
			return n, c.failed("write", err)
		}
	}
	more, err := f.Write(b[n:])
	return n + more, c.failed("write", err)
}

// writeNow writes what is taken at once. Where that is not all, it answers what is to be
// written to.
func (c *bare) writeNow(b []byte) (n int, wait *os.File, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait, err = c.ready(c.writeBy); wait != nil || err != nil {
		return 0, wait, err
	}
	for n < len(b) {
		switch some, err := syscall.Write(c.fd, b[n:]); {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			wait, err = c.awaited()
			return n, wait, err
		case err != nil:
			return n, nil, err
		default:
			n += some
		}
	}
	return n, nil, nil
}

// ready answers what is to be used instead, if that came to be, or why nothing is; mu is
// held.
func (c *bare) ready(by time.Time) (*os.File, error) {
	switch f := c.file.Load(); {
	case c.fd < 0:
		return nil, net.ErrClosed
	case f != nil:
		return f, nil
	case !by.IsZero() && !time.Now().Before(by):
		return nil, os.ErrDeadlineExceeded
	}
	return nil, nil
}

// awaited makes the connection one that the runtime waits for; mu is held.
func (c *bare) awaited() (*os.File, error) {
	f := os.NewFile(uintptr(c.fd), "tcp")
	err := f.SetReadDeadline(c.readBy)
	if err == nil && !c.writeBy.IsZero() {
		err = f.SetWriteDeadline(c.writeBy)
	}
	if err != nil { // the poller did not take it
		c.fd = -1
		_ = f.Close()
		return nil, err
	}
	c.file.Store(f)
	return f, nil
}

// failed is an error as package net would have it.
func (c *bare) failed(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Addr: c.RemoteAddr(), Err: ofNet(err)}
}

// ofNet is the cause of what happened to a file, as package net would have it.
func ofNet(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	if errors.Is(err, os.ErrClosed) {
		return net.ErrClosed
	}
	return err
}

// Close implements net.Conn.
func (c *bare) Close() error {
	c.mu.Lock()
	fd, f := c.fd, c.file.Load()
	c.fd = -1
	if f == nil && fd >= 0 {
		defer c.mu.Unlock() // so that nobody uses it meanwhile
		return os.NewSyscallError("close", syscall.Close(fd))
	}
	c.mu.Unlock()
	if fd < 0 {
		return net.ErrClosed
	}
	return f.Close() // waits for those who read and write
}

// CloseWrite is that of net.TCPConn.
func (c *bare) CloseWrite() error {
	var err error
	control := (*bareFile)(c).Control(func(fd uintptr) { err = syscall.Shutdown(int(fd), syscall.SHUT_WR) })
	return errors.Join(control, os.NewSyscallError("shutdown", err))
}

// SetDeadline implements net.Conn.
func (c *bare) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *bare) SetReadDeadline(t time.Time) error {
	return c.by(&c.readBy, t, (*os.File).SetReadDeadline)
}

// SetWriteDeadline implements net.Conn.
func (c *bare) SetWriteDeadline(t time.Time) error {
	return c.by(&c.writeBy, t, (*os.File).SetWriteDeadline)
}

func (c *bare) by(deadline *time.Time, t time.Time, set func(*os.File, time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.file.Load()
	switch {
	case c.fd < 0:
		return net.ErrClosed
	case f != nil:
		return ofNet(set(f, t))
	}
	*deadline = t
	return nil
}

// RemoteAddr implements net.Conn.
func (c *bare) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// LocalAddr implements net.Conn. It asks the system; of a closed connection there is none.
func (c *bare) LocalAddr() net.Addr {
	var local netip.AddrPort
	_ = (*bareFile)(c).Control(func(fd uintptr) {
		if sa, err := syscall.Getsockname(int(fd)); err == nil {
			local = addrPort(sa)
		}
	})
	return net.TCPAddrFromAddrPort(local)
}

// SyscallConn implements syscall.Conn.
func (c *bare) SyscallConn() (syscall.RawConn, error) { return (*bareFile)(c), nil }

// bareFile is the file of a connection.
type bareFile bare

// Control implements syscall.RawConn.
func (c *bareFile) Control(f func(fd uintptr)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return net.ErrClosed
	}
	f(uintptr(c.fd))
	return nil
}

// Read implements syscall.RawConn.
func (c *bareFile) Read(f func(fd uintptr) bool) error {
	raw, err := c.raw()
	if err != nil {
		return err
	}
	return ofNet(raw.Read(f))
}

// Write implements syscall.RawConn.
func (c *bareFile) Write(f func(fd uintptr) bool) error {
	raw, err := c.raw()
	if err != nil {
		return err
	}
	return ofNet(raw.Write(f))
}

func (c *bareFile) raw() (syscall.RawConn, error) {
	b := (*bare)(c)
	b.mu.Lock()
	defer b.mu.Unlock()
	file, err := b.ready(time.Time{})
	if file == nil && err == nil {
		file, err = b.awaited()
	}
	if err != nil {
		return nil, err
	}
	return file.SyscallConn()
}
