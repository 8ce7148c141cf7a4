package mqtt_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

func command(id, name string) device.Command {
	return device.Command{ID: id, Tenant: "default", Device: "dev1", Name: name, Payload: []byte(`{"on":true}`),
		ContentType: "application/json", Deadline: time.Now().Add(time.Minute)}
}

// settled waits until n deliveries are settled and answers the last.
func settled(t *testing.T, g *adaptertest.Gate, n int) adaptertest.Settled {
	t.Helper()
	until(t, g, fmt.Sprintf("%d deliveries settled", n), func() bool { return len(g.SettledAll()) == n })
	return g.SettledAll()[n-1]
}

// TestCommandTopics: each form of subscription gets the topic it asked for.
func TestCommandTopics(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		for _, c := range []struct{ filter, topic string }{
			{"dev1/commands", "dev1/commands"}, {"/dev1/commands", "/dev1/commands"},
			{"commands", "commands"}, {"/commands", "/commands"},
			{"dev1/commands/#", "dev1/commands/C1/set 50% é"}, {"/dev1/commands/#", "/dev1/commands/C1/set 50% é"},
			{"commands/#", "commands/C1/set 50% é"}, {"/commands/#", "/commands/C1/set 50% é"},
		} {
			gate := &adaptertest.Gate{}
			p := join(t, serve(t, mqtt.Config{}, gate), v, "dev1")
			if got := p.subscribe(c.filter, 2); got != packet.GrantedQoS1 {
				t.Fatalf("%s: SUBACK %v", c.filter, got)
			}
			gate.Send(command("C1", "set 50% é"))
			m := want[*packet.Publish](p)
			if string(m.Topic) != c.topic || m.QoS != 1 || m.Dup || m.Retain || string(m.Payload) != `{"on":true}` {
				t.Errorf("%s: %+v", c.filter, m)
			}
			p.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
			if s := settled(t, gate, 1); s.Command != "C1" || s.Attempt != 1 || s.Outcome.Kind != device.Accepted {
				t.Errorf("%s: %+v", c.filter, s)
			}
		}
	})
}

func TestCommandQoS0IsUnconfirmed(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		gate := &adaptertest.Gate{}
		p := join(t, serve(t, mqtt.Config{CommandWindow: 2}, gate), v, "dev1")
		if got := p.subscribe("commands/#", 0); got != packet.GrantedQoS0 {
			t.Fatalf("SUBACK %v", got)
		}
		for i := range 10 {
			gate.Send(command(fmt.Sprint(i), ""))
			if m := want[*packet.Publish](p); string(m.Topic) != fmt.Sprintf("commands/%d/", i) || m.QoS != 0 {
				t.Errorf("%+v", m)
			}
		}
		if s := settled(t, gate, 10); s.Outcome.Kind != device.Unconfirmed {
			t.Errorf("%+v", s)
		}
	})
}

// TestCommandProperties: what MQTT 5 adds, and the answer by Response Topic.
func TestCommandProperties(t *testing.T) {
	gate := &adaptertest.Gate{}
	p := join(t, serve(t, mqtt.Config{}, gate), packet.V5, "dev1")
	p.subscribe("/commands", 1)
	gate.Send(command("C1", "heat"))
	m := want[*packet.Publish](p)
	topic, _ := m.Properties.Text(packet.ResponseTopic)
	id, _ := m.Properties.Text(packet.CorrelationData)
	kind, _ := m.Properties.Text(packet.ContentType)
	name, _ := m.Properties.User("name")
	left, _ := m.Properties.Number(packet.MessageExpiry)
	if topic != "/responses/C1" || id != "C1" || kind != "application/json" || name != "heat" || left < 1 || left > 60 {
		t.Errorf("%+v", m.Properties)
	}
	answer := publish(1, topic, "done")
	answer.Properties.AddText(packet.CorrelationData, id)
	answer.Properties.AddText(packet.ContentType, "text/plain")
	p.send(answer)
	p.wantAck(1, packet.Success)
	answer = publish(2, topic, "sorry")
	answer.Properties.AddUser("status", "503")
	p.send(answer)
	p.wantAck(2, packet.Success)
	got := gate.Responses()
	if len(got) != 2 || got[0].Command != "C1" || got[0].Status != 200 || got[0].ContentType != "text/plain" || got[0].Device != id1 {
		t.Fatalf("%+v", got)
	}
	if got[1].Status != 503 || string(got[1].Payload) != "sorry" || got[1].Protocol != device.MQTT {
		t.Errorf("%+v", got[1])
	}
	oneWay := command("C2", "blink")
	oneWay.OneWay = true
	gate.Send(oneWay)
	if m := want[*packet.Publish](p); len(m.Properties) != 3 {
		t.Errorf("one-way: %+v", m.Properties)
	}
}

