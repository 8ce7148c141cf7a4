package amqp_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
)

// raw is a peer that writes the frames a test wants, right or wrong.
type raw struct {
	t testing.TB
	net.Conn
}

func dialRaw(t testing.TB, s adapters.Adapter) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", addr(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &raw{t, conn}
}

func (r *raw) bytes(b ...byte) {
	r.t.Helper()
	if _, err := r.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) header(proto uint8) {
	h := wire.ProtocolHeader(proto)
	r.bytes(h[:]...)
}

func (r *raw) send(channel uint16, p wire.Performative, payload ...byte) {
	r.t.Helper()
	r.bytes(wire.AppendFrame(nil, wire.FrameAMQP, channel, p, payload)...)
}

// next reads the next frame that is not a heartbeat.
func (r *raw) next() (wire.Performative, []byte) {
	r.t.Helper()
	for {
		h, err := wire.ReadFrameHeader(r, 1<<20)
		if err != nil {
			r.t.Fatal(err)
		}
		body, err := h.ReadBody(r, make([]byte, h.Size))
		if err != nil {
			r.t.Fatal(err)
		}
		if len(body) == 0 {
			continue
		}
		p, payload, err := wire.DecodePerformative(body)
		if err != nil {
			r.t.Fatal(err)
		}
		return p, payload
	}
}

// want reads frames up to one of the type.
func want[P wire.Performative](r *raw) P {
	r.t.Helper()
	for {
		p, _ := r.next()
		if p, ok := p.(P); ok {
			return p
		}
		if c, ok := p.(*wire.Close); ok {
			r.t.Fatalf("closed: %v", c.Error)
		}
	}
}

// gone wants the connection closed by the other side.
func (r *raw) gone() {
	r.t.Helper()
	if _, err := io.Copy(io.Discard, r); errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Error("the connection is still open")
	}
}

// open goes as far as an open connection with a session on channel 0.
func openRaw(t testing.TB, s adapters.Adapter, o *wire.Open) *raw {
	t.Helper()
	r := dialRaw(t, s)
	r.header(wire.ProtoAMQP)
	r.send(0, o) // pipelined
	r.send(0, &wire.Begin{IncomingWindow: 100, OutgoingWindow: 100, HandleMax: 10})
	var h [8]byte
	if _, err := io.ReadFull(r, h[:]); err != nil || h != wire.ProtocolHeader(wire.ProtoAMQP) {
		t.Fatalf("header %x, %v", h, err)
	}
	want[*wire.Open](r)
	want[*wire.Begin](r)
	return r
}

var plainOpen = &wire.Open{ContainerID: "raw", MaxFrameSize: 4096, ChannelMax: 10}

func attach(name string, handle uint32, at string) *wire.Attach {
	return &wire.Attach{Name: name, Handle: handle, SndSettleMode: wire.SndMixed, Source: &wire.Source{},
		Target: &wire.Target{Address: wire.Some(at)}, InitialDeliveryCount: wire.Some[uint32](0)}
}

func attachReceiver(name string, handle uint32, at string) *wire.Attach {
	return &wire.Attach{Name: name, Handle: handle, Role: wire.RoleReceiver, Source: &wire.Source{Address: wire.Some(at)}, Target: &wire.Target{}}
}

func transfer(handle, id uint32, more bool) *wire.Transfer {
	return &wire.Transfer{Handle: handle, DeliveryID: wire.Some(id), DeliveryTag: []byte{byte(id)}, More: more}
}

func body(t testing.TB, s string) []byte {
	b, err := wire.AppendMessage(nil, &wire.Message{Body: []byte(s)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
