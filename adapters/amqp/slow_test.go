package amqp_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	client "github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
)

// TestReceiverThatReadsNothing: a peer that gives credit for everything and takes no
// bytes has little asked for it, is cut, and what it was sent goes to another.
func TestReceiverThatReadsNothing(t *testing.T) {
	gate := &adaptertest.Gate{}
	s := serve(t, amqp.Config{WriteTimeout: time.Second}, gate)
	shared := []wire.Symbol{"shared", "global"}
	const messages, size = 40, 256 << 10
	for i := range messages {
		stored(gate, "default", "d", "", fmt.Sprint(i)+strings.Repeat(" ", size))
	}
	// A pipe, because the kernel's buffers take very much.
	ours, theirs := net.Pipe()
	defer ours.Close()
	_ = ours.SetDeadline(time.Now().Add(patience))
	s.ServeConn(theirs)
	stuck := &raw{t, ours}
	a := attachReceiver("jobs", 0, "telemetry")
	a.Source.Capabilities = shared
	a.Source.Filter = wire.Map{{Key: wire.Symbol("from"), Value: wire.Described{Descriptor: wire.Symbol("tributary:from"), Value: "first"}}}
	header := wire.ProtocolHeader(wire.ProtoAMQP)
	begin := header[:]
	for _, p := range []wire.Performative{
		&wire.Open{ContainerID: "stuck", MaxFrameSize: 64 << 10, ChannelMax: 10}, &wire.Begin{IncomingWindow: 100, OutgoingWindow: 100, HandleMax: 10}, a,
		&wire.Flow{NextIncomingID: wire.Some[uint32](0), IncomingWindow: 1 << 20, OutgoingWindow: 100,
			Handle: wire.Some[uint32](0), DeliveryCount: wire.Some[uint32](0), LinkCredit: wire.Some[uint32](10_000)},
	} {
		begin = wire.AppendFrame(begin, wire.FrameAMQP, 0, p, nil)
	}
	go func() { _, _ = ours.Write(begin) }()
	if _, err := io.ReadFull(ours, make([]byte, len(header))); err != nil {
		t.Fatal(err)
	}
	want[*wire.Transfer](stuck)
	until(t, gate, "it is cut", func() bool { return gate.Readers() == 0 })

	_, session := dial(t, s, nil)
	r := receiver(t, session, "telemetry", &client.ReceiverOptions{Name: "jobs", SourceCapabilities: []string{"shared", "global"}})
	began := 0
	for i := range messages {
		m := receive(t, r, fmt.Sprint(i)+strings.Repeat(" ", size))
		if m.Header != nil && m.Header.DeliveryCount > 0 {
			began++
		}
		if err := r.AcceptMessage(soon(t), m); err != nil {
			t.Fatal(err)
		}
	}
	if began == 0 || began > messages/2 {
		t.Errorf("%d of %d messages had been asked for: too many, or none at all", began, messages)
	}
}