func TestResponses(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		gate := &adaptertest.Gate{}
		p := join(t, serve(t, mqtt.Config{}, gate), v, "dev1")
		for i, topic := range []string{"dev1/responses/C1/200", "/dev1/responses/C1/200", "responses/C1/200", "/responses/C1/200"} {
			p.send(publish(uint16(i+1), topic, "ok"))
			p.wantAck(uint16(i+1), packet.Success)
		}
		for _, r := range gate.Responses() {
			if r.Device != id1 || r.Command != "C1" || r.Status != 200 || string(r.Payload) != "ok" {
				t.Errorf("%+v", r)
			}
		}
		if len(gate.Responses()) != 4 {
			t.Errorf("%d responses", len(gate.Responses()))
		}
	})
}

func TestBadResponses(t *testing.T) {
	mismatch := publish(1, "responses/C1", "")
	mismatch.Properties.AddText(packet.CorrelationData, "C2")
	badStatus := publish(1, "responses/C1", "")
	badStatus.Properties.AddUser("status", "fine")
	gate := &adaptertest.Gate{}
	s := serve(t, mqtt.Config{}, gate)
	p := join(t, s, packet.V5, "dev1")
	for _, c := range []struct {
		m      *packet.Publish
		reason packet.Reason
	}{
		{publish(1, "responses/C1/ok", ""), packet.TopicNameInvalid}, {publish(1, "responses/C1/99", ""), packet.TopicNameInvalid},
		{publish(1, "responses/C1/200/x", ""), packet.TopicNameInvalid}, {publish(1, "responses//200", ""), packet.TopicNameInvalid},
		{publish(1, "responses", ""), packet.TopicNameInvalid}, {mismatch, packet.ImplementationSpecific}, {badStatus, packet.ImplementationSpecific},
	} {
		p.send(c.m)
		p.wantAck(1, c.reason)
	}
	old := join(t, s, packet.V311, "dev2")
	old.send(publish(1, "responses/C1", "no status"))
	old.wantClosed()
	if n := len(gate.Responses()); n != 0 {
		t.Errorf("%d responses taken", n)
	}
}

// TestLateAnswer: 3.1.1 cannot be told, and sending again would not help.
func TestLateAnswer(t *testing.T) {
	gate := &adaptertest.Gate{OnRespond: func(r device.Response) error {
		if r.Command == "gone" {
			return device.Errorf(device.Precondition, "the command has ended")
		}
		return device.Errorf(device.NotFound, "no such command")
	}}
	s := serve(t, mqtt.Config{}, gate)
	p := join(t, s, packet.V5, "dev1")
	p.send(publish(1, "responses/gone/200", ""), publish(2, "responses/never/200", ""))
	p.wantAck(1, packet.ImplementationSpecific)
	p.wantAck(2, packet.ImplementationSpecific)
	old := join(t, s, packet.V311, "dev2")
	old.send(publish(1, "responses/gone/200", ""))
	old.wantAck(1, packet.Success)
	old.send(publish(2, "responses/never/200", ""))
	old.wantClosed()
	until(t, gate, "four refusals on the trail", func() bool { return len(gate.Refusals()) == 4 })
}

