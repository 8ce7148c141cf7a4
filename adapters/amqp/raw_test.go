package amqp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
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

func TestOtherProtocolHeaders(t *testing.T) {
	s := serve(t, amqp.Config{}, &adaptertest.Gate{})
	for _, b := range [][]byte{[]byte("AMQP\x02\x01\x00\x00"), []byte("AMQP\x00\x00\x09\x01"), []byte("GET / HT")} {
		r := dialRaw(t, s)
		r.bytes(b...)
		var h [8]byte
		if _, err := io.ReadFull(r, h[:]); err != nil || h != wire.ProtocolHeader(wire.ProtoSASL) {
			t.Errorf("%q is answered with %q, %v", b, h, err)
		}
		r.gone()
	}
}

// Every breach costs what it should, in the protocol's words, and nothing else.
func TestBreaches(t *testing.T) {
	gate := &adaptertest.Gate{OnSubmit: func(*device.Message, func(error)) error { return nil }} // stores nothing in time
	s, err := amqp.Open(amqp.Config{Addr: "127.0.0.1:0", MaxFrameSize: 4096, MaxSessions: 4, MaxLinks: 4, Credit: 1}, gate)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve() }()
	t.Cleanup(func() { // cut: what the gate keeps back would be waited for
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
	})
	for name, c := range map[string]struct {
		do   func(r *raw)
		want wire.Symbol
	}{
		"a frame too large":          {func(r *raw) { r.bytes(0, 0, 0x10, 1, 2, 0, 0, 0) }, wire.CondFramingError},
		"a frame too small":          {func(r *raw) { r.bytes(0, 0, 0, 7, 2, 0, 0, 0) }, wire.CondFramingError},
		"a data offset of one":       {func(r *raw) { r.bytes(0, 0, 0, 9, 1, 0, 0, 0, 0) }, wire.CondFramingError},
		"a SASL frame":               {func(r *raw) { r.bytes(0, 0, 0, 8, 2, 1, 0, 0) }, wire.CondFramingError},
		"no performative":            {func(r *raw) { r.bytes(0, 0, 0, 10, 2, 0, 0, 0, 0x40, 0x40) }, wire.CondDecodeError},
		"an attach without a name":   {func(r *raw) { r.bytes(0, 0, 0, 12, 2, 0, 0, 0, 0, 0x53, 0x12, 0x45) }, wire.CondDecodeError},
		"a SASL performative":        {func(r *raw) { r.send(0, &wire.SASLOutcome{}) }, wire.CondNotAllowed},
		"open twice":                 {func(r *raw) { r.send(0, plainOpen) }, wire.CondNotAllowed},
		"begin twice":                {func(r *raw) { r.send(0, &wire.Begin{}) }, wire.CondNotAllowed},
		"a channel above the max":    {func(r *raw) { r.send(4, &wire.Begin{}) }, wire.CondNotAllowed},
		"a session that is not ours": {func(r *raw) { r.send(1, &wire.Begin{RemoteChannel: wire.Some[uint16](1)}) }, wire.CondNotAllowed},
		"a frame without a session":  {func(r *raw) { r.send(2, &wire.Flow{}) }, wire.CondNotAllowed},
		"a handle above the max":     {func(r *raw) { r.send(0, attach("l", 4, "d/telemetry")) }, wire.CondFramingError},
		"a handle in use":            {func(r *raw) { r.send(0, attach("a", 0, "d/telemetry")); r.send(0, attach("b", 0, "d/telemetry")) }, wire.CondHandleInUse},
		"no initial delivery count":  {func(r *raw) { r.send(0, &wire.Attach{Name: "l", SndSettleMode: 2}) }, wire.CondInvalidField},
		"an unattached transfer":     {func(r *raw) { r.send(0, transfer(0, 0, false)) }, wire.CondUnattachedHandle},
		"an unattached flow":         {func(r *raw) { r.send(0, &wire.Flow{Handle: wire.Some[uint32](3)}) }, wire.CondUnattachedHandle},
		"an unattached detach":       {func(r *raw) { r.send(0, &wire.Detach{Handle: 3}) }, wire.CondUnattachedHandle},
		"a transfer to a receiver":   {func(r *raw) { r.send(0, attachReceiver("l", 0, "d/commands")); r.send(0, transfer(0, 0, false)) }, wire.CondErrantLink},
		"no delivery id":             {func(r *raw) { r.send(0, attach("l", 0, "d/telemetry")); r.send(0, &wire.Transfer{}) }, wire.CondInvalidField},
		"a delivery inside another": {func(r *raw) {
			r.send(0, attach("l", 0, "d/telemetry"))
			r.send(0, transfer(0, 0, true))
			r.send(0, transfer(0, 1, false))
		}, wire.CondInvalidField},
		"more than the credit": {func(r *raw) {
			r.send(0, attach("l", 0, "held/telemetry"))
			r.send(0, transfer(0, 0, false), body(r.t, "1")...)
			r.send(0, transfer(0, 1, false), body(r.t, "1")...)
		}, wire.CondTransferLimitExceeded},
		"a coordinator": {func(r *raw) {
			at := attach("l", 0, "x")
			b := wire.AppendFrame(nil, 0, 0, at, nil)
			i := bytes.Index(b, []byte{0, 0x53, 0x29})
			b[i+2] = 0x30
			r.bytes(b...)
		}, wire.CondInvalidField},
	} {
		t.Run(name, func(t *testing.T) {
			r := openRaw(t, s, plainOpen)
			c.do(r)
			var got *wire.Error
			for got == nil {
				switch p, _ := r.next(); p := p.(type) {
				case *wire.Close:
					got = p.Error
				case *wire.End:
					got = p.Error
				case *wire.Detach:
					got = p.Error
				}
			}
			if got.Condition != c.want || got.Description == "" {
				t.Errorf("answered with %v, want %s", got, c.want)
			}
		})
	}
}

