package bench

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/tributary-iot/tributary/internal/peer"
)

// localPortRange is IP_LOCAL_PORT_RANGE of ip(7), since Linux 6.3: from which ports one
// is chosen, the last in the upper half and the first in the lower.
const (
	localPortRange = 51
	somePorts      = 45_003<<16 | 45_000
)

// TestPortsAreFreeForOtherServers: connections to one server, which have taken all ports of
// their address, leave them to connections to another; whose do not find one is told why.
func TestPortsAreFreeForOtherServers(t *testing.T) {
	d := from(net.IPv4(127, 0, 1, 77))
	given := d.Control
	d.Control = func(network, address string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, localPortRange, somePorts)
		})
		return errors.Join(err, failed, given(network, address, c))
	}
	connect := func(addr string) error {
		conn, err := dial(t.Context(), d, addr)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return err
	}
	first, second := listen(t), listen(t)
	err := connect(first)
	if errors.Is(err, syscall.ENOPROTOOPT) {
		peer.Kernel(t, "IP_LOCAL_PORT_RANGE (Linux 6.3)")
	}
	n := 0
	for ; err == nil; n++ {
		err = connect(first)
	}
	if n == 0 || n > 4 || !strings.Contains(err.Error(), "no port left") {
		t.Fatalf("%d connections, then %v", n, err)
	}
	for i := range n {
		if err := connect(second); err != nil {
			t.Fatalf("connection %d of %d to another server: %v", i+1, n, err)
		}
	}
}

// listen answers where connections are taken and kept waiting.
func listen(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