// TestCommandRefusedByDevice: a PUBACK with a failure reason.
func TestCommandRefusedByDevice(t *testing.T) {
	gate := &adaptertest.Gate{}
	p := join(t, serve(t, mqtt.Config{}, gate), packet.V5, "dev1")
	p.subscribe("commands", 1)
	gate.Send(command("C1", ""))
	m := want[*packet.Publish](p)
	no := &packet.Ack{Kind: packet.PUBACK, ID: m.ID, Reason: packet.NotAuthorized}
	no.Properties.AddText(packet.ReasonString, "locked")
	p.send(no)
	if s := settled(t, gate, 1); s.Outcome.Kind != device.Rejected || s.Outcome.Reason != "0x87 locked" {
		t.Errorf("%+v", s)
	}
}

// TestWindowOfCommands: never more unacknowledged than the client takes.
func TestWindowOfCommands(t *testing.T) {
	gate := &adaptertest.Gate{}
	p := dial(t, serve(t, mqtt.Config{}, gate), packet.V5)
	c := &packet.Connect{Version: packet.V5, ClientID: "dev1"}
	c.Properties.AddNumber(packet.ReceiveMaximum, 2)
	p.send(c)
	want[*packet.Connack](p)
	p.subscribe("commands", 1)
	p.subscribe("dev2/commands", 1) // a second mailbox shares the client's window
	for i := range 3 {
		gate.Send(command(fmt.Sprint(i), ""))
		other := command(fmt.Sprint(10+i), "")
		other.Device = "dev2"
		gate.Send(other)
	}
	shown := map[uint16]bool{}
	for range 3 {
		a, b := want[*packet.Publish](p), want[*packet.Publish](p)
		p.wantSilence()
		if a.ID == b.ID {
			t.Fatalf("two deliveries have the identifier %d", a.ID)
		}
		shown[a.ID], shown[b.ID] = true, true
		p.send(&packet.Ack{Kind: packet.PUBACK, ID: a.ID}, &packet.Ack{Kind: packet.PUBACK, ID: b.ID})
	}
	settled(t, gate, 6)
	p.send(&packet.Ack{Kind: packet.PUBACK, ID: 60_000}) // of nothing: harmless
	p.wantSilence()
}

func TestCommandLargerThanClientTakes(t *testing.T) {
	gate := &adaptertest.Gate{}
	p := dial(t, serve(t, mqtt.Config{}, gate), packet.V5)
	c := &packet.Connect{Version: packet.V5, ClientID: "dev1"}
	c.Properties.AddNumber(packet.MaximumPacketSize, 300)
	p.send(c)
	want[*packet.Connack](p)
	p.subscribe("commands", 1)
	big := command("C1", "")
	big.Payload = bytes.Repeat([]byte("x"), 400)
	gate.Send(big)
	if s := settled(t, gate, 1); s.Outcome.Kind != device.Rejected {
		t.Errorf("%+v", s)
	}
	gate.Send(command("C2", ""))
	want[*packet.Publish](p)
}

