package mqtt_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

const sharedT = "$share/g/t/#"

// TestSharedAnnounced: CONNACK says that there are shared subscriptions.
func TestSharedAnnounced(t *testing.T) {
	p := dial(t, serveTopics(t, mqtt.Config{}, &adaptertest.Gate{}).Server, packet.V5)
	p.send(&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "c"})
	if n, ok := want[*packet.Connack](p).Properties.Number(packet.SharedSubAvailable); !ok || n != 1 {
		t.Errorf("shared subscription available: %d, %v", n, ok)
	}
}

// TestShared: on both versions, of two members one gets each message, of every QoS,
// with what was granted it.
func TestShared(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		b := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
		members := []*wire{join(t, b.Server, v, "m0"), join(t, b.Server, v, "m1")}
		for i, m := range members {
			if got := m.subscribe(sharedT, byte(i+1)); got != packet.Reason(i+1) {
				t.Fatalf("SUBACK %v", got)
			}
		}
		pub := join(t, b.Server, v, "pub")
		const messages = 30
		for id := uint16(1); id <= messages; id++ {
			qos := byte(id % 3)
			pub.send(message(id*uint16(min(qos, 1)), qos, "t/x", fmt.Sprint(id)))
			if qos == 0 {
				continue
			}
			want[*packet.Ack](pub)
			if qos == 2 {
				pub.send(&packet.Ack{Kind: packet.PUBREL, ID: id})
				pub.wantKind(packet.PUBCOMP, id, packet.Success)
			}
		}
		got := make(chan string, 2*messages)
		for i, m := range members {
			go m.consume(got, byte(i+1))
		}
		all := map[string]bool{}
		for range messages {
			all[<-got] = true
		}
		if len(all) != messages {
			t.Errorf("%d of %d messages came", len(all), messages)
		}
	})
}

// consume finishes every message that comes, which has QoS at most.
func (p *wire) consume(got chan<- string, most byte) {
	for {
		x, err := p.next()
		if err != nil {
			return
		}
		var answer packet.Packet
		switch x := x.(type) {
		case *packet.Publish:
			if x.QoS > most {
				p.t.Errorf("QoS %d where %d was granted", x.QoS, most)
			}
			got <- string(x.Payload)
			switch x.QoS {
			case 1:
				answer = &packet.Ack{Kind: packet.PUBACK, ID: x.ID}
			case 2:
				answer = &packet.Ack{Kind: packet.PUBREC, ID: x.ID}
			}
		case *packet.Ack:
			answer = &packet.Ack{Kind: packet.PUBCOMP, ID: x.ID}
		}
		if answer == nil {
			continue
		}
		raw, err := answer.Append(nil, p.v)
		if err == nil {
			_, err = p.conn.Write(raw)
		}
		if err != nil {
			return
		}
	}
}

// TestSharedMemberLost: with QoS 1 what a member had not acknowledged goes to
// another, also when its session stays; with QoS 2 it stays with the session, on
// whatever node that goes on; and what the client refused goes to nobody.
func TestSharedMemberLost(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		a := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
		b := a.door(t, mqtt.Config{}, "b")
		first := a.stay(t, v, "first", false, false)
		first.subscribe(sharedT, 2)
		pub := join(t, a.Server, v, "pub")
		for id := uint16(1); id <= 4; id++ {
			qos := byte(1 + id/3)
			pub.send(message(id, qos, "t", fmt.Sprint(id)))
			want[*packet.Ack](pub)
			if qos == 2 {
				pub.send(&packet.Ack{Kind: packet.PUBREL, ID: id})
				pub.wantKind(packet.PUBCOMP, id, packet.Success)
			}
		}
		one, _ := first.wantMessage("t", "1", 1), first.wantMessage("t", "2", 1)
		three, four := first.wantMessage("t", "3", 2), first.wantMessage("t", "4", 2)
		refused := &packet.Ack{Kind: packet.PUBACK, ID: one.ID}
		if v >= packet.V5 {
			refused.Reason = packet.QuotaExceeded
		}
		first.send(refused, &packet.Ack{Kind: packet.PUBREC, ID: four.ID})
		first.wantKind(packet.PUBREL, four.ID, packet.Success)
		second := b.stay(t, v, "second", true, false)
		second.subscribe(sharedT, 2)
		a.lose(t, first, "first")
		two := second.wantMessage("t", "2", 1)
		if two.Dup {
			t.Error("DUP on what comes to this client for the first time")
		}
		second.send(&packet.Ack{Kind: packet.PUBACK, ID: two.ID})
		second.wantSilence()
		again := b.stay(t, v, "first", false, true)
		if m := again.wantMessage("t", "3", 2); !m.Dup || m.ID != three.ID {
			t.Errorf("%+v", m)
		}
		again.wantKind(packet.PUBREL, four.ID, packet.Success)
		again.send(&packet.Ack{Kind: packet.PUBREC, ID: three.ID}, &packet.Ack{Kind: packet.PUBCOMP, ID: four.ID})
		again.wantKind(packet.PUBREL, three.ID, packet.Success)
		again.send(&packet.Ack{Kind: packet.PUBCOMP, ID: three.ID})
		again.wantSilence()
		second.wantSilence()
	})
}

