package bridge

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/device"
)

func deviceID(name string) device.ID { return device.ID{Tenant: device.DefaultTenant, Device: name} }

func commandFor(name, id string) device.Command {
	return device.Command{
		ID: id, Tenant: device.DefaultTenant, Device: name, Name: "heat", Payload: []byte(`{"on":true}`), ContentType: "application/json",
		CreatedAt: time.Now(), Deadline: time.Now().Add(time.Hour),
	}
}

// withCommands is a link that takes commands to {device}/telemetry/commands, which
// a door keeps as telemetry.
func withCommands(_ *Config, l *Link) {
	l.Commands, l.CommandsTo, l.Replies = "{device}/telemetry/commands/{name}", "/devices/{device}", "replies/commands"
}

func TestCommandsOfADeviceHeardOf(t *testing.T) {
	t.Parallel()
	gate := &adaptertest.Gate{}
	b := startBroker(t, &adaptertest.Gate{}, "127.0.0.1:0")
	bridge := bridgeTo(t, b.addr, gate, withCommands)
	gate.Send(commandFor("dev1", "c1"))
	untilStatus(t, bridge, "the link is up", func(s Status) bool { return s.State == Up })
	if n := gate.Sessions(deviceID("dev1")); n != 0 {
		t.Errorf("a device nobody heard of has %d sessions", n)
	}
	b.queue("queue", "m1", "", payload(1))
	until(t, b.Gate, "the command arrives", func() bool { return len(b.Stored()) == 1 })
	m := b.Stored()[0]
	if m.Device != "dev1" || m.Channel != "commands/heat" || m.Key != "c1/dev1" || string(m.Payload) != `{"on":true}` ||
		m.ContentType != "application/json" || m.Properties["device"] != "dev1" {
		t.Errorf("the command arrived as %+v", m)
	}
	until(t, gate, "the command is settled", func() bool { return len(gate.SettledAll()) == 1 })
	if s := gate.SettledAll()[0]; s.Command != "c1" || s.Outcome.Kind != device.Unconfirmed {
		t.Errorf("settled %+v", s)
	}
	b.queue("replies", "c1/dev1", "", []byte(`{"done":1}`)) // the door's correlation-id is the command's id
	until(t, gate, "the answer is kept", func() bool { return len(gate.Responses()) == 1 })
	if r := gate.Responses()[0]; r.Device != deviceID("dev1") || r.Via != "plant" || r.Command != "c1" || r.Status != 200 || string(r.Payload) != `{"done":1}` {
		t.Errorf("the answer is %+v", r)
	}
	until(t, b.Gate, "the answer is accepted", func() bool { return b.settled()["c1/dev1"].Kind == device.Accepted })
	if s := bridge.Status()[0]; s.Devices != 1 || s.CommandsOut != 1 || s.Answers != 1 {
		t.Errorf("counted %+v", s)
	}
}

// TestCommandsOfADeviceNamedInFull: nobody has to hear of it.
func TestCommandsOfADeviceNamedInFull(t *testing.T) {
	t.Parallel()
	gate := &adaptertest.Gate{}
	b := startBroker(t, &adaptertest.Gate{}, "127.0.0.1:0")
	gate.Send(commandFor("roof", "c1"))
	bridgeTo(t, b.addr, gate, func(c *Config, l *Link) {
		withCommands(c, l)
		l.For = "dev*,roof"
	})
	until(t, b.Gate, "the command arrives", func() bool { return len(b.Stored()) == 1 })
}

func TestBrokerRefusesACommand(t *testing.T) {
	t.Parallel()
	gate, queues := &adaptertest.Gate{}, &adaptertest.Gate{}
	queues.OnSubmit = func(*device.Message, func(error)) error { return device.Errorf(device.Forbidden, "not for you") }
	b := startBroker(t, queues, "127.0.0.1:0")
	gate.Send(commandFor("roof", "c1"))
	bridgeTo(t, b.addr, gate, func(c *Config, l *Link) {
		withCommands(c, l)
		l.For = "roof"
	})
	until(t, gate, "the command is settled", func() bool { return len(gate.SettledAll()) == 1 })
	if s := gate.SettledAll()[0]; s.Outcome.Kind != device.Rejected || !strings.Contains(s.Outcome.Reason, "not for you") {
		t.Errorf("settled %+v", s)
	}
}

