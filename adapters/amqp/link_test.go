package amqp_test

import (
	"io"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
)

// Everything up to the first message in one segment, SASL before it.
func TestPipelinedOpens(t *testing.T) {
	gate := &adaptertest.Gate{}
	r := dialRaw(t, serve(t, amqp.Config{}, gate))
	sasl, plain := wire.ProtocolHeader(wire.ProtoSASL), wire.ProtocolHeader(wire.ProtoAMQP)
	all := append(sasl[:], wire.AppendFrame(nil, wire.FrameSASL, 0, &wire.SASLInit{Mechanism: wire.MechAnonymous}, nil)...)
	all = append(all, plain[:]...)
	for _, p := range []wire.Performative{plainOpen, &wire.Begin{IncomingWindow: 10, OutgoingWindow: 10}, attach("l", 0, "d/telemetry")} {
		all = wire.AppendFrame(all, wire.FrameAMQP, 0, p, nil)
	}
	r.bytes(all...)
	var h [8]byte
	if _, err := io.ReadFull(r, h[:]); err != nil || h != sasl {
		t.Fatalf("header %x, %v", h, err)
	}
	want[*wire.SASLMechanisms](r)
	if o := want[*wire.SASLOutcome](r); o.Code != wire.SASLOK {
		t.Fatalf("outcome %d", o.Code)
	}
	if _, err := io.ReadFull(r, h[:]); err != nil || h != plain {
		t.Fatalf("header %x, %v", h, err)
	}
	want[*wire.Open](r)
	want[*wire.Begin](r)
	want[*wire.Attach](r)
	if f := want[*wire.Flow](r); f.LinkCredit.Value == 0 {
		t.Errorf("flow %+v", f)
	}
}

// A link that is attached again under its name is the newer one's.
func TestStolenLinks(t *testing.T) {
	gate := &adaptertest.Gate{}
	r := openRaw(t, serve(t, amqp.Config{}, gate), plainOpen)
	for handle, at := range []func(string, uint32, string) *wire.Attach{attach, attachReceiver} {
		first, second := uint32(handle), uint32(handle+2)
		node := []string{"d/telemetry", "d/commands"}[handle]
		r.send(0, at("same", first, node))
		r.send(0, at("same", second, node))
		if d := want[*wire.Detach](r); d.Handle != first || !d.Closed || d.Error == nil || d.Error.Condition != wire.CondStolen {
			t.Errorf("detached %+v", d)
		}
		if a := want[*wire.Attach](r); a.Handle != second {
			t.Errorf("attached %+v", a)
		}
	}
	r.send(0, transfer(2, 0, false), body(t, "1")...)
	if o := want[*wire.Disposition](r); o.State != (wire.Accepted{}) {
		t.Errorf("answered with %+v", o)
	}
	until(t, gate, "one session of the device", func() bool { return gate.Sessions(idOf("d")) == 1 })
}

// Deliveries of a link that is gone are nobody's here, and are passed over (part
// 2, section 6.13).
func TestResumedDeliveriesAreIgnored(t *testing.T) {
	gate := &adaptertest.Gate{}
	r := openRaw(t, serve(t, amqp.Config{}, gate), plainOpen)
	r.send(0, attach("l", 0, "d/telemetry"))
	for id, pieces := range []int{1, 3} {
		x := transfer(0, uint32(id), pieces > 1)
		x.Resume = true
		r.send(0, x, body(t, "old")...)
		for n := 1; n < pieces; n++ {
			r.send(0, &wire.Transfer{More: n+1 < pieces}, 'x')
		}
	}
	r.send(0, transfer(0, 2, false), body(t, "new")...)
	if o := want[*wire.Disposition](r); o.First != 2 || o.Last.Set || o.State != (wire.Accepted{}) {
		t.Errorf("answered with %+v", o)
	}
	if got := gate.Stored(); len(got) != 1 || string(got[0].Payload) != "new" {
		t.Errorf("stored %+v", got)
	}
}

// A peer that settles second keeps its credit until it has.
func TestSecondSettlementHoldsCredit(t *testing.T) {
	gate := &adaptertest.Gate{}
	r := openRaw(t, serve(t, amqp.Config{Credit: 1}, gate), plainOpen)
	at := attach("l", 0, "d/telemetry")
	at.RcvSettleMode = wire.RcvSecond
	r.send(0, at)
	if a := want[*wire.Attach](r); a.RcvSettleMode != wire.RcvSecond {
		t.Errorf("attached %+v", a)
	}
	if f := want[*wire.Flow](r); f.LinkCredit.Value != 1 {
		t.Errorf("flow %+v", f)
	}
	for id := range uint32(3) {
		r.send(0, transfer(0, id, false), body(t, "1")...)
		if o := want[*wire.Disposition](r); o.Settled || o.First != id || o.State != (wire.Accepted{}) {
			t.Errorf("answered with %+v", o)
		}
		r.send(0, &wire.Flow{NextIncomingID: wire.Some[uint32](0), IncomingWindow: 100, Handle: wire.Some[uint32](0), Echo: true})
		if f := want[*wire.Flow](r); f.LinkCredit.Value != 0 {
			t.Errorf("flow %+v before the peer has settled", f)
		}
		r.send(0, &wire.Disposition{Role: wire.RoleSender, First: id, Settled: true, State: wire.Accepted{}})
		if f := want[*wire.Flow](r); f.LinkCredit.Value != 1 || f.DeliveryCount.Value != id+1 {
			t.Errorf("flow %+v after it has", f)
		}
	}
}

// Whatever is said to a peer fits into the frames it takes.
func TestFramesFitThePeer(t *testing.T) {
	r := openRaw(t, serve(t, amqp.Config{}, &adaptertest.Gate{}), &wire.Open{ContainerID: "raw", MaxFrameSize: wire.MinMaxFrameSize, ChannelMax: 1})
	r.send(0, attach("l", 0, strings.Repeat("\x01", 400)))
	for {
		h, err := wire.ReadFrameHeader(r, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if h.Size > wire.MinMaxFrameSize {
			t.Errorf("a frame of %d bytes", h.Size)
		}
		b, err := h.ReadBody(r, make([]byte, h.Size))
		if err != nil {
			t.Fatal(err)
		}
		if p, _, _ := wire.DecodePerformative(b); p != nil {
			if d, ok := p.(*wire.Detach); ok {
				if d.Error == nil || d.Error.Condition != wire.CondNotFound || len(d.Error.Description) < 100 {
					t.Errorf("detached %+v", d.Error)
				}
				return
			}
		}
	}
}
