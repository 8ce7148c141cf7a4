package amqp_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
)

// FuzzConnection sends anything at all, behind a sound handshake of so many
// steps: the connection ends, and not by a fault of ours.
func FuzzConnection(f *testing.F) {
	reg := prometheus.NewRegistry()
	s := serve(f, amqp.Config{Registerer: reg, MaxMessageBytes: 1000, MaxFrameSize: 4096, DrainGrace: time.Millisecond}, &adaptertest.Gate{})
	steps := handshake()
	for n := range len(steps) + 1 {
		f.Add(byte(n), wire.AppendFrame(nil, wire.FrameAMQP, 0, &wire.Close{}, nil))
		f.Add(byte(n), []byte("AMQP\x03\x01\x00\x00"))
	}
	f.Add(byte(len(steps)), wire.AppendFrame(nil, wire.FrameAMQP, 0, &wire.Transfer{
		DeliveryID: wire.Some(uint32(0)), DeliveryTag: []byte("t"), MessageFormat: wire.Some(uint32(0)),
	}, []byte("\x00\x53\x75\xa0\x011")))
	f.Add(byte(len(steps)), wire.AppendFrame(nil, wire.FrameAMQP, 0, &wire.Flow{Handle: wire.Some(uint32(1)), LinkCredit: wire.Some(uint32(5)), Drain: true}, nil))
	f.Add(byte(len(steps)), wire.AppendFrame(nil, wire.FrameAMQP, 0, &wire.Flow{Handle: wire.Some(uint32(2)), LinkCredit: wire.Some(uint32(5)), Drain: true}, nil))
	f.Add(byte(len(steps)), wire.AppendFrame(nil, wire.FrameAMQP, 0, &wire.Attach{
		Name: "command", Handle: 4, Role: wire.RoleSender, Target: &wire.Target{Address: wire.Some("x/commands")}, InitialDeliveryCount: wire.Some(uint32(0)),
	}, nil))
	f.Fuzz(func(t *testing.T, sound byte, b []byte) {
		conn, err := net.Dial("tcp", addr(s))
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			return // a long run has every port of this machine in TIME_WAIT: nothing was sent
		}
		if err != nil {
			t.Fatalf("the door is gone: %v", err)
		}
		defer conn.Close()
		var all []byte
		for _, step := range steps[:min(int(sound), len(steps))] {
			all = append(all, step...)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = conn.Write(append(all, b...))
		_ = conn.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, conn); err != nil {
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				t.Fatalf("still open after %d steps and % x", sound, b)
			}
		}
		if panics(t, reg) != 0 {
			t.Fatalf("a fault of ours after %d steps and % x", sound, b)
		}
	})
}

// TestFuzzedHandshakeIsSound: what FuzzConnection puts its bytes behind is taken.
func TestFuzzedHandshakeIsSound(t *testing.T) {
	r := dialRaw(t, serve(t, amqp.Config{}, &adaptertest.Gate{}))
	for _, step := range handshake() {
		r.bytes(step...)
	}
	if _, err := io.ReadFull(r, make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	for attached := 0; attached < 4; attached++ {
		if a := want[*wire.Attach](r); a.Role == wire.RoleReceiver && a.Target == nil || a.Role == wire.RoleSender && a.Source == nil {
			t.Errorf("attached %+v", a)
		}
	}
}

// handshake is what a peer sends until all its links are attached.
func handshake() [][]byte {
	frame := func(p wire.Performative) []byte { return wire.AppendFrame(nil, wire.FrameAMQP, 0, p, nil) }
	header := wire.ProtocolHeader(0)
	return [][]byte{
		header[:],
		frame(&wire.Open{ContainerID: "dev1", MaxFrameSize: 4096}),
		frame(&wire.Begin{NextOutgoingID: 0, IncomingWindow: 100, OutgoingWindow: 100, HandleMax: 10}),
		frame(&wire.Attach{Name: "up", Handle: 0, Role: wire.RoleSender, Target: &wire.Target{Address: wire.Some("dev1/telemetry")}, InitialDeliveryCount: wire.Some(uint32(0))}),
		frame(&wire.Attach{Name: "down", Handle: 1, Role: wire.RoleReceiver, Source: &wire.Source{Address: wire.Some("dev1/commands")}}),
		frame(&wire.Attach{Name: "read", Handle: 2, Role: wire.RoleReceiver, Source: &wire.Source{Address: wire.Some("telemetry")}}),
		frame(&wire.Attach{Name: "reply", Handle: 3, Role: wire.RoleReceiver, Source: &wire.Source{Dynamic: true}}),
	}
}

func panics(t *testing.T, reg *prometheus.Registry) (n float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "tributary_amqp_panics_total" {
			for _, m := range family.GetMetric() {
				n += m.GetCounter().GetValue()
			}
			return n
		}
	}
	t.Fatal("no panics counted at all")
	return 0
}