func TestMessageTooLongForTheLink(t *testing.T) {
	gate := &adaptertest.Gate{}
	r := openRaw(t, serve(t, amqp.Config{MaxMessageBytes: 10}, gate), plainOpen)
	r.send(0, attach("l", 0, "d/telemetry"))
	piece := make([]byte, 3000)
	for range 25 { // 75,000 bytes; 10 and the allowance for the rest are fewer
		r.send(0, transfer(0, 0, true), piece...)
	}
	d := want[*wire.Detach](r)
	if !d.Closed || d.Error == nil || d.Error.Condition != wire.CondMessageSizeExceeded {
		t.Errorf("answered with %+v", d)
	}
	until(t, gate, "it left a trail", func() bool { return len(gate.Refusals()) == 1 })
	// The session goes on, and the handle is free once both have detached.
	r.send(0, &wire.Detach{Handle: 0, Closed: true})
	r.send(0, attach("l", 0, "d/telemetry"))
	r.send(0, transfer(0, 1, false), body(t, "1")...)
	if o := want[*wire.Disposition](r); o.State != (wire.Accepted{}) || o.First != 1 || !o.Settled {
		t.Errorf("the next message is answered with %+v", o)
	}
}

// Two links send pieces in turn, and one message is given up half-way.
func TestInterleavedAndAborted(t *testing.T) {
	gate := &adaptertest.Gate{}
	r := openRaw(t, serve(t, amqp.Config{}, gate), plainOpen)
	r.send(0, attach("a", 0, "d/telemetry/a"))
	r.send(0, attach("b", 1, "d/telemetry/b"))
	m := body(t, "0123456789")
	r.send(0, transfer(0, 0, true), m[:5]...)
	r.send(0, transfer(1, 1, true), m[:8]...)
	r.send(0, &wire.Transfer{Handle: 0}, m[5:]...)
	r.send(0, &wire.Transfer{Handle: 1, Aborted: true})
	r.send(0, transfer(1, 2, false), m...)
	for range 2 {
		if o := want[*wire.Disposition](r); o.State != (wire.Accepted{}) {
			t.Errorf("answered with %+v", o)
		} else if o.Last.Set {
			break
		}
	}
	until(t, gate, "two are stored", func() bool { return len(gate.Stored()) == 2 })
	for _, g := range gate.Stored() {
		if string(g.Payload) != "0123456789" {
			t.Errorf("%s: %q", g.Channel, g.Payload)
		}
	}
}

// Outcomes known together are told in one frame.
func TestOutcomesShareAFrame(t *testing.T) {
	var dones []func(error)
	gate := &adaptertest.Gate{}
	gate.OnSubmit = func(m *device.Message, done func(error)) error {
		gate.Store(m)
		if dones = append(dones, done); len(dones) == 100 {
			for _, done := range dones {
				done(nil)
			}
		}
		return nil
	}
	r := openRaw(t, serve(t, amqp.Config{}, gate), plainOpen)
	r.send(0, attach("a", 0, "d/telemetry"))
	want[*wire.Flow](r)
	for i := range uint32(100) {
		r.send(0, transfer(0, i, false), body(t, "1")...)
	}
	frames := 0
	for next := uint32(0); next < 100; frames++ {
		o := want[*wire.Disposition](r)
		if o.First != next || !o.Settled || o.Role != wire.RoleReceiver {
			t.Fatalf("answered with %+v, want from %d", o, next)
		}
		next = o.Last.Or(o.First) + 1
	}
	if frames > 50 {
		t.Errorf("%d frames for 100 outcomes", frames)
	}
}

// A drain at once after the credit still brings what was already queued.
func TestDrainBringsWhatIsThere(t *testing.T) {
	gate := &adaptertest.Gate{}
	r := openRaw(t, serve(t, amqp.Config{DrainGrace: 100 * time.Millisecond}, gate), plainOpen)
	gate.Send(command("1", "d", "", "1"))
	r.send(0, attachReceiver("l", 0, "d/commands"))
	r.send(0, &wire.Flow{NextIncomingID: wire.Some[uint32](0), IncomingWindow: 10, Handle: wire.Some[uint32](0), LinkCredit: wire.Some[uint32](5), Drain: true})
	if x := want[*wire.Transfer](r); !x.DeliveryID.Set {
		t.Errorf("transfer %+v", x)
	}
	f := want[*wire.Flow](r)
	if !f.Drain || f.LinkCredit.Value != 0 || f.DeliveryCount.Value != 5 {
		t.Errorf("the drain ends with %+v", f)
	}
}

