package mqtt_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

// TestSentElsewhere: who is connected, and who connects, while the server stops is
// told another where one is known to have a door like the one it came by (4.11).
func TestSentElsewhere(t *testing.T) {
	reached := map[string]string{"mqtt": "b.example:1883", "mqtts": "b.example:8883"}
	for _, c := range []struct {
		name, door string
		known      bool
		told       packet.Reason // in DISCONNECT
		refused    packet.Reason // in CONNACK
	}{
		{"known", "mqtt", true, packet.UseAnotherServer, packet.UseAnotherServer},
		{"nobody known", "mqtt", false, packet.ServerShuttingDown, packet.ServerUnavailable},
		{"over TLS", "mqtts", true, packet.UseAnotherServer, packet.UseAnotherServer},
		{"over a WebSocket", "", true, packet.ServerShuttingDown, packet.ServerUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, v packet.Version) {
				gate := &adaptertest.Gate{}
				h := hold(gate)
				cfg := mqtt.Config{}
				if c.known {
					cfg.Elsewhere = func(door string) string { return reached[door] }
				}
				s, connect := serveDoor(t, cfg, gate, c.door)
				first, late := connect(v), connect(v)
				first.send(&packet.Connect{Version: v, CleanStart: true, ClientID: "first", KeepAlive: 60})
				want[*packet.Connack](first)
				first.send(publish(1, "first/telemetry", "x")) // keeps the server from being done
				message := h.next(t)
				poll(t, "both are accepted", func() bool { return s.Sessions() == 2 })
				stopped := make(chan error, 1)
				go func() { stopped <- s.Shutdown(context.Background()) }()
				refusesNew(t, s)
				late.send(&packet.Connect{Version: v, CleanStart: true, ClientID: "late", KeepAlive: 60})
				no := want[*packet.Connack](late)
				where := reached[c.door]
				switch {
				case v < packet.V5:
					if no.Reason != packet.V311ServerUnavailable {
						t.Errorf("refused with %v", no.Reason)
					}
				default:
					if got, _ := no.Properties.Text(packet.ServerReference); no.Reason != c.refused || c.refused == packet.UseAnotherServer && got != where {
						t.Errorf("refused with %v, sent to %q", no.Reason, got)
					}
				}
				late.wantClosed()
				late.conn.Close()
				message.done(nil)
				first.wantAck(1, packet.Success)
				if v >= packet.V5 {
					d := want[*packet.Disconnect](first)
					if got, _ := d.Properties.Text(packet.ServerReference); d.Reason != c.told || (c.told == packet.UseAnotherServer) != (got == where && got != "") {
						t.Errorf("told %v, sent to %q", d.Reason, got)
					}
				}
				first.wantClosed()
				first.conn.Close()
				if err := <-stopped; err != nil {
					t.Error(err)
				}
				left := gate.Entered()
				if len(left) != 1 || left[0].Left != device.LeftDrain {
					t.Errorf("left %+v", left)
				}
			})
		})
	}
}

// refusesNew waits until a server that drains takes no more connections.
func refusesNew(t *testing.T, s *mqtt.Server) {
	t.Helper()
	poll(t, "nobody new comes in", func() bool {
		conn, err := net.Dial("tcp", addr(s))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
}

// serverTLS is a certificate that nobody vouches for.
func serverTLS(t *testing.T) *tls.Config {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	return &tls.Config{Certificates: server.TLS.Certificates}
}

// serveDoor is a server, and how to come to it: by a listener, with TLS or without,
// or as a WebSocket does.
func serveDoor(t *testing.T, cfg mqtt.Config, gate *adaptertest.Gate, door string) (*mqtt.Server, func(packet.Version) *wire) {
	t.Helper()
	if door == "mqtts" {
		cfg.TLSAddr, cfg.TLS = "127.0.0.1:0", serverTLS(t)
	}
	s := serve(t, cfg, gate)
	return s, func(v packet.Version) *wire {
		var conn net.Conn
		var err error
		switch door {
		case "mqtts":
			conn, err = tls.Dial("tcp", s.Addrs()["mqtts"].String(), &tls.Config{InsecureSkipVerify: true})
		case "":
			var served net.Conn
			conn, served = pipe(t)
			s.ServeConn(served)
		default:
			return dial(t, s, v)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return &wire{t: t, conn: conn, r: packet.NewReader(conn, v, packet.MaxPacketBytes), v: v}
	}
}

// pipe is both ends of a connection.
func pipe(t *testing.T) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// TestCutOffSentElsewhere: a node that is cut off from the others sends its clients
// to one of them, when it knows where; and what no reference fits in goes without.
func TestCutOffSentElsewhere(t *testing.T) {
	var at atomic.Value
	at.Store("")
	gate := &adaptertest.Gate{}
	s := serve(t, mqtt.Config{Elsewhere: func(string) string { return at.Load().(string) }}, gate)
	for i, want1 := range []string{"", "b.example:1883"} {
		at.Store(want1)
		p := join(t, s, packet.V5, "dev1")
		gate.Entered()[i].End(device.LeftNodeLost)
		d := want[*packet.Disconnect](p)
		if got, _ := d.Properties.Text(packet.ServerReference); d.Reason != packet.UseAnotherServer || got != want1 {
			t.Errorf("told %v, sent to %q", d.Reason, got)
		}
	}
	narrow := dial(t, s, packet.V5)
	c := &packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "narrow"}
	c.Properties.AddNumber(packet.MaximumPacketSize, 40)
	narrow.send(c)
	want[*packet.Connack](narrow)
	i := slices.IndexFunc(gate.Entered(), func(e adaptertest.Entered) bool { return e.Client == "narrow" })
	gate.Entered()[i].End(device.LeftNodeLost)
	d := want[*packet.Disconnect](narrow)
	if got, _ := d.Properties.Text(packet.ServerReference); d.Reason != packet.UseAnotherServer || got != "b.example:1883" {
		t.Errorf("told %v, sent to %q", d.Reason, got)
	}
}