// TestSharedReceiveMaximum: a member that does not acknowledge has no more than it
// can take, and the other has the rest.
func TestSharedReceiveMaximum(t *testing.T) {
	b := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
	narrow := dial(t, b.Server, packet.V5)
	c := &packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "narrow", KeepAlive: 60}
	c.Properties.AddNumber(packet.ReceiveMaximum, 2)
	narrow.send(c)
	want[*packet.Connack](narrow)
	wide := join(t, b.Server, packet.V5, "wide")
	for _, m := range []*wire{narrow, wide} {
		m.subscribe(sharedT, 1)
	}
	pub := join(t, b.Server, packet.V5, "pub")
	const messages = 20
	got := make(chan string, messages)
	go wide.consume(got, 1)
	for id := uint16(1); id <= messages; id++ {
		pub.send(message(id, 1, "t", fmt.Sprint(id)))
		pub.wantAck(id, packet.Success)
	}
	for range messages - 2 {
		<-got
	}
	for range 2 {
		want[*packet.Publish](narrow)
	}
	narrow.wantSilence()
}

// TestSharedRefused: what is no shared subscription is told so (4.8.2).
func TestSharedRefused(t *testing.T) {
	b := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
	for filter, broken := range map[string]bool{ // also where nothing is said of shares
		"$share/g": false, "$share//t": false, "$share/+/t": false, "$share/g#/t": true, "$share/g/": false, "$share/g/t/#/x": true,
	} {
		p := join(t, b.Server, packet.V5, "c")
		p.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: filter}}})
		p.wantEnd(packet.TopicFilterInvalid)
		q := join(t, b.Server, packet.V311, "c")
		if broken {
			q.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: filter}}})
			q.wantEnd(0)
		} else if got := q.subscribe(filter, 0); got != packet.V311SubscribeFailure {
			t.Errorf("%s on 3.1.1: SUBACK %v", filter, got)
		}
	}
	p := join(t, b.Server, packet.V5, "c")
	for filter, reason := range map[string]packet.Reason{
		"$share/g/c/commands": packet.TopicFilterInvalid, "$share/g/$SYS/#": packet.NotAuthorized,
		"$share/commands/#": packet.GrantedQoS1, "$share/g/telemetry": packet.TopicFilterInvalid, "$share/g/+/telemetry/#": packet.GrantedQoS1,
	} {
		if got := p.subscribe(filter, 1); got != reason {
			t.Errorf("%s: SUBACK %v, want %v", filter, got, reason)
		}
	}
	q := join(t, b.Server, packet.V5, "c")
	filter := "$share/g/t"
	q.raw(append(append([]byte{0x82, byte(6 + len(filter)), 0, 9, 0, 0, byte(len(filter))}, filter...), 0x04)...) // No Local
	q.wantEnd(packet.ProtocolError)
}

// TestSharedNotRetained: no retained message comes with a shared subscription, what
// is retained later comes as it was published, and UNSUBSCRIBE ends it.
func TestSharedNotRetained(t *testing.T) {
	b := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
	pub, sub := join(t, b.Server, packet.V5, "pub"), join(t, b.Server, packet.V5, "sub")
	kept := message(1, 1, "t", "kept")
	kept.Retain = true
	pub.send(kept)
	pub.wantAck(1, packet.Success)
	sub.subscribe(sharedT, 1)
	pub.send(message(2, 1, "t", "next"))
	pub.wantAck(2, packet.Success)
	sub.wantMessage("t", "next", 1)
	sub.send(&packet.Unsubscribe{ID: 3, Filters: []string{"$share/h/t/#", sharedT}})
	if un := want[*packet.Unsuback](sub); !slices.Equal(un.Reasons, []packet.Reason{packet.NoSubscriptionExisted, packet.Success}) {
		t.Errorf("UNSUBACK %+v", un)
	}
	pub.send(message(4, 1, "t", "nobody"))
	pub.wantAck(4, packet.Success)
	sub.wantSilence()
	g := device.Group{Tenant: "default", Name: "g", Filter: "t/#"}
	sub.send(&packet.Ack{Kind: packet.PUBACK, ID: 1})
	poll(t, "the group ends", func() bool { _, there := b.log.Kept(g); return !there })
}
