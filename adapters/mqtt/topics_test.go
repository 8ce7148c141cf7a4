package mqtt_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/topic"
	"github.com/tributary-iot/tributary/topic/topictest"
)

// broker is a door with topics behind it.
type broker struct {
	*mqtt.Server
	gate     *adaptertest.Gate
	log      *topictest.Log
	records  *topictest.Records
	commands *topictest.Commands
	kill     func()                                                      // as the node's death would
	wrap     func(topic.Log, topic.Sessions) (topic.Log, topic.Sessions) // of the next door; nil: as they are
	metrics  *prometheus.Registry
}

// subscriptions is how many there are on this node.
func (b *broker) subscriptions() int {
	families, _ := b.metrics.Gather()
	for _, f := range families {
		if f.GetName() == "tributary_topic_subscriptions" {
			return int(f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	return 0
}

func serveTopics(t testing.TB, cfg mqtt.Config, gate *adaptertest.Gate) *broker {
	t.Helper()
	return newHouse(gate).door(t, cfg, "a")
}

// newHouse is what nodes share.
func newHouse(gate *adaptertest.Gate) *broker {
	return &broker{gate: gate, log: &topictest.Log{}, records: &topictest.Records{}, commands: &topictest.Commands{}}
}

// door is a door on another node of the same house.
func (b *broker) door(t testing.TB, cfg mqtt.Config, node string) *broker {
	t.Helper()
	next := *b
	b = &next
	b.metrics = prometheus.NewRegistry()
	var log topic.Log = b.log
	var sessions topic.Sessions = b.records.Node(node)
	if b.wrap != nil {
		log, sessions = b.wrap(log, sessions)
	}
	topics, err := topic.New(topic.Config{TendEvery: 5 * time.Millisecond, Registerer: b.metrics}, log, sessions, b.commands)
	if err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- topics.Run(run, sync.OnceFunc(func() { close(ready) })) }()
	<-ready
	b.kill = func() { b.records.Kill(node) }
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		stop()
		<-ended
		if err := topics.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	cfg.Topics = topics
	b.Server = serve(t, cfg, b.gate)
	return b
}

// message is a PUBLISH with any QoS.
func message(id uint16, qos byte, topic, payload string) *packet.Publish {
	return &packet.Publish{ID: id, QoS: qos, Topic: []byte(topic), Payload: []byte(payload)}
}

// wantKind reads an acknowledgement.
func (p *wire) wantKind(kind packet.Type, id uint16, reason packet.Reason) {
	p.t.Helper()
	if a := want[*packet.Ack](p); a.Kind != kind || a.ID != id || a.Reason != reason {
		p.t.Fatalf("got %v of %d with %v, want %v of %d with %v", a.Kind, a.ID, a.Reason, kind, id, reason)
	}
}

// wantMessage reads a PUBLISH.
func (p *wire) wantMessage(topic, payload string, qos byte) *packet.Publish {
	p.t.Helper()
	m := want[*packet.Publish](p)
	if string(m.Topic) != topic || string(m.Payload) != payload || m.QoS != qos {
		p.t.Fatalf("got %q on %q with QoS %d, want %q on %q with %d", m.Payload, m.Topic, m.QoS, payload, topic, qos)
	}
	return m
}

// TestTopics: published with each QoS, received with the lower of two, on both versions.
func TestTopics(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		s := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
		sub, pub := join(t, s.Server, v, "sub"), join(t, s.Server, v, "pub")
		for granted := range byte(3) {
			if got := sub.subscribe("a/+/#", granted); got != packet.Reason(granted) {
				t.Fatalf("SUBACK %v", got)
			}
			for qos := range byte(3) {
				payload := fmt.Sprintf("%d as %d", qos, granted)
				id := uint16(qos) * 7
				pub.send(message(id, qos, "a/b/c", payload))
				switch qos {
				case 1:
					pub.wantAck(id, packet.Success)
				case 2:
					pub.wantKind(packet.PUBREC, id, packet.Success)
					pub.send(&packet.Ack{Kind: packet.PUBREL, ID: id})
					pub.wantKind(packet.PUBCOMP, id, packet.Success)
				}
				m := sub.wantMessage("a/b/c", payload, min(qos, granted))
				switch m.QoS {
				case 1:
					sub.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
				case 2:
					sub.send(&packet.Ack{Kind: packet.PUBREC, ID: m.ID})
					sub.wantKind(packet.PUBREL, m.ID, packet.Success)
					sub.send(&packet.Ack{Kind: packet.PUBCOMP, ID: m.ID})
				}
			}
		}
		sub.send(&packet.Unsubscribe{ID: 3, Filters: []string{"a/+/#", "a"}})
		un := want[*packet.Unsuback](sub)
		if v >= packet.V5 && !slices.Equal(un.Reasons, []packet.Reason{packet.Success, packet.NoSubscriptionExisted}) {
			t.Errorf("UNSUBACK %+v", un)
		}
		pub.send(message(0, 0, "a/b/c", "nobody"), message(9, 1, "a/b/c", "nobody"))
		pub.wantAck(9, packet.Success)
		sub.wantSilence()
	})
}

