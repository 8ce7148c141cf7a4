package mqtt_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/topic"
)

// stay connects a client whose session is to outlive the connection by an hour
// (for good, on 3.1.1), and wants to hear whether it goes on.
func (b *broker) stay(t testing.TB, v packet.Version, client string, clean, present bool, change ...func(*packet.Connect)) *wire {
	t.Helper()
	p := dial(t, b.Server, v)
	c := &packet.Connect{Version: v, CleanStart: clean, ClientID: client, KeepAlive: 60}
	if v >= packet.V5 {
		c.Properties.AddNumber(packet.SessionExpiry, 3600)
	}
	for _, f := range change {
		f(c)
	}
	p.send(c)
	if ack := want[*packet.Connack](p); ack.Reason != packet.Success || ack.SessionPresent != present {
		t.Fatalf("CONNACK %+v, want session present %v", ack, present)
	}
	return p
}

// lose cuts a client's connection and waits until its session is written down.
func (b *broker) lose(t testing.TB, p *wire, client string) {
	t.Helper()
	_ = p.conn.Close()
	key := device.SessionKey{Principal: device.ID{Tenant: "default", Device: client}, Client: client}
	poll(t, "the session is left", func() bool { r := b.records.Get(key); return r == nil || r.Node == "" })
}

// TestSessionResumed: what was sent and not finished comes again under its
// identifier, what is released is only released again, and what was missed
// follows; on the door before, on another, and after the node of the first died.
func TestSessionResumed(t *testing.T) {
	for _, how := range []string{"same door", "another door", "the node died"} {
		t.Run(how, func(t *testing.T) {
			both(t, func(t *testing.T, v packet.Version) {
				a := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
				next := a
				if how != "same door" {
					next = a.door(t, mqtt.Config{}, "b")
				}
				p := a.stay(t, v, "sub", false, false)
				if got := p.subscribe("t", 2); got != 2 {
					t.Fatalf("SUBACK %v", got)
				}
				pub := join(t, a.Server, v, "pub")
				send := func(id uint16, qos byte) {
					pub.send(message(id, qos, "t", fmt.Sprint(id)))
					want[*packet.Ack](pub)
					if qos == 2 {
						pub.send(&packet.Ack{Kind: packet.PUBREL, ID: id})
						pub.wantKind(packet.PUBCOMP, id, packet.Success)
					}
				}
				send(1, 1)
				send(2, 2)
				send(3, 2)
				first, second, third := p.wantMessage("t", "1", 1), p.wantMessage("t", "2", 2), p.wantMessage("t", "3", 2)
				p.send(&packet.Ack{Kind: packet.PUBREC, ID: second.ID})
				p.wantKind(packet.PUBREL, second.ID, packet.Success)
				if how == "the node died" {
					a.kill()
				} else {
					a.lose(t, p, "sub")
				}
				far := join(t, next.Server, v, "pub2")
				far.send(message(1, 1, "t", "missed"))
				far.wantAck(1, packet.Success)
				q := next.stay(t, v, "sub", false, true)
				if m := q.wantMessage("t", "1", 1); !m.Dup || m.ID != first.ID {
					t.Errorf("%+v", m)
				}
				q.wantKind(packet.PUBREL, second.ID, packet.Success)
				if m := q.wantMessage("t", "3", 2); !m.Dup || m.ID != third.ID {
					t.Errorf("%+v", m)
				}
				m := q.wantMessage("t", "missed", 1)
				if m.Dup || slices.Contains([]uint16{first.ID, second.ID, third.ID}, m.ID) {
					t.Errorf("%+v", m)
				}
				q.send(&packet.Ack{Kind: packet.PUBACK, ID: first.ID}, &packet.Ack{Kind: packet.PUBCOMP, ID: second.ID},
					&packet.Ack{Kind: packet.PUBREC, ID: third.ID}, &packet.Ack{Kind: packet.PUBACK, ID: m.ID})
				q.wantKind(packet.PUBREL, third.ID, packet.Success)
				q.send(&packet.Ack{Kind: packet.PUBCOMP, ID: third.ID})
				q.wantSilence()
				next.lose(t, q, "sub")
				next.stay(t, v, "sub", false, true).wantSilence() // all is finished
			})
		})
	}
}

