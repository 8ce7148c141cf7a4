package amqp_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
)

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