// TestQoS2OnlyOnce: whatever is sent again before its release is one message,
// and after it another (4.3.3).
func TestQoS2OnlyOnce(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		s := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
		p := join(t, s.Server, v, "dev1")
		again := message(5, 2, "dev1/telemetry", "1")
		for range 3 {
			p.send(again)
			p.wantKind(packet.PUBREC, 5, packet.Success)
			again.Dup = true
		}
		for range 2 { // the second release finds nothing, and is answered all the same
			p.send(&packet.Ack{Kind: packet.PUBREL, ID: 5})
			if a := want[*packet.Ack](p); a.Kind != packet.PUBCOMP || a.ID != 5 {
				t.Fatalf("%+v", a)
			}
		}
		p.send(message(5, 2, "dev1/telemetry", "2"))
		p.wantKind(packet.PUBREC, 5, packet.Success)
		if all := s.gate.Stored(); len(all) != 2 || string(all[1].Payload) != "2" {
			t.Errorf("%+v", all)
		}
	})
}

// TestReceiveMaximumCountsQoS2: an identifier counts until it is released (4.9).
func TestReceiveMaximumCountsQoS2(t *testing.T) {
	s := serveTopics(t, mqtt.Config{Window: 2}, &adaptertest.Gate{})
	p := join(t, s.Server, packet.V5, "c")
	p.send(message(1, 2, "a", "x"), message(2, 2, "a", "y"))
	p.wantKind(packet.PUBREC, 1, packet.Success)
	p.wantKind(packet.PUBREC, 2, packet.Success)
	p.send(&packet.Ack{Kind: packet.PUBREL, ID: 1})
	p.wantKind(packet.PUBCOMP, 1, packet.Success)
	p.send(message(3, 2, "a", "z"))
	p.wantKind(packet.PUBREC, 3, packet.Success)
	p.send(message(4, 2, "a", "over"))
	p.wantEnd(packet.ReceiveMaximumExceeded)
}

// TestClientsReceiveMaximum: no more unfinished than it takes, QoS 2 counted to
// the end, and nothing lost.
func TestClientsReceiveMaximum(t *testing.T) {
	s := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
	sub := dial(t, s.Server, packet.V5)
	c := &packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "sub"}
	c.Properties.AddNumber(packet.ReceiveMaximum, 2)
	sub.send(c)
	want[*packet.Connack](sub)
	sub.subscribe("#", 2)
	pub := join(t, s.Server, packet.V5, "pub")
	for i := range 9 {
		pub.send(message(uint16(i+1), 1+byte(i%2), "t", fmt.Sprint(i)))
		want[*packet.Ack](pub)
	}
	for i := 0; i < 9; i += 2 {
		var open []*packet.Publish
		for j := i; j < min(i+2, 9); j++ {
			open = append(open, sub.wantMessage("t", fmt.Sprint(j), 1+byte(j%2)))
		}
		sub.wantSilence()
		for _, m := range open {
			if m.QoS == 1 {
				sub.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
				continue
			}
			sub.send(&packet.Ack{Kind: packet.PUBREC, ID: m.ID})
		}
		for released := 0; released < len(open)/2; {
			x, err := sub.next()
			if err != nil {
				t.Fatal(err)
			}
			if a, ok := x.(*packet.Ack); ok && a.Kind == packet.PUBREL {
				sub.send(&packet.Ack{Kind: packet.PUBCOMP, ID: a.ID})
				released++
			} else if m, ok := x.(*packet.Publish); ok { // the place of the QoS 1 message
				i++
				if string(m.Payload) != fmt.Sprint(i+1) {
					t.Fatalf("%s came early", m.Payload)
				}
				sub.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
				if m.QoS == 2 {
					t.Fatal("more than two unfinished")
				}
			}
		}
	}
}

