package mqtt_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

func TestTelemetryTopics(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		gate := &adaptertest.Gate{}
		p := join(t, serve(t, mqtt.Config{}, gate), v, "dev1")
		for i, c := range []struct{ topic, device, channel string }{
			{"dev1/telemetry", "dev1", ""},
			{"/dev1/telemetry/room", "dev1", "room"},
			{"telemetry", "dev1", ""},
			{"/telemetry/a/b", "dev1", "a/b"},
			{"telemetry/telemetry", "dev1", "telemetry"},
			{"other/telemetry/a//b", "other", "a//b"},
		} {
			p.send(publish(uint16(i+1), c.topic, `{"t":21.5}`))
			p.wantAck(uint16(i+1), packet.Success)
			m := gate.Stored()[i]
			if m.Tenant != "default" || m.Device != c.device || m.Channel != c.channel || m.Via != "" {
				t.Errorf("%s: %+v", c.topic, m)
			}
			if m.Protocol != device.MQTT || m.QoS != 1 || string(m.Payload) != `{"t":21.5}` || m.ReceivedAt.IsZero() {
				t.Errorf("%s: %+v", c.topic, m)
			}
			if len(m.Measurements) != 1 || m.Measurements[0].Name != "t" || m.ContentType != "application/json" {
				t.Errorf("%s: measurements %+v", c.topic, m.Measurements)
			}
		}
	})
}

func TestQoS0IsStoredWithoutAck(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		gate := &adaptertest.Gate{}
		p := join(t, serve(t, mqtt.Config{}, gate), v, "dev1")
		p.send(publish(0, "telemetry", "1"))
		until(t, gate, "the message is stored", func() bool { return len(gate.Stored()) == 1 })
		p.wantSilence()
	})
}

func TestProperties(t *testing.T) {
	gate := &adaptertest.Gate{}
	p := join(t, serve(t, mqtt.Config{}, gate), packet.V5, "dev1")
	m := publish(1, "telemetry", "21.5")
	m.Properties.AddText(packet.ContentType, "text/plain")
	m.Properties.AddUser("message-id", "k1")
	m.Properties.AddUser("created-at", "2026-01-02T03:04:05.5Z")
	m.Properties.AddUser("site", "north")
	p.send(m)
	p.wantAck(1, packet.Success)
	got := gate.Stored()[0]
	if got.Key != "k1" || got.ContentType != "text/plain" || got.Properties["site"] != "north" || len(got.Properties) != 1 {
		t.Errorf("%+v", got)
	}
	if !got.CreatedAt.Equal(time.Date(2026, 1, 2, 3, 4, 5, 5e8, time.UTC)) {
		t.Errorf("created at %v", got.CreatedAt)
	}
}

// TestAckOnlyAfterDone: no PUBACK before the house says so, and then in the
// order of the PUBLISH packets whatever the order of the commits.
func TestAckOnlyAfterDone(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		gate := &adaptertest.Gate{}
		h := hold(gate)
		p := join(t, serve(t, mqtt.Config{}, gate), v, "dev1")
		p.send(publish(7, "telemetry", "a"), publish(3, "telemetry", "b"), publish(5, "telemetry", "c"))
		a, b, c := h.next(t), h.next(t), h.next(t)
		p.wantSilence()
		c.done(nil)
		b.done(nil)
		p.wantSilence()
		a.done(nil)
		p.wantAck(7, packet.Success)
		p.wantAck(3, packet.Success)
		p.wantAck(5, packet.Success)
	})
}