// The session's window holds a command back piece by piece.
func TestWindowOfThePeer(t *testing.T) {
	gate := &adaptertest.Gate{}
	r := openRaw(t, serve(t, amqp.Config{}, gate), &wire.Open{ContainerID: "raw", MaxFrameSize: 512, ChannelMax: 1})
	c := command("1", "d", "", "")
	c.Payload = make([]byte, 2000)
	gate.Send(c)
	r.send(0, attachReceiver("l", 0, "d/commands"))
	flow := func(next uint32) {
		r.send(0, &wire.Flow{NextIncomingID: wire.Some(next), IncomingWindow: 1, Handle: wire.Some[uint32](0), LinkCredit: wire.Some[uint32](1), Echo: true})
	}
	flow(0)
	for n := uint32(1); ; n++ {
		x := want[*wire.Transfer](r)
		if !x.More {
			if n < 4 {
				t.Errorf("2000 bytes came in %d frames of 512", n)
			}
			break
		}
		flow(n)
	}
}

func TestHeartbeats(t *testing.T) {
	s := serve(t, amqp.Config{IdleTimeout: 300 * time.Millisecond}, &adaptertest.Gate{})
	r := dialRaw(t, s)
	r.header(wire.ProtoAMQP)
	r.send(0, &wire.Open{ContainerID: "raw", MaxFrameSize: 4096, IdleTimeOut: 200})
	var h [8]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		t.Fatal(err)
	}
	if o := want[*wire.Open](r); o.IdleTimeOut != 150 {
		t.Errorf("the announced idle-time-out is %d", o.IdleTimeOut)
	}
	fh, err := wire.ReadFrameHeader(r, 512)
	if err != nil || fh.Size != wire.FrameHeaderSize {
		t.Errorf("a heartbeat is %+v, %v", fh, err)
	}
	// We send nothing: the server gives up on us, and says so.
	for {
		p, _ := r.next()
		if c, ok := p.(*wire.Close); ok {
			if c.Error == nil || c.Error.Condition != wire.CondResourceLimitExceeded {
				t.Errorf("closed with %+v", c.Error)
			}
			return
		}
	}
}

func TestShutdownFinishesWhatWasAccepted(t *testing.T) {
	gate := &adaptertest.Gate{}
	release := make(chan struct{})
	arrived := make(chan struct{})
	gate.OnSubmit = func(m *device.Message, done func(error)) error {
		close(arrived)
		go func() { <-release; gate.Store(m); done(nil) }()
		return nil
	}
	s := serve(t, amqp.Config{}, gate)
	r := openRaw(t, s, plainOpen)
	r.send(0, attachReceiver("c", 1, "d/commands"))
	r.send(0, attach("l", 0, "d/telemetry"))
	r.send(0, transfer(0, 0, false), body(t, "1")...)
	<-arrived
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(soon(t)) }()
	for { // the listener is closed first
		c, err := net.Dial("tcp", addr(s))
		if err != nil {
			break
		}
		_ = c.Close()
	}
	close(release)
	if o := want[*wire.Disposition](r); o.State != (wire.Accepted{}) {
		t.Errorf("answered with %+v", o)
	}
	for {
		p, _ := r.next()
		if c, ok := p.(*wire.Close); ok {
			if c.Error == nil || c.Error.Condition != wire.CondConnectionForced {
				t.Errorf("closed with %+v", c.Error)
			}
			break
		}
	}
	_ = r.Close()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if gate.Sessions(idOf("d")) != 0 {
		t.Error("the device is still attached")
	}
}

// Garbage after every layer of the handshake costs that connection only.
func TestGarbage(t *testing.T) {
	s := serve(t, amqp.Config{}, &adaptertest.Gate{})
	garbage := bytes.Repeat([]byte{0, 0, 0, 40, 2, 0, 0, 0, 0xff, 1, 2, 3}, 50)
	header := wire.ProtocolHeader(wire.ProtoAMQP)
	sasl := wire.ProtocolHeader(wire.ProtoSASL)
	init := wire.AppendFrame(nil, wire.FrameSASL, 0, &wire.SASLInit{Mechanism: wire.MechAnonymous}, nil)
	open := wire.AppendFrame(nil, wire.FrameAMQP, 0, plainOpen, nil)
	for name, before := range map[string][][]byte{
		"nothing": {}, "header": {header[:]}, "SASL header": {sasl[:]}, "SASL": {sasl[:], init}, "second header": {sasl[:], init, header[:]},
		"open": {header[:], open}, "huge SASL frame": {sasl[:], {0x7f, 0, 0, 0, 2, 1, 0, 0}}, "open of one byte": {header[:], {0, 0, 0, 9, 2, 0, 0, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			r := dialRaw(t, s)
			r.bytes(append(bytes.Join(before, nil), garbage...)...)
			r.gone()
		})
	}
	openRaw(t, s, plainOpen)
}