// TestQoS2AcrossConnections: a message whose PUBREC was lost is sent again on
// another connection, and is one; its release is found there, too.
func TestQoS2AcrossConnections(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		b := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
		watch := join(t, b.Server, v, "watch")
		watch.subscribe("t", 0)
		p := b.stay(t, v, "dev1", false, false)
		for id, topic := range map[uint16]string{5: "t", 6: "dev1/telemetry", 7: "dev2/commands"} {
			p.send(message(id, 2, topic, "once"))
			p.wantKind(packet.PUBREC, id, packet.Success)
		}
		b.lose(t, p, "dev1")
		q := b.stay(t, v, "dev1", false, true)
		for id, topic := range map[uint16]string{5: "t", 6: "dev1/telemetry", 7: "dev2/commands"} {
			m := message(id, 2, topic, "once")
			m.Dup = true
			q.send(m)
			q.wantKind(packet.PUBREC, id, packet.Success)
			q.send(&packet.Ack{Kind: packet.PUBREL, ID: id})
			q.wantKind(packet.PUBCOMP, id, packet.Success)
		}
		watch.wantMessage("t", "once", 0)
		watch.wantSilence()
		if n := len(b.commands.Sent()); n != 1 {
			t.Errorf("%d commands", n)
		}
		stored := b.gate.Stored() // the store keeps one of those with one key
		if len(stored) != 2 || stored[0].Key == "" || stored[0].Key != stored[1].Key {
			t.Errorf("%+v", stored)
		}
		q.send(message(5, 2, "t", "another"))
		q.wantKind(packet.PUBREC, 5, packet.Success)
		watch.wantMessage("t", "another", 0)
	})
}

// TestCommandsGoOn: a session that goes on is attached to the mailboxes it was
// subscribed to, and unsubscribing ends that for good.
func TestCommandsGoOn(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		b := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
		p := b.stay(t, v, "dev1", false, false)
		p.subscribe("dev1/commands/#", 1)
		b.lose(t, p, "dev1")
		b.gate.Send(command("C1", "heat"))
		q := b.stay(t, v, "dev1", false, true)
		m := want[*packet.Publish](q)
		if string(m.Topic) != "dev1/commands/C1/heat" {
			t.Errorf("on %s", m.Topic)
		}
		q.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID}, &packet.Unsubscribe{ID: 1, Filters: []string{"dev1/commands/#"}})
		want[*packet.Unsuback](q)
		b.lose(t, q, "dev1")
		b.gate.Send(command("C2", "heat"))
		b.stay(t, v, "dev1", false, true).wantSilence()
	})
}

// TestSessionExpiry: said in CONNECT, cut by the server, changed in DISCONNECT,
// not raised from nothing (3.1.2.11.2, 3.14.2.2.2).
func TestSessionExpiry(t *testing.T) {
	b := serveTopics(t, mqtt.Config{MaxSessionExpiry: 2 * time.Hour}, &adaptertest.Gate{})
	key := device.SessionKey{Principal: device.ID{Tenant: "default", Device: "c"}, Client: "c"}
	for asked, got := range map[uint32]uint32{3600: 0, 7201: 7200, 1<<32 - 1: 7200} {
		p := dial(t, b.Server, packet.V5)
		c := &packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "c"}
		c.Properties.AddNumber(packet.SessionExpiry, asked)
		p.send(c)
		ack := want[*packet.Connack](p)
		if n, _ := ack.Properties.Number(packet.SessionExpiry); n != got || ack.SessionPresent {
			t.Errorf("asked for %d: %+v", asked, ack)
		}
		bye := &packet.Disconnect{}
		bye.Properties.AddNumber(packet.SessionExpiry, 60)
		p.send(bye)
		p.wantClosed()
		poll(t, "it is written down", func() bool { r := b.records.Get(key); return r != nil && r.Node == "" && r.Expiry == time.Minute })
	}
	p := b.stay(t, packet.V5, "c", false, true)
	bye := &packet.Disconnect{}
	bye.Properties.AddNumber(packet.SessionExpiry, 0)
	p.send(bye)
	poll(t, "it is gone", func() bool { return b.records.Get(key) == nil })
	q := b.stay(t, packet.V5, "c", false, false, func(c *packet.Connect) { c.Properties = nil })
	raise := &packet.Disconnect{}
	raise.Properties.AddNumber(packet.SessionExpiry, 60)
	q.send(raise)
	q.wantEnd(packet.ProtocolError)
}