// TestWhoMayUseWhichTopic: a device what is below its name, an application all
// of its tenant; docs/principals.md.
func TestWhoMayUseWhichTopic(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		program := device.ID{Tenant: "default", Device: "app"}
		gate := &adaptertest.Gate{RefuseAnonymous: true, Secrets: map[device.ID]string{id1: "s", program: "a"}, Kinds: map[device.ID]device.PrincipalKind{program: device.KindApplication}}
		s := serveTopics(t, mqtt.Config{}, gate)
		clients := 0
		login := func(user, secret string) *wire {
			p := dial(t, s.Server, v)
			clients++
			p.send(&packet.Connect{Version: v, CleanStart: true, ClientID: fmt.Sprint(user, clients), HasUser: true, User: user, HasPassword: true, Password: []byte(secret)})
			if a := want[*packet.Connack](p); a.Reason != packet.Success {
				t.Fatalf("%+v", a)
			}
			return p
		}
		refused, invalid := packet.NotAuthorized, packet.TopicFilterInvalid
		if v < packet.V5 {
			refused, invalid = packet.V311SubscribeFailure, packet.V311SubscribeFailure
		}
		dev, app := login("dev1", "s"), login("app", "a")
		for filter, reason := range map[string]packet.Reason{
			"dev1/#": 1, "dev1/state/+": 1, "dev1": 1, "dev1/telemetry/#": 1, "dev1/commands/#": 1,
			"#": refused, "+/state": refused, "dev2/state": refused, "/dev1/state": refused, "dev1/commands/+": invalid, "+/commands/#": invalid, "dev1/responses/#": invalid, "$SYS/#": refused,
			"dev1/x/$share/g": 1, "$share/g/dev1/#": 1, "$share/g/dev2/#": refused, "$share/g/#": refused, "$share/g/dev1/commands": invalid,
		} {
			if got := dev.subscribe(filter, 1); got != reason {
				t.Errorf("device, %s: %v, want %v", filter, got, reason)
			}
		}
		for filter, reason := range map[string]packet.Reason{
			"#": 1, "+/telemetry/#": 1, "any/where": 1, "$share/g/#": 1, "$share/commands/#": 1, "dev1/commands": refused, "+/commands": invalid, "+/commands/#": invalid, "telemetry/#": invalid,
		} {
			if got := app.subscribe(filter, 1); got != reason {
				t.Errorf("application, %s: %v, want %v", filter, got, reason)
			}
		}
		for _, x := range []struct {
			who   *wire
			topic string
		}{{dev, "dev2/state"}, {login("app", "a"), "dev1/telemetry"}, {login("dev1", "s"), "dev1/commands"}, {login("dev1", "s"), "state"}} {
			x.who.send(message(1, 1, x.topic, "x"))
			if v >= packet.V5 {
				x.who.wantAck(1, packet.NotAuthorized)
			} else {
				x.who.wantClosed()
			}
		}
	})
}

// TestApplicationSendsCommand: a durable command, its id on the Response Topic.
func TestApplicationSendsCommand(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		s := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
		p := join(t, s.Server, v, "app")
		p.subscribe("app/replies", 1)
		m := message(3, 2, "dev1/commands", `{"on":true}`)
		if v >= packet.V5 {
			m.Properties.AddText(packet.ContentType, "application/json")
			m.Properties.AddNumber(packet.MessageExpiry, 60)
			m.Properties.AddText(packet.ResponseTopic, "app/replies")
			m.Properties.AddText(packet.CorrelationData, "mine")
		}
		p.send(m)
		for acked, replied := false, v < packet.V5; !acked || !replied; {
			switch x := must(p.next()).(type) {
			case *packet.Ack:
				acked = x.Kind == packet.PUBREC && x.ID == 3 && x.Reason == packet.Success
			case *packet.Publish:
				mine, _ := x.Properties.Text(packet.CorrelationData)
				replied = mine == "mine" && string(x.Payload) == "01COMMANDA"
			default:
				t.Fatalf("%+v", x)
			}
		}
		all := s.commands.Sent()
		if len(all) != 1 || all[0].Name != "" || all[0].ForDevice() != id1 || all[0].OneWay != (v < packet.V5) || all[0].Deadline.IsZero() != (v < packet.V5) {
			t.Errorf("%+v", all)
		}
	})
}

