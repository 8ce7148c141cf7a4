package mqtt_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
)

// FuzzConnection sends anything at all, behind a sound CONNECT or without one:
// the connection ends, and not by a fault of ours.
func FuzzConnection(f *testing.F) {
	reg := prometheus.NewRegistry()
	s := serve(f, mqtt.Config{Registerer: reg, MaxMessageBytes: 1000}, &adaptertest.Gate{})
	for _, p := range []packet.Packet{
		publish(1, "telemetry", "1"), publish(0, "responses/C/200", ""), packet.Pingreq{}, &packet.Disconnect{},
		&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "commands/#", QoS: 1}}}, &packet.Unsubscribe{ID: 1, Filters: []string{"commands"}},
		&packet.Ack{Kind: packet.PUBACK, ID: 1}, &packet.Ack{Kind: packet.PUBREL, ID: 1}, &packet.Connect{Version: packet.V5},
	} {
		for _, v := range []packet.Version{0, packet.V311, packet.V5} {
			b, _ := p.Append(nil, max(v, packet.V311))
			f.Add(byte(v), b)
		}
	}
	f.Fuzz(func(t *testing.T, version byte, b []byte) {
		conn, err := net.Dial("tcp", addr(s))
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			return // a long run has every port of this machine in TIME_WAIT: nothing was sent
		}
		if err != nil {
			t.Fatalf("the door is gone: %v", err)
		}
		defer conn.Close()
		if v := packet.Version(version); v == packet.V311 || v == packet.V5 {
			hello, _ := (&packet.Connect{Version: v, CleanStart: true}).Append(nil, v)
			b = append(hello, b...)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = conn.Write(b)
		_ = conn.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, conn); err != nil {
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				t.Fatalf("still open after % x", b)
			}
		}
		if gathered(t, reg, "tributary_mqtt_panics_total") != 0 {
			t.Fatalf("a fault of ours after % x", b)
		}
	})
}