// TestCommandReturnsToQueue: unacknowledged at the end of the session, the
// command is offered to the next one, with DUP.
func TestCommandReturnsToQueue(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		gate := &adaptertest.Gate{}
		s := serve(t, mqtt.Config{}, gate)
		p := join(t, s, v, "dev1")
		p.subscribe("commands", 1)
		gate.Send(command("C1", ""))
		want[*packet.Publish](p)
		_ = p.conn.Close()
		until(t, gate, "the command is queued again", func() bool { return gate.Queued(id1) == 1 })
		q := join(t, s, v, "dev1")
		q.subscribe("commands", 1)
		m := want[*packet.Publish](q)
		if !m.Dup {
			t.Error("the second attempt does not show DUP")
		}
		q.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
		if s := settled(t, gate, 1); s.Attempt != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestUnsubscribe(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		gate := &adaptertest.Gate{}
		p := join(t, serve(t, mqtt.Config{}, gate), v, "dev1")
		p.subscribe("commands", 1)
		p.subscribe("dev1/commands/#", 1)
		gate.Send(command("C1", "n"))
		m := want[*packet.Publish](p)
		if string(m.Topic) != "dev1/commands/C1/n" {
			t.Errorf("two subscriptions: arrived on %s", m.Topic)
		}
		p.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID}, &packet.Unsubscribe{ID: 5, Filters: []string{"dev1/commands/#", "nothing"}})
		ack := want[*packet.Unsuback](p)
		if v >= packet.V5 && (ack.Reasons[0] != packet.Success || ack.Reasons[1] != packet.NoSubscriptionExisted) {
			t.Errorf("%+v", ack)
		}
		gate.Send(command("C2", "n"))
		if m = want[*packet.Publish](p); string(m.Topic) != "commands" {
			t.Errorf("arrived on %s", m.Topic)
		}
		p.send(&packet.Unsubscribe{ID: 6, Filters: []string{"commands"}})
		want[*packet.Unsuback](p)
		if n := gate.Sessions(id1); n != 0 {
			t.Errorf("%d sessions attached", n)
		}
		gate.Send(command("C3", "n"))
		p.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID}) // too late: it went back
		p.wantSilence()
		if n := gate.Queued(id1); n != 2 {
			t.Errorf("%d commands queued", n)
		}
	})
}

func TestSubscriptionsRefused(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		p := join(t, serve(t, mqtt.Config{MaxAttachments: 1}, &adaptertest.Gate{}), v, "dev1")
		for _, filter := range []string{"#", "+/commands", "dev1/commands/+", "dev1/telemetry", "sensors/#", "a/b/commands", "//commands", "xcommands", "dev1/#"} {
			reason := packet.TopicFilterInvalid
			if v < packet.V5 {
				reason = packet.V311SubscribeFailure
			}
			if got := p.subscribe(filter, 1); got != reason {
				t.Errorf("%s: SUBACK %v, want %v", filter, got, reason)
			}
		}
		p.subscribe("dev1/commands", 1)
		if got := p.subscribe("dev2/commands", 1); !got.Failed() {
			t.Errorf("over the limit: SUBACK %v", got)
		}
		if v < packet.V5 {
			return
		}
		p.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "$share/g/commands"}}})
		p.wantEnd(packet.SharedSubNotSupported)
		q := join(t, serve(t, mqtt.Config{}, &adaptertest.Gate{}), v, "dev1")
		sub := &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "commands"}}}
		sub.Properties.AddNumber(packet.SubscriptionID, 7)
		q.send(sub)
		want[*packet.Suback](q)
	})
}

// TestNewerSessionElsewhere: after the lease is lost a late PUBACK settles
// nothing, and the commands come back when the newer session leaves.
func TestNewerSessionElsewhere(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		gate := &adaptertest.Gate{}
		s := serve(t, mqtt.Config{CommandWindow: 1}, gate)
		p := join(t, s, v, "dev1")
		p.subscribe("commands", 1)
		gate.Send(command("C1", ""))
		first := want[*packet.Publish](p)
		newer := join(t, s, v, "another client")
		newer.subscribe("dev1/commands", 1)
		want[*packet.Publish](newer)
		p.send(&packet.Ack{Kind: packet.PUBACK, ID: first.ID})
		p.wantSilence()
		if n := len(gate.SettledAll()); n != 0 {
			t.Errorf("%d deliveries settled", n)
		}
		_ = newer.conn.Close()
		m := want[*packet.Publish](p)
		p.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
		if s := settled(t, gate, 1); s.Attempt != 3 {
			t.Errorf("%+v", s)
		}
	})
}