func TestFullWindow(t *testing.T) {
	t.Run("3.1.1 stops reading", func(t *testing.T) {
		gate := &adaptertest.Gate{}
		h := hold(gate)
		p := join(t, serve(t, mqtt.Config{Window: 2}, gate), packet.V311, "dev1")
		p.send(publish(1, "telemetry", "a"), publish(2, "telemetry", "b"), publish(3, "telemetry", "c"), packet.Pingreq{})
		first, second := h.next(t), h.next(t)
		second.done(nil)
		if len(h.ch) > 0 {
			t.Fatal("a third message was submitted although two are unacknowledged")
		}
		first.done(nil)
		p.wantAck(1, packet.Success)
		p.wantAck(2, packet.Success)
		h.next(t).done(nil)
		// PINGRESP overtakes nothing: it was behind the third message.
		third, ping := false, false
		for !third || !ping {
			x, err := p.next()
			if err != nil {
				t.Fatal(err)
			}
			switch x.(type) {
			case *packet.Ack:
				third = true
			case packet.Pingresp:
				ping = true
			}
		}
	})
	t.Run("5 closes", func(t *testing.T) {
		gate := &adaptertest.Gate{}
		h := hold(gate)
		p := join(t, serve(t, mqtt.Config{Window: 2}, gate), packet.V5, "dev1")
		p.send(publish(1, "telemetry", "a"), publish(2, "telemetry", "b"), publish(3, "telemetry", "c"))
		p.wantEnd(packet.ReceiveMaximumExceeded)
		h.next(t).done(nil)
		h.next(t).done(nil)
	})
}

// TestWindowOfBytes: a few large messages fill it as many small ones do.
func TestWindowOfBytes(t *testing.T) {
	for _, qos := range []byte{0, 1} {
		both(t, func(t *testing.T, v packet.Version) {
			gate := &adaptertest.Gate{}
			h := hold(gate)
			p := join(t, serve(t, mqtt.Config{MaxMessageBytes: 1000, MaxBufferedBytes: 2500}, gate), v, "dev1")
			for i := range uint16(3) {
				m := publish(i+1, "telemetry", strings.Repeat("a", 1000))
				if m.QoS = qos; qos == 0 {
					m.ID = 0
				}
				p.send(m)
			}
			p.send(packet.Pingreq{})
			first, second := h.next(t), h.next(t)
			select {
			case <-h.ch:
				t.Fatal("a third message was taken although the first two fill the window")
			case <-time.After(50 * time.Millisecond): // nobody could say more than that it did not come
			}
			first.done(nil)
			h.next(t).done(nil)
			second.done(nil)
			for n := int(3*qos) + 1; n > 0; n-- {
				if _, err := p.next(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestRepeatInFlight: a message sent again before its PUBACK is stored once
// and acknowledged once.
func TestRepeatInFlight(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		gate := &adaptertest.Gate{}
		h := hold(gate)
		p := join(t, serve(t, mqtt.Config{}, gate), v, "dev1")
		again := publish(1, "telemetry", "a")
		again.Dup = true
		p.send(publish(1, "telemetry", "a"), again)
		first := h.next(t)
		p.wantSilence()
		first.done(nil)
		p.wantAck(1, packet.Success)
		p.wantSilence()
		p.send(publish(2, "telemetry", "b"), publish(2, "telemetry", "not a repeat"))
		p.wantEnd(packet.ProtocolError)
		h.next(t).done(nil)
	})
}

// TestRefusals: MQTT 5 hears of it in PUBACK, QoS 0 and 3.1.1 by the end.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name, topic, payload string
		err                  error
		puback, disconnect   packet.Reason
		trail                bool
	}{
		{"topic of somebody else's", "sensors/1", "x", nil, packet.TopicNameInvalid, packet.TopicNameInvalid, true},
		{"commands", "dev1/commands", "x", nil, packet.TopicNameInvalid, packet.TopicNameInvalid, true},
		{"no device", "//telemetry", "x", nil, packet.TopicNameInvalid, packet.TopicNameInvalid, true},
		{"reserved device", "$x/telemetry", "x", nil, packet.TopicNameInvalid, packet.TopicNameInvalid, true},
		{"nine levels", "telemetry/1/2/3/4/5/6/7/8/9", "x", nil, packet.TopicNameInvalid, packet.TopicNameInvalid, true},
		{"payload", "telemetry", strings.Repeat("x", 1001), nil, packet.QuotaExceeded, packet.PacketTooLarge, true},
		{"house: invalid", "telemetry", "x", device.Errorf(device.Invalid, "no"), packet.ImplementationSpecific, packet.ImplementationSpecific, true},
		{"house: too large", "telemetry", "x", device.Errorf(device.TooLarge, "no"), packet.QuotaExceeded, packet.PacketTooLarge, true},
		{"house: busy", "telemetry", "x", device.Errorf(device.Busy, "no"), packet.QuotaExceeded, 0, false},
		{"house: internal", "telemetry", "x", errors.New("secret"), packet.UnspecifiedError, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			gate := &adaptertest.Gate{}
			if c.err != nil {
				gate.OnSubmit = func(m *device.Message, done func(error)) error {
					if m.Channel == "later" {
						go done(c.err)
						return nil
					}
					return c.err
				}
			}
			s := serve(t, mqtt.Config{MaxMessageBytes: 1000}, gate)
			p := join(t, s, packet.V5, "dev1")
			p.send(publish(1, c.topic, c.payload))
			p.wantAck(1, c.puback)
			q := join(t, s, packet.V5, "dev2")
			q.send(publish(0, c.topic, c.payload))
			if c.disconnect == 0 {
				q.wantSilence()
			} else {
				q.wantEnd(c.disconnect)
			}
			old := join(t, s, packet.V311, "dev3")
			old.send(publish(1, c.topic, c.payload))
			old.wantClosed()
			if !c.trail {
				return
			}
			until(t, gate, "three refusals on the trail", func() bool { return len(gate.Refusals()) == 3 })
			if r := gate.Refusals()[0]; r.Address != c.topic || string(r.Raw) != c.payload || r.Err == nil || r.Protocol != device.MQTT {
				t.Errorf("trail %+v", r)
			}
		})
	}
}

// TestRefusalKeepsOrder: a refusal waits for the acks before it, and the ones
// after it are written on MQTT 5, not on 3.1.1.
func TestRefusalKeepsOrder(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		gate := &adaptertest.Gate{}
		h := hold(gate)
		p := join(t, serve(t, mqtt.Config{}, gate), v, "dev1")
		p.send(publish(1, "telemetry", "a"), publish(2, "nowhere", "b"), publish(3, "telemetry", "c"))
		a, c := h.next(t), h.next(t)
		c.done(nil)
		p.wantSilence()
		a.done(nil)
		p.wantAck(1, packet.Success)
		if v < packet.V5 {
			p.wantClosed()
			return
		}
		p.wantAck(2, packet.TopicNameInvalid)
		p.wantAck(3, packet.Success)
	})
}

