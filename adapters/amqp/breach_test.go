package amqp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	client "github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
)

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
	s, err := amqp.Open(amqp.Config{Addr: "127.0.0.1:0", MaxFrameSize: 4200, MaxSessions: 4, MaxLinks: 4, Credit: 1}, gate)
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
		"a frame too large":          {func(r *raw) { r.bytes(0, 0, 0x11, 1, 2, 0, 0, 0) }, wire.CondFramingError},
		"a frame too small":          {func(r *raw) { r.bytes(0, 0, 0, 7, 2, 0, 0, 0) }, wire.CondFramingError},
		"a data offset of one":       {func(r *raw) { r.bytes(0, 0, 0, 9, 1, 0, 0, 0, 0) }, wire.CondFramingError},
		"a SASL frame":               {func(r *raw) { r.bytes(0, 0, 0, 8, 2, 1, 0, 0) }, wire.CondFramingError},
		"no performative":            {func(r *raw) { r.bytes(0, 0, 0, 10, 2, 0, 0, 0, 0x40, 0x40) }, wire.CondDecodeError},
		"an attach without a name":   {func(r *raw) { r.bytes(0, 0, 0, 12, 2, 0, 0, 0, 0, 0x53, 0x12, 0x45) }, wire.CondDecodeError},
		"a SASL performative":        {func(r *raw) { r.send(0, &wire.SASLOutcome{}) }, wire.CondNotAllowed},
		"open twice":                 {func(r *raw) { r.send(0, plainOpen) }, wire.CondNotAllowed},
		"begin twice":                {func(r *raw) { r.send(0, &wire.Begin{}) }, wire.CondNotAllowed},
		"a channel above the max":    {func(r *raw) { r.send(4, &wire.Begin{}) }, wire.CondFramingError},
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
		"another delivery tag on the way": {func(r *raw) {
			r.send(0, attach("l", 0, "d/telemetry"))
			r.send(0, transfer(0, 0, true))
			r.send(0, &wire.Transfer{DeliveryTag: []byte("other")})
		}, wire.CondInvalidField},
		"another message format on the way": {func(r *raw) {
			r.send(0, attach("l", 0, "d/telemetry"))
			r.send(0, transfer(0, 0, true))
			r.send(0, &wire.Transfer{MessageFormat: wire.Some[uint32](1)})
		}, wire.CondInvalidField},
		"settled second on a link for first": {func(r *raw) {
			r.send(0, attach("l", 0, "d/telemetry"))
			x := transfer(0, 0, false)
			x.RcvSettleMode = wire.Some(wire.RcvSecond)
			r.send(0, x, body(r.t, "1")...)
		}, wire.CondInvalidField},
		"an attach longer than the peer's frames": {func(r *raw) {
			at := attach("l", 0, "d/telemetry")
			at.Name = strings.Repeat("n", 4090)
			b := wire.AppendFrame(nil, wire.FrameAMQP, 0, at, nil)
			if len(b) > 4200 {
				r.t.Fatal(len(b))
			}
			r.send(0, at)
		}, wire.CondFrameSizeTooSmall},
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

// A fault of ours costs one connection.
func TestPanicCostsOneConnection(t *testing.T) {
	var calls atomic.Int32
	gate := &adaptertest.Gate{OnSubmit: func(m *device.Message, done func(error)) error {
		if calls.Add(1) == 1 {
			panic("a fault")
		}
		go done(nil)
		return nil
	}}
	s := serve(t, amqp.Config{}, gate)
	_, bystander := dial(t, s, nil)
	link := sender(t, bystander, "d/telemetry", nil)
	r := openRaw(t, s, plainOpen)
	r.send(0, attach("l", 0, "d/telemetry"))
	r.send(0, transfer(0, 0, false), body(t, "1")...)
	r.gone()
	if err := link.Send(soon(t), client.NewMessage([]byte("1")), nil); err != nil {
		t.Error(err)
	}
}

// TestConnectionLimit: one above it is closed.
func TestConnectionLimit(t *testing.T) {
	s := serve(t, amqp.Config{MaxConnections: 1}, &adaptertest.Gate{})
	openRaw(t, s, plainOpen)
	conn, err := net.Dial("tcp", s.Addrs()["amqp"].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection above the limit: %v", err)
	}
}
