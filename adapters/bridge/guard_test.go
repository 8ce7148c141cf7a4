package bridge

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
)

// hostile are messages that end a process of the client library's, or could.
var hostile = map[string][]byte{
	"an annotation with a binary key":    {0, 0x53, 0x72, 0xc1, 0x06, 0x02, 0xa0, 0x01, 'A', 0x40, 0x40},
	"a delivery annotation with a list":  {0, 0x53, 0x71, 0xc1, 0x04, 0x02, 0x45, 0x40, 0x40},
	"a footer with a long binary":        {0, 0x53, 0x78, 0xd1, 0, 0, 0, 0x0b, 0, 0, 0, 0x02, 0xb0, 0, 0, 0, 0x01, 'A', 0x40},
	"annotations by another descriptor":  append([]byte("\x00\xa3\x1damqp:message-annotations:list"), 0xc1, 0x06, 0x02, 0xa0, 0x01, 'A', 0x40, 0x40),
	"annotations by an ulong of 8 bytes": {0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x72, 0xc1, 0x05, 0x02, 0xa0, 0x01, 'A', 0x40},
	"values nested without end":          append([]byte{0, 0x53, 0x77}, nested(2000)...),
	"an array of maps":                   {0, 0x53, 0x77, 0xe0, 0x03, 0x01, 0xc1, 0x00},
	"a value that ends inside":           {0, 0x53, 0x75, 0xb0, 0, 0, 1, 0, 'x'},
	"descriptors of descriptors":         bytes.Repeat([]byte{0}, 2000),
}

// nested is a list in a list in a list.
func nested(depth int) []byte {
	inner := []byte{0x45}
	for range depth {
		size := len(inner) + 4
		inner = append([]byte{0xd0, byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size), 0, 0, 0, 1}, inner...)
	}
	return inner
}

func TestHostileMessages(t *testing.T) {
	for what, raw := range hostile {
		if err := sound(raw); err == nil {
			t.Errorf("%s passes", what)
		}
	}
	in := message()
	in.Data = [][]byte{make([]byte, 300), []byte("x")}
	in.ApplicationProperties["list"] = "no"
	raw, err := in.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if err := sound(raw); err != nil {
		t.Errorf("an honest message: %v", err)
	}
}

// guarded gives what a guard makes of the frames of a broker.
func guarded(t *testing.T, frames []byte) ([]byte, error) {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		_, _ = theirs.Write(frames)
		theirs.Close()
	}()
	return io.ReadAll(newGuard(ours))
}

func transfer(handle uint32, more bool, payload []byte) []byte {
	return wire.AppendFrame(nil, wire.FrameAMQP, 3, &wire.Transfer{Handle: handle, More: more, DeliveryID: wire.Some[uint32](1), DeliveryTag: []byte{1}}, payload)
}

func TestTheGuardPassesFramesOn(t *testing.T) {
	header := wire.ProtocolHeader(wire.ProtoSASL)
	honest := []byte{0, 0x53, 0x77, 0xa1, 2, 'o', 'k'}
	frames := bytes.Join([][]byte{
		header[:], wire.AppendFrame(nil, wire.FrameAMQP, 0, nil, nil), transfer(1, false, honest),
		transfer(1, true, honest[:3]), transfer(2, false, honest), transfer(1, false, honest[3:]),
	}, nil)
	if got, err := guarded(t, frames); err != nil || !bytes.Equal(got, frames) {
		t.Errorf("%d of %d bytes, %v", len(got), len(frames), err)
	}
}

