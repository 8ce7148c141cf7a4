package doorway

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
)

// bareListener accepts connections that package net knows nothing of.
type bareListener struct {
	addr net.Addr
	file *os.File
	raw  syscall.RawConn
}

// acceptBare makes a listener one whose connections cost less.
func acceptBare(l net.Listener) (net.Listener, error) {
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return l, nil
	}
	f, err := tcp.File()
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err == nil {
		err = tcp.Close() // the socket is the file's
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &bareListener{tcp.Addr(), f, raw}, nil
}

// Addr implements net.Listener.
func (l *bareListener) Addr() net.Addr { return l.addr }

// SyscallConn implements syscall.Conn.
func (l *bareListener) SyscallConn() (syscall.RawConn, error) { return l.raw, nil }

// Close implements net.Listener.
func (l *bareListener) Close() error { return ofNet(l.file.Close()) }

// Accept implements net.Listener.
func (l *bareListener) Accept() (net.Conn, error) {
	var fd int
	var from syscall.Sockaddr
	var failed error
	err := l.raw.Read(func(listener uintptr) bool {
		for {
			fd, from, failed = syscall.Accept4(int(listener), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
			switch failed {
			case syscall.EINTR, syscall.ECONNABORTED: // gone before it was accepted
			default:
				return failed != syscall.EAGAIN
			}
		}
	})
	switch {
	case err != nil:
		return nil, ofNet(err)
	case failed != nil:
		return nil, os.NewSyscallError("accept4", failed)
	}
	return &bare{fd: fd, remote: addrPort(from)}, nil
}

// addrPort is the address of a TCP socket; that of IPv4 as such, whatever it came by.
func addrPort(sa syscall.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *syscall.SockaddrInet6:
		at := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.ZoneId != 0 && at.Is6() {
			at = at.WithZone(zone(int(sa.ZoneId)))
		}
		return netip.AddrPortFrom(at, uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// zone names the interface of a link-local address.
func zone(index int) string {
	if i, err := net.InterfaceByIndex(index); err == nil {
		return i.Name
	}
	return strconv.Itoa(index)
}
