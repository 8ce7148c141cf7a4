package amqp_test

import (
	"io"
	"net"
	"testing"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
)

// BenchmarkReceive is what one unsettled message of 200 bytes costs the door, on
// many links with 50 in flight each, in front of a house that says yes at once.
func BenchmarkReceive(b *testing.B) {
	const links, inFlight = 20, 50
	gate := &adaptertest.Gate{OnSubmit: func(_ *device.Message, done func(error)) error { done(nil); return nil }}
	s := serve(b, amqp.Config{}, gate)
	message := &wire.Message{ContentType: "application/json", Body: []byte(`{"temperature":21.5,"humidity":40,"state":"running","note":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}`)}
	raw, err := wire.AppendMessage(nil, message)
	if err != nil {
		b.Fatal(err)
	}
	conn, err := net.Dial("tcp", addr(s))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	r := &loader{b, conn}
	r.open(links)
	b.ReportAllocs()
	b.ResetTimer()
	r.load(b.N, links, inFlight, raw)
}

// loader is a peer that costs as little as it can.
type loader struct {
	b *testing.B
	net.Conn
}

func (r *loader) open(links int) {
	header := wire.ProtocolHeader(wire.ProtoAMQP)
	out := wire.AppendFrame(header[:], wire.FrameAMQP, 0, plainOpen, nil)
	out = wire.AppendFrame(out, wire.FrameAMQP, 0, &wire.Begin{IncomingWindow: 1 << 20, OutgoingWindow: 1 << 20, HandleMax: 1000}, nil)
	for i := range links {
		at := attach(string(rune('a'+i)), uint32(i), "d/telemetry")
		out = wire.AppendFrame(out, wire.FrameAMQP, 0, at, nil)
	}
	if _, err := r.Write(out); err != nil {
		r.b.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 8)); err != nil {
		r.b.Fatal(err)
	}
	for flows := 0; flows < links; {
		if _, ok := r.next().(*wire.Flow); ok {
			flows++
		}
	}
}

func (r *loader) next() wire.Performative {
	h, err := wire.ReadFrameHeader(r, 1<<20)
	if err != nil {
		r.b.Fatal(err)
	}
	body, err := h.ReadBody(r, make([]byte, h.Size))
	if err != nil {
		r.b.Fatal(err)
	}
	p, _, err := wire.DecodePerformative(body)
	if err != nil {
		r.b.Fatal(err)
	}
	return p
}

// load sends n messages and reads their outcomes, so many at a time on each link.
func (r *loader) load(n, links, inFlight int, message []byte) {
	for sent := 0; sent < n; {
		var out []byte
		round := min(n-sent, links*inFlight)
		for i := range round {
			id := uint32(sent + i)
			out = wire.AppendFrame(out, wire.FrameAMQP, 0, transfer(uint32(i%links), id, false), message)
		}
		if _, err := r.Write(out); err != nil {
			r.b.Fatal(err)
		}
		for told := 0; told < round; {
			if d, ok := r.next().(*wire.Disposition); ok {
				told += int(d.Last.Or(d.First)-d.First) + 1
			}
		}
		sent += round
	}
}
