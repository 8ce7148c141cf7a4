package amqp_test

import (
	"io"
	"testing"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
)

// Every end is answered with the same, and what was begun is free again.
func TestEndsAreAnswered(t *testing.T) {
	r := openRaw(t, serve(t, amqp.Config{}, &adaptertest.Gate{}), plainOpen)
	for range 2 {
		r.send(0, attach("l", 3, "d/telemetry"))
		want[*wire.Attach](r)
		for _, closed := range []bool{false, true} {
			if closed {
				r.send(0, attach("l", 3, "d/telemetry"))
				want[*wire.Attach](r)
			}
			r.send(0, &wire.Detach{Handle: 3, Closed: closed})
			if d := want[*wire.Detach](r); d.Handle != 3 || d.Closed != closed || d.Error != nil {
				t.Errorf("detached %+v", d)
			}
		}
		r.send(0, &wire.End{})
		if e := want[*wire.End](r); e.Error != nil {
			t.Errorf("ended with %v", e.Error)
		}
		r.send(0, &wire.Begin{IncomingWindow: 100, OutgoingWindow: 100, HandleMax: 10})
		if b := want[*wire.Begin](r); !b.RemoteChannel.Set || b.RemoteChannel.Value != 0 || b.HandleMax == 0 {
			t.Errorf("begun %+v", b)
		}
	}
	r.send(0, &wire.Close{})
	for {
		p, _ := r.next()
		if c, ok := p.(*wire.Close); ok {
			if c.Error != nil {
				t.Errorf("closed with %v", c.Error)
			}
			break
		}
	}
	r.gone()
}

// What follows in a session that we ended is dropped until the peer ends it, and
// the connection goes on.
func TestEndedSessionDropsWhatFollows(t *testing.T) {
	gate := &adaptertest.Gate{}
	r := openRaw(t, serve(t, amqp.Config{}, gate), plainOpen)
	r.send(0, transfer(7, 0, false)) // on no link
	r.send(0, attach("l", 0, "d/telemetry"))
	r.send(0, transfer(0, 1, false), body(t, "dropped")...)
	r.send(0, &wire.End{})
	if e := want[*wire.End](r); e.Error == nil || e.Error.Condition != wire.CondUnattachedHandle {
		t.Errorf("ended with %v", e.Error)
	}
	r.send(0, &wire.Begin{IncomingWindow: 100, OutgoingWindow: 100})
	r.send(0, attach("l", 0, "d/telemetry"))
	r.send(0, transfer(0, 0, false), body(t, "kept")...)
	if o := want[*wire.Disposition](r); o.State != (wire.Accepted{}) {
		t.Errorf("answered with %+v", o)
	}
	if got := gate.Stored(); len(got) != 1 || string(got[0].Payload) != "kept" {
		t.Errorf("stored %+v", got)
	}
}

// An OPEN we cannot live with is answered with ours and a CLOSE that says why.
func TestOpensThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		first wire.Performative
		want  wire.Symbol
	}{
		"frames smaller than the least":      {&wire.Open{ContainerID: "raw", MaxFrameSize: 511}, wire.CondInvalidField},
		"an idle-time-out nobody can keep":   {&wire.Open{ContainerID: "raw", MaxFrameSize: 512, IdleTimeOut: 1}, wire.CondNotAllowed},
		"another performative":               {&wire.Begin{}, wire.CondNotAllowed},
		"a credential that is not there":     {&wire.Open{ContainerID: "raw", MaxFrameSize: 512}, wire.CondUnauthorizedAccess},
		"an open frame larger than is taken": {&wire.Open{ContainerID: string(make([]byte, 20<<10)), MaxFrameSize: 512}, wire.CondFramingError},
	} {
		t.Run(name, func(t *testing.T) {
			r := dialRaw(t, serve(t, amqp.Config{}, &adaptertest.Gate{RefuseAnonymous: true}))
			r.header(wire.ProtoAMQP)
			r.send(0, c.first)
			if _, err := io.ReadFull(r, make([]byte, 8)); err != nil {
				t.Fatal(err)
			}
			if o, _ := r.next(); o.(*wire.Open).MaxFrameSize == 0 {
				t.Errorf("our open is %+v", o)
			}
			p, _ := r.next()
			if e := p.(*wire.Close).Error; e == nil || e.Condition != c.want || e.Description == "" {
				t.Errorf("closed with %v", e)
			}
			r.gone()
		})
	}
}

// One disposition settles a range, and what it names besides is nobody's.
func TestRangesOfOutcomes(t *testing.T) {
	gate := &adaptertest.Gate{}
	r := openRaw(t, serve(t, amqp.Config{}, gate), plainOpen)
	r.send(0, attachReceiver("l", 0, "d/commands"))
	r.send(0, &wire.Flow{NextIncomingID: wire.Some[uint32](0), IncomingWindow: 100, Handle: wire.Some[uint32](0), LinkCredit: wire.Some[uint32](10)})
	const n = 6
	for i := range n {
		gate.Send(command(string(rune('a'+i)), "d", "", "1"))
	}
	for range n {
		want[*wire.Transfer](r)
	}
	settle := func(first, last uint32, state wire.State, settled bool) {
		r.send(0, &wire.Disposition{Role: wire.RoleReceiver, First: first, Last: wire.Some(last), Settled: settled, State: state})
	}
	settle(1, 3, wire.Accepted{}, true)
	settle(1, 3, wire.Rejected{}, true) // they are settled already
	settle(4, 0, wire.Rejected{}, true) // backwards
	settle(0, 0, wire.Received{}, false)
	settle(4, 1<<30, wire.Accepted{}, false) // more than there is, and the peer wants to hear that we know
	for id := uint32(4); id < n; {
		if d := want[*wire.Disposition](r); d.Role == wire.RoleSender && d.Settled && d.State == (wire.Accepted{}) {
			id++
		} else {
			t.Errorf("answered with %+v", d)
		}
	}
	until(t, gate, "five outcomes", func() bool { return len(gate.SettledAll()) == 5 })
	for _, s := range gate.SettledAll() {
		if s.Command == "a" || s.Outcome.Kind != device.Accepted {
			t.Errorf("settled %+v", s)
		}
	}
}