// TestWillOnTheWire: with every property, when the connection is lost or the
// client asks for it, and not when it says goodbye.
func TestWillOnTheWire(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		b := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
		watch := join(t, b.Server, v, "watch")
		watch.subscribe("dev1/#", 1)
		with := func(c *packet.Connect) {
			c.Will = &packet.Will{Topic: "dev1/gone", Payload: []byte("gone"), QoS: 1, Retain: true}
			c.Properties = nil
			if v >= packet.V5 {
				c.Will.Properties.AddText(packet.ContentType, "text/plain")
				c.Will.Properties.AddUser("a", "b")
			}
		}
		heard := func() {
			t.Helper()
			m := watch.wantMessage("dev1/gone", "gone", 1)
			watch.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
			if kind, _ := m.Properties.Text(packet.ContentType); v >= packet.V5 && kind != "text/plain" || m.Retain {
				t.Errorf("%+v", m)
			}
		}
		p := b.stay(t, v, "dev1", true, false, with)
		_ = p.conn.Close()
		heard()
		p = b.stay(t, v, "dev1", true, false, with)
		p.send(&packet.Disconnect{})
		p.wantClosed()
		if v >= packet.V5 {
			p = b.stay(t, v, "dev1", true, false, with)
			p.send(&packet.Disconnect{Reason: packet.DisconnectWithWill})
			heard()
		}
		p = b.stay(t, v, "dev1", true, false, with)
		q := b.stay(t, v, "dev1", true, false)
		p.wantEnd(packet.SessionTakenOver)
		heard()
		q.subscribe("dev1/gone", 0)
		if m := q.wantMessage("dev1/gone", "gone", 0); !m.Retain {
			t.Error("the will was not retained")
		}
		watch.wantSilence()
	})
}

// TestWillsRefused: on a topic that is not the client's to use.
func TestWillsRefused(t *testing.T) {
	gate := &adaptertest.Gate{Secrets: map[device.ID]string{id1: "s"}}
	b := serveTopics(t, mqtt.Config{}, gate)
	for topic, reason := range map[string]packet.Reason{"dev2/gone": packet.NotAuthorized, "dev1/telemetry": packet.TopicNameInvalid, "dev1/commands": packet.TopicNameInvalid, "dev1/responses/x": packet.TopicNameInvalid} {
		for _, v := range []packet.Version{packet.V311, packet.V5} {
			reason := reason
			p := dial(t, b.Server, v)
			p.send(&packet.Connect{Version: v, CleanStart: true, ClientID: "c", HasUser: true, User: "dev1", HasPassword: true, Password: []byte("s"), Will: &packet.Will{Topic: topic}})
			if v < packet.V5 {
				reason = packet.V311NotAuthorized
			}
			if ack := want[*packet.Connack](p); ack.Reason != reason {
				t.Errorf("%s: %+v", topic, ack)
			}
			p.wantClosed()
		}
	}
}

// TestReconnectWhileStoring: a QoS 2 message whose fate was open when its
// connection was lost is sent again on the next, and is one all the same.
func TestReconnectWhileStoring(t *testing.T) {
	gate := &adaptertest.Gate{}
	h := hold(gate)
	b := serveTopics(t, mqtt.Config{}, gate)
	p := b.stay(t, packet.V5, "dev1", false, false)
	p.send(message(5, 2, "dev1/telemetry", "once"))
	first := h.next(t)
	_ = p.conn.Close()
	joined := make(chan *wire)
	go func() { joined <- b.stay(t, packet.V5, "dev1", false, true) }()
	select {
	case <-joined:
		t.Fatal("the session goes on while nobody knows what became of its message")
	case <-time.After(50 * time.Millisecond): // nothing hangs on it: it is too short only for a wrong answer to show
	}
	b.log.Put(device.SourceTelemetry, &device.Publication{Tenant: "default", Topic: "dev1/telemetry", Mark: first.m.Key})
	first.done(nil)
	q := <-joined
	again := message(5, 2, "dev1/telemetry", "once")
	again.Dup = true
	q.send(again)
	q.wantKind(packet.PUBREC, 5, packet.Success)
	if len(h.ch) != 0 {
		t.Error("it was handed on twice")
	}
}

// slowLog fails its first Append, and finds nothing before it is told to.
type slowLog struct {
	topic.Log
	failed atomic.Bool
	find   chan struct{}
}

func (l *slowLog) Append(p *device.Publication, done func(error)) error {
	if l.failed.CompareAndSwap(false, true) {
		return device.Errorf(device.Unavailable, "not now")
	}
	return l.Log.Append(p, done)
}

func (l *slowLog) Find(ctx context.Context, src device.Source, tenant, topic, mark string, after uint64) (bool, error) {
	<-l.find
	return l.Log.Find(ctx, src, tenant, topic, mark, after)
}