// TestPropertiesEndToEnd: everything a MQTT 5 message carries arrives unaltered
// and in order, by way of an alias in either direction.
func TestPropertiesEndToEnd(t *testing.T) {
	s := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
	sub := dial(t, s.Server, packet.V5)
	c := &packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "sub"}
	c.Properties.AddNumber(packet.TopicAliasMaximum, 1)
	sub.send(c)
	want[*packet.Connack](sub)
	x := &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "t/#", QoS: 1}}}
	x.Properties.AddNumber(packet.SubscriptionID, 268_435_455)
	sub.send(x)
	want[*packet.Suback](sub)
	pub := join(t, s.Server, packet.V5, "pub")
	var sent packet.Properties
	sent.AddNumber(packet.PayloadFormat, 1)
	sent.AddNumber(packet.MessageExpiry, 1000)
	sent.AddText(packet.ContentType, "text/plain")
	sent.AddText(packet.ResponseTopic, "back/here")
	sent.AddText(packet.CorrelationData, "\x00\xff")
	sent.AddUser("b", "1")
	sent.AddUser("a", "2")
	sent.AddUser("b", "3")
	for i, topic := range []string{"t/a", "", "t/b", "t/a"} {
		m := message(uint16(i+1), 1, topic, "héllo")
		m.Properties = slices.Clone(sent)
		if i < 2 {
			m.Properties.AddNumber(packet.TopicAlias, 7)
		}
		pub.send(m)
		pub.wantAck(uint16(i+1), packet.Success)
		wantTopic, wantAlias := []string{"t/a", "", "t/b", ""}[i], i != 2
		got := want[*packet.Publish](sub)
		sub.send(&packet.Ack{Kind: packet.PUBACK, ID: got.ID})
		expected := append(slices.Clone(sent), packet.Property{ID: packet.SubscriptionID, Number: 268_435_455})
		if wantAlias {
			expected = append(expected, packet.Property{ID: packet.TopicAlias, Number: 1})
		}
		if string(got.Topic) != wantTopic || !slices.Equal(got.Properties, expected) || string(got.Payload) != "héllo" {
			t.Errorf("message %d on %q: %+v", i, got.Topic, got.Properties)
		}
	}
	bad := message(9, 1, "t/a", "\xff")
	bad.Properties.AddNumber(packet.PayloadFormat, 1)
	pub.send(bad)
	pub.wantAck(9, packet.PayloadFormatInvalid)
}

// TestSubscriptionOptions: no local, retain as published, identifiers of all
// filters that take a message, which comes once with the highest QoS (3.3.4).
func TestSubscriptionOptions(t *testing.T) {
	s := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
	p, q := join(t, s.Server, packet.V5, "p"), join(t, s.Server, packet.V5, "q")
	for i, f := range []packet.Filter{{Topic: "a/#", QoS: 0, NoLocal: true, RetainAsPublished: true}, {Topic: "a/b", QoS: 2, NoLocal: true}, {Topic: "c", QoS: 1}} {
		x := &packet.Subscribe{ID: 1, Filters: []packet.Filter{f}}
		x.Properties.AddNumber(packet.SubscriptionID, uint32(i+1))
		p.send(x)
		want[*packet.Suback](p)
	}
	p.send(message(1, 1, "a/b", "mine"))
	p.wantAck(1, packet.Success)
	m := message(1, 1, "a/b", "yours")
	m.Retain = true
	q.send(m)
	q.wantAck(1, packet.Success)
	got := p.wantMessage("a/b", "yours", 1)
	var ids []uint32
	for _, x := range got.Properties {
		if x.ID == packet.SubscriptionID {
			ids = append(ids, x.Number)
		}
	}
	slices.Sort(ids)
	if !slices.Equal(ids, []uint32{1, 2}) || !got.Retain {
		t.Errorf("identifiers %v, retain %v", ids, got.Retain)
	}
	p.send(message(2, 1, "c", "mine again"))
	if m, ok := must(p.next()).(*packet.Publish); ok { // the PUBACK comes before it or after
		if string(m.Payload) != "mine again" {
			t.Errorf("%s", m.Payload)
		}
		p.wantAck(2, packet.Success)
	} else {
		p.wantMessage("c", "mine again", 1)
	}
}