// TestUnknownOutcome: neither a PUBACK nor a refusal, the device sends again.
func TestUnknownOutcome(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		gate := &adaptertest.Gate{}
		h := hold(gate)
		p := join(t, serve(t, mqtt.Config{}, gate), v, "dev1")
		p.send(publish(1, "telemetry", "a"), publish(2, "telemetry", "b"))
		a, b := h.next(t), h.next(t)
		b.done(nil)
		a.done(device.Errorf(device.Unavailable, "unknown"))
		p.wantEnd(packet.ServerBusy)
		if n := len(gate.Refusals()); n != 0 {
			t.Errorf("%d refusals on the trail", n)
		}
	})
}

func TestUndecodable(t *testing.T) {
	gate := &adaptertest.Gate{}
	s := serve(t, mqtt.Config{}, gate)
	p := join(t, s, packet.V5, "dev1")
	m := publish(1, "telemetry", "{")
	m.Properties.AddText(packet.ContentType, "application/json")
	p.send(m)
	p.wantAck(1, packet.PayloadFormatInvalid)
	bad := publish(2, "telemetry", "1")
	bad.Properties.AddUser("created-at", "yesterday")
	p.send(bad)
	ack := want[*packet.Ack](p)
	if text, _ := ack.Properties.Text(packet.ReasonString); ack.Reason != packet.ImplementationSpecific || !strings.Contains(text, "RFC 3339") {
		t.Errorf("%+v", ack)
	}
	old := join(t, s, packet.V311, "dev2") // declares nothing, so nothing is refused
	old.send(publish(1, "telemetry", "{"))
	old.wantAck(1, packet.Success)
}

