package doorway

import (
	"net"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"testing"
)

// TestSilentConnectionsAreProbed: an accepted connection has the options of its listener.
func TestSilentConnectionsAreProbed(t *testing.T) {
	d, err := Open(Config{Name: "test", Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	client, err := net.Dial("tcp", d.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := d.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]struct{ level, option, want int }{
		"SO_KEEPALIVE":  {syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		"TCP_KEEPIDLE":  {syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15},
		"TCP_KEEPINTVL": {syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 15},
		"TCP_KEEPCNT":   {syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 9},
		"TCP_NODELAY":   {syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1},
	} {
		var got int
		var failed error
		err := raw.Control(func(fd uintptr) { got, failed = syscall.GetsockoptInt(int(fd), o.level, o.option) })
		if err != nil || failed != nil || got != o.want {
			t.Errorf("%s is %d, want %d (%v, %v)", name, got, o.want, err, failed)
		}
	}
}

// TestRoomForDescriptors: the table has grown before the connections come.
func TestRoomForDescriptors(t *testing.T) {
	const connections = 900 // of the 1024 descriptors that any system allows
	d, err := Open(Config{Name: "test", Addr: "127.0.0.1:0", Max: connections})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	size := regexp.MustCompile(`FDSize:\s*(\d+)`).FindSubmatch(raw)
	if size == nil {
		t.Fatal("/proc tells no FDSize")
	}
	if n, err := strconv.Atoi(string(size[1])); err != nil || n < connections {
		t.Errorf("there is room for %d descriptors (%v), want %d", n, err, connections)
	}
}