// TestRepeatIsFoundInAnyLife: a message whose fate its node did not know is published
// once, also when the stream was lost and made anew before its client sends it again, and
// has it in a place that was another's before; and when its record, as an older release
// wrote it, does not say of which life of the stream the place is.
func TestRepeatIsFoundInAnyLife(t *testing.T) {
	for _, c := range []struct {
		how              string
		renewed, unsaid  bool
		stored, wantMany uint64 // messages in the stream: of the client's, after it was sent again in all
	}{
		{"in the same life", false, false, 1, 4}, {"not stored, in the same life", false, false, 0, 4},
		{"in another life", true, false, 1, 1}, {"not stored, in another life", true, false, 0, 1},
		{"in a life that is not said", true, true, 1, 1},
	} {
		t.Run(c.how, func(t *testing.T) {
			log := &slowLog{find: make(chan struct{})}
			close(log.find)
			b := newHouse(&adaptertest.Gate{})
			b.wrap = func(l topic.Log, s topic.Sessions) (topic.Log, topic.Sessions) {
				log.Log = l
				return log, s
			}
			b = b.door(t, mqtt.Config{}, "a")
			other := &device.Publication{Tenant: "default", Topic: "t", QoS: 1, Payload: []byte("other")}
			for range 3 {
				b.log.Put(device.SourceTopics, other)
			}
			p := b.stay(t, packet.V5, "pub", false, false)
			p.send(message(1, 2, "t", "once"))
			p.wantEnd(packet.ServerBusy)
			b.lose(t, p, "pub")
			key := device.SessionKey{Principal: device.ID{Tenant: "default", Device: "pub"}, Client: "pub"}
			record := *b.records.Get(key)
			in := record.State.Incoming
			if len(in) != 1 || in[0].After != (device.Position{Epoch: 1, Seq: 3}) {
				t.Fatalf("the record has %+v", in)
			}
			if c.renewed {
				b.log.Renew()
			}
			if c.unsaid {
				record.State.Incoming = []device.Incoming{{ID: 1, Mark: in[0].Mark}}
				_, rev, err := b.records.Node("a").Load(t.Context(), key)
				if err == nil {
					_, err = b.records.Node("a").Save(t.Context(), &record, rev)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if c.stored > 0 {
				b.log.Put(device.SourceTopics, &device.Publication{Tenant: "default", Topic: "t", QoS: 2, Payload: []byte("once"), Mark: in[0].Mark})
			}
			q := b.stay(t, packet.V5, "pub", false, true)
			again := message(1, 2, "t", "once")
			again.Dup = true
			q.send(again)
			q.wantKind(packet.PUBREC, 1, packet.Success)
			if got := b.log.Known(device.SourceTopics).Seq; got != c.wantMany {
				t.Errorf("the stream holds %d messages, want %d", got, c.wantMany)
			}
		})
	}
}

// TestRepeatKeepsItsPlace: what follows a message that is looked for, since its
// client sends it again, does not overtake it (4.6).
func TestRepeatKeepsItsPlace(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		log := &slowLog{find: make(chan struct{})}
		b := newHouse(&adaptertest.Gate{})
		b.wrap = func(l topic.Log, s topic.Sessions) (topic.Log, topic.Sessions) {
			log.Log = l
			return log, s
		}
		b = b.door(t, mqtt.Config{}, "a")
		p := b.stay(t, v, "pub", false, false)
		p.send(message(1, 2, "t", "first"))
		p.wantEnd(packet.ServerBusy)
		b.lose(t, p, "pub")
		q := b.stay(t, v, "pub", false, true)
		again := message(1, 2, "t", "first")
		again.Dup = true
		q.send(again, message(2, 2, "t", "second"))
		key := device.SessionKey{Principal: device.ID{Tenant: "default", Device: "pub"}, Client: "pub"}
		poll(t, "the second is written down", func() bool { return len(b.records.Get(key).State.Incoming) == 2 })
		for range 20 { // time to overtake
			q.wantSilence()
			time.Sleep(time.Millisecond)
		}
		close(log.find)
		q.wantKind(packet.PUBREC, 1, packet.Success)
		q.wantKind(packet.PUBREC, 2, packet.Success)
		for seq, want := range []string{"first", "second"} {
			got, err := b.log.Get(t.Context(), device.Ref{Source: device.SourceTopics, Seq: uint64(seq + 1)})
			if err != nil || string(got.Payload) != want {
				t.Errorf("%d: %+v, %v", seq+1, got, err)
			}
		}
	})
}