func TestTheGuardHoldsMessagesBack(t *testing.T) {
	bad := hostile["an annotation with a binary key"]
	for what, frames := range map[string][]byte{
		"in one frame":    transfer(1, false, bad),
		"in two frames":   append(transfer(1, true, bad[:5]), transfer(1, false, bad[5:])...),
		"a frame too big": {0, 1, 0, 1, 2, 0, 0, 0},
		"a frame of none": {0, 0, 0, 7, 2, 0, 0, 0},
		"no transfer":     wire.AppendFrame(nil, wire.FrameAMQP, 0, nil, []byte{0, 0x53, 0x14, 0x45}),
	} {
		if _, err := guarded(t, frames); err == nil || !strings.HasPrefix(err.Error(), "the broker sent ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTheGuardBoundsMessages(t *testing.T) {
	var frames []byte
	for range maxTransferBytes/60_000 + 1 {
		frames = append(frames, transfer(1, true, make([]byte, 60_000))...)
	}
	if _, err := guarded(t, frames); err == nil || !strings.Contains(err.Error(), "a message of more than") {
		t.Errorf("an endless message: %v", err)
	}
}

// TestTheLibraryStillNeedsAGuard: when this fails, go-amqp has learned to bear such
// messages, and that half of the guard can go.
func TestTheLibraryStillNeedsAGuard(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("go-amqp reads an annotation with a binary key without a panic")
		}
	}()
	_ = new(amqp.Message).UnmarshalBinary(hostile["an annotation with a binary key"])
}

// FuzzGuard: any bytes of a broker pass as they are, or end with an error; nothing
// that would end the process passes inside a message.
func FuzzGuard(f *testing.F) {
	header := wire.ProtocolHeader(wire.ProtoAMQP)
	f.Add(header[:])
	f.Add(transfer(1, false, []byte{0, 0x53, 0x77, 0xa1, 1, 'x'}))
	for _, raw := range hostile {
		f.Add(transfer(1, false, raw))
	}
	f.Fuzz(func(t *testing.T, frames []byte) {
		g := newGuard(&readOnly{r: bytes.NewReader(frames)})
		passed, err := io.ReadAll(g)
		if !bytes.HasPrefix(frames, passed) {
			t.Errorf("%x became %x", frames, passed)
		}
		if err == nil && len(passed) != len(frames) {
			t.Errorf("%x: only %x passed", frames, passed)
		}
	})
}

// readOnly is a connection that only reads.
type readOnly struct {
	net.Conn
	r io.Reader
}

func (c *readOnly) Read(p []byte) (int, error) { return c.r.Read(p) }

// TestAHostileBrokerCostsTheConnection, and not the process.
func TestAHostileBrokerCostsTheConnection(t *testing.T) {
	t.Parallel()
	for what, raw := range hostile {
		ours, theirs := net.Pipe()
		go scripted(theirs, raw)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		conn, err := amqp.NewConn(ctx, newGuard(ours), &amqp.ConnOptions{})
		if err != nil {
			t.Fatal(err)
		}
		session, err := conn.NewSession(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := session.NewReceiver(ctx, "a", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = r.Receive(ctx, nil); err == nil || ctx.Err() != nil {
			t.Errorf("%s: received, %v", what, err)
		}
		cancel()
		_ = conn.Close()
		theirs.Close()
	}
}

// scripted is a broker that opens, begins, attaches and sends one message.
func scripted(c net.Conn, message []byte) {
	header := wire.ProtocolHeader(wire.ProtoAMQP)
	if _, err := io.ReadFull(c, make([]byte, 8)); err != nil {
		return
	}
	_, _ = c.Write(header[:])
	for {
		h, err := wire.ReadFrameHeader(c, 1<<20)
		if err != nil {
			return
		}
		body, err := h.ReadBody(c, make([]byte, h.Size))
		if err != nil || len(body) == 0 {
			continue
		}
		p, _, err := wire.DecodePerformative(body)
		if err != nil {
			return
		}
		var out []byte
		add := func(p wire.Performative) { out = append(out, wire.AppendFrame(nil, wire.FrameAMQP, 0, p, nil)...) }
		switch p := p.(type) {
		case *wire.Open:
			add(&wire.Open{ContainerID: "x"})
		case *wire.Begin:
			add(&wire.Begin{RemoteChannel: wire.Some[uint16](0), IncomingWindow: 100, OutgoingWindow: 100})
		case *wire.Attach:
			add(&wire.Attach{Name: p.Name, Role: wire.RoleSender, Source: p.Source, Target: p.Target, InitialDeliveryCount: wire.Some[uint32](0)})
		case *wire.Flow:
			out = append(out, wire.AppendFrame(nil, wire.FrameAMQP, 0, &wire.Transfer{
				DeliveryID: wire.Some[uint32](0), DeliveryTag: []byte{1}, MessageFormat: wire.Some[uint32](0),
			}, message)...)
		case *wire.Close:
			return
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}
