package mqtt_test

import (
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
)

// TestTopicsAreTakenAsTheyAre: nothing of a topic or a filter is normalized,
// stripped or folded (1.5.4-3, 4.7.3-4).
func TestTopicsAreTakenAsTheyAre(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		s := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
		pub := join(t, s.Server, v, "pub")
		topics := []string{"a/b", "A/b", "a/b/", "/a/b", "a//b", "\ufeffa/b", "a/b\ufeff", "a/b ", "a/\u00e9", "a/e\u0301"}
		for i, filter := range topics {
			sub := join(t, s.Server, v, "sub-"+string(rune('a'+i)))
			sub.subscribe(filter, 1)
			for j, topic := range topics {
				pub.send(publish(uint16(j+1), topic, topic))
				pub.wantAck(uint16(j+1), packet.Success)
			}
			m := sub.wantMessage(filter, filter, 1)
			sub.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
			pub.send(publish(99, filter, "last"))
			pub.wantAck(99, packet.Success)
			sub.wantMessage(filter, "last", 1)
		}
	})
}

// TestUnsubscribeLetsFinish: a message that is on its way when its filter is taken
// away is finished (3.10.4-3), and no other comes.
func TestUnsubscribeLetsFinish(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		s := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
		sub, pub := join(t, s.Server, v, "sub"), join(t, s.Server, v, "pub")
		sub.subscribe("t", 2)
		pub.send(message(1, 2, "t", "begun"))
		pub.wantKind(packet.PUBREC, 1, packet.Success)
		m := sub.wantMessage("t", "begun", 2)
		sub.send(&packet.Unsubscribe{ID: 5, Filters: []string{"t"}})
		want[*packet.Unsuback](sub)
		pub.send(publish(2, "t", "late"))
		pub.wantAck(2, packet.Success)
		sub.send(&packet.Ack{Kind: packet.PUBREC, ID: m.ID})
		sub.wantKind(packet.PUBREL, m.ID, packet.Success)
		sub.send(&packet.Ack{Kind: packet.PUBCOMP, ID: m.ID})
		sub.wantSilence()
	})
}

// TestFreedIdentifiersAreNew: an identifier that was acknowledged stands for another
// message, whatever DUP says (4.3.2-5, 4.3.3-12), one that was refused too (4.3.3-9).
func TestFreedIdentifiersAreNew(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		s := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
		sub, pub := join(t, s.Server, v, "sub"), join(t, s.Server, v, "pub")
		sub.subscribe("t", 0)
		send := func(qos byte, dup bool, payload string) {
			m := message(1, qos, "t", payload)
			m.Dup = dup
			pub.send(m)
			if qos == 2 {
				pub.wantKind(packet.PUBREC, 1, packet.Success)
				pub.send(&packet.Ack{Kind: packet.PUBREL, ID: 1})
				pub.wantKind(packet.PUBCOMP, 1, packet.Success)
			} else {
				pub.wantAck(1, packet.Success)
			}
			sub.wantMessage("t", payload, 0)
		}
		send(1, false, "first")
		send(1, true, "another, though DUP is set")
		send(2, false, "third")
		send(2, true, "fourth, though DUP is set")
		if v < packet.V5 {
			return // a refusal ends the connection
		}
		pub.send(message(1, 2, "$no", "refused"))
		pub.wantKind(packet.PUBREC, 1, packet.NotAuthorized)
		send(2, false, "the identifier is free")
	})
}

// TestBegunOutlivesItsExpiry: what was sent once is finished, in either direction,
// though its time is over meanwhile (4.3.3-7, 4.3.3-13).
func TestBegunOutlivesItsExpiry(t *testing.T) {
	t.Parallel()
	b := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
	sub, pub := b.stay(t, packet.V5, "sub", false, false), join(t, b.Server, packet.V5, "pub")
	sub.subscribe("t", 2)
	m := message(1, 2, "t", "brief")
	m.Properties.AddNumber(packet.MessageExpiry, 1)
	pub.send(m)
	pub.wantKind(packet.PUBREC, 1, packet.Success)
	over := time.After(1100 * time.Millisecond)
	first := sub.wantMessage("t", "brief", 2)
	b.lose(t, sub, "sub")
	<-over
	again := b.stay(t, packet.V5, "sub", false, true)
	if m := again.wantMessage("t", "brief", 2); !m.Dup || m.ID != first.ID {
		t.Errorf("%+v", m)
	}
	pub.send(&packet.Ack{Kind: packet.PUBREL, ID: 1})
	pub.wantKind(packet.PUBCOMP, 1, packet.Success)
}