// TestUnsupportedEndsTheConnection: what CONNACK announced as not available.
func TestUnsupportedEndsTheConnection(t *testing.T) {
	alias := publish(1, "telemetry", "a")
	alias.Properties.AddNumber(packet.TopicAlias, 33)
	unknown := publish(1, "", "a")
	unknown.Properties.AddNumber(packet.TopicAlias, 3)
	ident := publish(1, "telemetry", "a")
	ident.Properties.AddNumber(packet.SubscriptionID, 1)
	retained := publish(1, "telemetry", "a")
	retained.Retain = true
	for _, c := range []struct {
		p      *packet.Publish
		reason packet.Reason
	}{{alias, packet.TopicAliasInvalid}, {ident, packet.ProtocolError}, {retained, packet.RetainNotSupported}, {unknown, packet.ProtocolError}} {
		gate := &adaptertest.Gate{}
		p := join(t, serve(t, mqtt.Config{}, gate), packet.V5, "dev1")
		p.send(c.p)
		p.wantEnd(c.reason)
		if len(gate.Stored()) != 0 {
			t.Errorf("%v: stored %d", c.reason, len(gate.Stored()))
		}
	}
	gate := &adaptertest.Gate{}
	s := serve(t, mqtt.Config{}, gate)
	p := join(t, s, packet.V311, "dev1")
	p.send(retained)
	p.wantAck(1, packet.Success)
}

func TestSpeakingForAnother(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		gate := &adaptertest.Gate{RefuseAnonymous: true, Secrets: map[device.ID]string{id1: "s"}}
		p := dial(t, serve(t, mqtt.Config{}, gate), v)
		p.send(&packet.Connect{Version: v, CleanStart: true, ClientID: "c", HasUser: true, User: "dev1", HasPassword: true, Password: []byte("s")})
		want[*packet.Connack](p)
		p.send(publish(1, "telemetry", "a"))
		p.wantAck(1, packet.Success)
		if got := p.subscribe("dev2/commands", 1); !got.Failed() {
			t.Errorf("SUBACK %v", got)
		}
		p.send(publish(2, "dev2/telemetry", "a"))
		if v >= packet.V5 {
			p.wantAck(2, packet.NotAuthorized)
			p.send(publish(0, "dev2/telemetry", "a"))
		}
		p.wantEnd(packet.NotAuthorized)
		until(t, gate, "the trail", func() bool { return len(gate.Refusals()) > 0 })
		if r := gate.Refusals()[0]; r.Device != id1 || device.CodeOf(r.Err) != device.Forbidden {
			t.Errorf("trail %+v", r)
		}
		if n := len(gate.Stored()); n != 1 {
			t.Errorf("%d messages stored", n)
		}
	})
}

// TestManyInFlight pushes messages through out-of-order commits.
func TestManyInFlight(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		gate := &adaptertest.Gate{} // commits each in a goroutine of its own
		p := join(t, serve(t, mqtt.Config{}, gate), v, "dev1")
		const rounds, window = 40, 100
		for round := range rounds {
			var batch []packet.Packet
			for i := range window {
				batch = append(batch, publish(uint16(i+1), fmt.Sprintf("telemetry/%d", i%12), fmt.Sprint(round*window+i)))
			}
			p.send(batch...)
			for i := range window {
				p.wantAck(uint16(i+1), packet.Success)
			}
		}
		stored := gate.Stored()
		if len(stored) != rounds*window {
			t.Fatalf("%d stored", len(stored))
		}
		for i, m := range stored {
			if string(m.Payload) != fmt.Sprint(i) || m.Channel != fmt.Sprint(i%window%12) {
				t.Fatalf("message %d is %s on %s", i, m.Payload, m.Channel)
			}
		}
	})
}
