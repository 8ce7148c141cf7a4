package bench

import (
	"errors"
	"net"
	"syscall"
)

// bindAddressNoPort is IP_BIND_ADDRESS_NO_PORT of ip(7), which package syscall has not.
const bindAddressNoPort = 24

// from answers a dialer from an address of this machine. A port is chosen when the
// connection is made, from those that are free between it and the server: asked for
// before, Linux would keep it from every other connection, to any server, until a minute
// after the end of this one, and some 28,000 of them would be all there are.
func from(ip net.IP) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}, Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, bindAddressNoPort, 1)
		})
		return errors.Join(err, failed)
	}}
}
