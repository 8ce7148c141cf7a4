package https_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/https"
	"github.com/tributary-iot/tributary/device"
)

// BenchmarkPost is the cost of one telemetry message on a kept-alive
// connection, decoding included, storing and a real client left out: the peer
// writes the same bytes again and again.
func BenchmarkPost(b *testing.B) {
	server, err := https.Open(https.Config{Addr: "127.0.0.1:0"}, nowhere{})
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = server.Serve() }()
	defer func() { _ = server.Shutdown(context.Background()) }()
	body := `{"temperature":21.53,"humidity":40,"state":"` + strings.Repeat("x", 154) + `"}`
	request := fmt.Sprintf("POST /v1/devices/dev1/telemetry/line HTTP/1.1\r\nHost: x\r\nUser-Agent: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	b.ReportAllocs()
	b.SetParallelism(25)
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", server.Addrs()["http"].String())
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		answers := bufio.NewReader(conn)
		for pb.Next() {
			if _, err := io.WriteString(conn, request); err != nil {
				b.Error(err)
				return
			}
			for line := ""; line != "\r\n"; {
				if line, err = answers.ReadString('\n'); err != nil || strings.HasPrefix(line, "HTTP/") && !strings.Contains(line, " 204 ") {
					b.Errorf("%q: %v", line, err)
					return
				}
			}
		}
	})
}

// nowhere is a gate that says yes at once.
type nowhere struct{ adapters.Gate }

func (nowhere) Authenticate(_ context.Context, c device.Credential) (device.Principal, error) {
	return device.Principal{ID: device.ID{Tenant: device.DefaultTenant, Device: c.Hint}, Kind: device.KindDevice, Open: true}, nil
}

func (nowhere) Submit(_ *device.Message, done func(error)) error {
	done(nil)
	return nil
}