// TestAnAddressThatIsNotThere costs neither the connection nor other commands: the
// command goes back to its queue, and is tried again.
func TestAnAddressThatIsNotThere(t *testing.T) {
	t.Parallel()
	gate := &adaptertest.Gate{}
	b := startBroker(t, &adaptertest.Gate{}, "127.0.0.1:0")
	gate.Send(commandFor("roof", "c1"))
	bad := commandFor("cellar", "c2")
	bad.Name = "nowhere"
	gate.Send(bad)
	bridge := bridgeTo(t, b.addr, gate, func(c *Config, l *Link) {
		withCommands(c, l)
		l.For, l.Commands = "cellar,roof", "{device}/{name}"
	})
	good := commandFor("roof", "c3")
	good.Name = "telemetry"
	gate.Send(good)
	until(t, gate, "c2 was tried twice", func() bool {
		tries := 0
		for _, s := range gate.SettledAll() {
			if s.Command == "c2" && s.Outcome.Kind == device.Released {
				tries++
			}
		}
		return tries >= 2
	})
	if s := bridge.Status()[0]; s.State != Up {
		t.Errorf("the link is %s: %s", s.State, s.Err)
	}
}

// TestCommandsWaitForTheBroker: while it is away no device is attached, so a
// command stays in its queue.
func TestCommandsWaitForTheBroker(t *testing.T) {
	t.Parallel()
	gate, queues := &adaptertest.Gate{}, &adaptertest.Gate{}
	b := startBroker(t, queues, "127.0.0.1:0")
	bridge := bridgeTo(t, b.addr, gate, func(c *Config, l *Link) {
		withCommands(c, l)
		l.For = "roof"
	})
	until(t, gate, "the device is attached", func() bool { return gate.Sessions(deviceID("roof")) == 1 })
	b.kill()
	until(t, gate, "the device is detached", func() bool { return gate.Sessions(deviceID("roof")) == 0 })
	gate.Send(commandFor("roof", "c1"))
	untilStatus(t, bridge, "the link is down", func(s Status) bool { return s.State == Down && s.Err != "" })
	startBroker(t, queues, b.addr)
	until(t, queues, "the command arrives", func() bool { return len(queues.Stored()) == 1 })
}

// TestTheFleetIsBounded: the device not heard of for longest is let go.
func TestTheFleetIsBounded(t *testing.T) {
	t.Parallel()
	gate := &adaptertest.Gate{}
	b := startBroker(t, &adaptertest.Gate{}, "127.0.0.1:0")
	bridge := bridgeTo(t, b.addr, gate, func(c *Config, l *Link) {
		withCommands(c, l)
		c.MaxDevices, l.Device, l.For = 2, "{subject}", "dev*,roof"
	})
	for i, name := range []string{"dev1", "dev2", "dev1", "dev3"} {
		b.queue("queue", fmt.Sprint(i), name, payload(i))
		until(t, gate, "the message came", func() bool { return len(gate.Stored()) == i+1 })
		until(t, gate, "the device is attached", func() bool { return gate.Sessions(deviceID(name)) == 1 })
	}
	until(t, gate, "dev2 is detached", func() bool { return gate.Sessions(deviceID("dev2")) == 0 })
	if n := bridge.Status()[0].Devices; n != 3 || gate.Sessions(deviceID("dev1")) != 1 || gate.Sessions(deviceID("roof")) != 1 {
		t.Errorf("%d devices, dev1 %d, roof %d sessions", n, gate.Sessions(deviceID("dev1")), gate.Sessions(deviceID("roof")))
	}
}

func TestAnswersNobodyAskedFor(t *testing.T) {
	t.Parallel()
	gate := &adaptertest.Gate{OnRespond: func(r device.Response) error {
		switch r.Command {
		case "unknown":
			return device.Errorf(device.NotFound, "there is no such command")
		case "later":
			return errors.New("not now")
		}
		return nil
	}}
	b := startBroker(t, &adaptertest.Gate{}, "127.0.0.1:0")
	for _, id := range []string{"alone", "unknown/dev1", "x/elsewhere", "later/dev1"} {
		b.queue("replies", id, "", payload(1))
	}
	bridgeTo(t, b.addr, gate, func(c *Config, l *Link) {
		withCommands(c, l)
		l.For = "dev*"
	})
	until(t, b.Gate, "all are settled", func() bool { return len(b.settled()) == 4 })
	for id, want := range map[string]device.OutcomeKind{
		"alone": device.Rejected, "unknown/dev1": device.Rejected, "x/elsewhere": device.Rejected, "later/dev1": device.Released,
	} {
		if got := b.settled()[id]; got.Kind != want {
			t.Errorf("%s is settled as %v, want %v", id, got, want)
		}
	}
	if n := len(gate.Refusals()); n != 3 {
		t.Errorf("%d letters, want 3", n)
	}
}