func must[T any](x T, err error) T {
	if err != nil {
		panic(err)
	}
	return x
}

// TestSlowSubscriber: one that reads nothing costs a bounded queue and loses
// QoS 0 only; what it missed is read for it when it goes on.
func TestSlowSubscriber(t *testing.T) {
	s := serveTopics(t, mqtt.Config{Window: 4}, &adaptertest.Gate{})
	slow, pub := join(t, s.Server, packet.V311, "slow"), join(t, s.Server, packet.V311, "pub")
	slow.subscribe("t", 1)
	const n = 1200
	for i := range n {
		pub.send(message(1, 1, "t", fmt.Sprint(i)))
		pub.wantAck(1, packet.Success)
	}
	for i := range n {
		m := slow.wantMessage("t", fmt.Sprint(i), 1)
		slow.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
	}
	slow.wantSilence()
	if s.log.Reads() == 0 {
		t.Error("it was never read for")
	}
}

// TestRetained: told to who comes later as retained, to who is there as a
// message; replaced and cleared; telemetry, too, which is stored all the same
// (3.3.1.3).
func TestRetained(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		s := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
		there, pub := join(t, s.Server, v, "there"), join(t, s.Server, v, "dev1")
		there.subscribe("+/state", 0)
		id := uint16(0)
		keep := func(topic, payload string) {
			id++
			m := message(id, 1, topic, payload)
			m.Retain = true
			pub.send(m)
			pub.wantAck(id, packet.Success)
		}
		keep("dev1/state", "old")
		keep("dev1/state", "new")
		keep("dev1/telemetry", "21.5")
		for _, payload := range []string{"old", "new"} {
			if m := there.wantMessage("dev1/state", payload, 0); m.Retain {
				t.Error("a live message is shown as retained")
			}
		}
		later := join(t, s.Server, v, "later")
		later.subscribe("dev1/#", 1)
		got := map[string]bool{}
		for range 2 {
			m := want[*packet.Publish](later)
			got[string(m.Topic)+" "+string(m.Payload)] = m.Retain && m.QoS == 1
			later.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
		}
		if !got["dev1/state new"] || !got["dev1/telemetry 21.5"] {
			t.Errorf("%v", got)
		}
		if n := len(s.gate.Stored()); n != 1 {
			t.Errorf("%d stored", n)
		}
		keep("dev1/state", "")
		keep("dev1/telemetry", "")
		last := join(t, s.Server, v, "last")
		last.subscribe("dev1/#", 1)
		last.wantSilence()
	})
}

// TestInOrderAfterRetained: a message is published once it is retained, and what its
// sender published next comes next (4.6); of telemetry, too.
func TestInOrderAfterRetained(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		s := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
		there, pub := join(t, s.Server, v, "there"), join(t, s.Server, v, "dev1")
		there.subscribe("dev1/state", 1)
		const messages = 40
		for i := range uint16(messages) {
			for n, topic := range []string{"dev1/state", "dev1/telemetry"} {
				m := message(2*i+uint16(n)+1, 1, topic, fmt.Sprint(i))
				m.Retain = i%2 == 0
				pub.send(m)
			}
		}
		for i := range uint16(2 * messages) {
			pub.wantAck(i+1, packet.Success)
		}
		for i := range messages {
			m := there.wantMessage("dev1/state", fmt.Sprint(i), 1)
			there.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
		}
		for i, m := range s.gate.Stored() {
			if string(m.Payload) != fmt.Sprint(i) || (m.Kept != 0) != (i%2 == 0) {
				t.Fatalf("%q, retained at %d, was stored in place %d", m.Payload, m.Kept, i)
			}
		}
	})
}
