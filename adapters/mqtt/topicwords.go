package mqtt

import (
	"time"
	"unicode/utf8"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

// publication is a message for one of the tenant's own topics (3.3).
func (s *session) publication(topic string, qos byte, retain bool, payload []byte, props packet.Properties) (*device.Publication, error) {
	now := time.Now()
	p := &device.Publication{
		Tenant: s.who.ID.Tenant, Topic: topic, Sender: s.sessionKey(), QoS: int(qos), Retain: retain, Payload: payload, At: now,
	}
	for _, x := range props {
		switch x.ID {
		case packet.PayloadFormat:
			p.Text = x.Number == 1
		case packet.MessageExpiry:
			p.Expires = now.Add(time.Duration(x.Number) * time.Second)
		case packet.ContentType:
			p.ContentType = x.Text
		case packet.ResponseTopic:
			p.ResponseTopic = x.Text
		case packet.CorrelationData:
			p.Correlation = x.Text
		case packet.UserProperty:
			p.Properties = append(p.Properties, device.Property{Name: x.Name, Value: x.Text})
		}
	}
	if p.Text && !utf8.Valid(payload) {
		return nil, device.Errorf(device.Undecodable, "payload is said to be UTF-8 and is not")
	}
	return p, wrapTopic(p.Validate())
}

// writeMessage queues the PUBLISH of a message of a topic, and reports whether
// the client can take it. The lock is held.
func (s *session) writeMessage(d device.TopicDelivery, id uint16, dup bool) bool {
	p := &packet.Publish{Dup: dup, QoS: byte(d.Granted), Retain: d.Retained, ID: id, Topic: []byte(d.Topic), Payload: d.Payload}
	alias := uint16(0)
	if s.version >= packet.V5 {
		p.Properties = messageProperties(&d)
		var known bool
		if alias, known = s.topics.alias(d.Topic); alias != 0 {
			p.Properties.AddNumber(packet.TopicAlias, uint32(alias))
			if known {
				p.Topic = nil
			}
		}
	}
	if !s.append(p) {
		return false
	}
	if alias != 0 {
		s.topics.aliases[d.Topic] = alias
	}
	s.srv.metrics.messagesOut[d.Granted].Inc()
	return true
}

// alias is the alias of a topic, 0 for none, and whether the client knows it.
func (t *subscriber) alias(topic string) (alias uint16, known bool) {
	if alias, known = t.aliases[topic]; known {
		return alias, true
	}
	if len(t.aliases) >= int(t.s.peerAlias) {
		return 0, false
	}
	if t.aliases == nil {
		t.aliases = map[string]uint16{}
	}
	return uint16(len(t.aliases) + 1), false
}

func messageProperties(d *device.TopicDelivery) packet.Properties {
	p := make(packet.Properties, 0, 6+len(d.Properties)+len(d.IDs))
	if d.Text {
		p.AddNumber(packet.PayloadFormat, 1)
	}
	if !d.Expires.IsZero() {
		left := max(time.Until(d.Expires), 0)
		p.AddNumber(packet.MessageExpiry, uint32(min((left+time.Second-1)/time.Second, 1<<32-1)))
	}
	for _, x := range []struct {
		id   packet.PropertyID
		text string
	}{{packet.ContentType, d.ContentType}, {packet.ResponseTopic, d.ResponseTopic}, {packet.CorrelationData, d.Correlation}} {
		if x.text != "" {
			p.AddText(x.id, x.text)
		}
	}
	for _, x := range d.Properties {
		p.AddUser(x.Name, x.Value)
	}
	for _, id := range d.IDs {
		p.AddNumber(packet.SubscriptionID, id)
	}
	return p
}

// publishOwn hands a message to whoever is subscribed to its topic.
func (s *session) publishOwn(p *packet.Publish, r route, a *pending) error {
	s.srv.metrics.topicsIn[p.QoS].Inc()
	m, err := s.publication(r.topic, p.QoS, p.Retain, a.payload, p.Properties)
	if err != nil {
		return err
	}
	a.contentType = m.ContentType
	m.Mark = a.mark
	if !p.Retain && s.straight(a) {
		return s.srv.cfg.Topics.Publish(m, a.done)
	}
	to := passing{src: device.SourceTopics, topic: r.topic, mark: m.Mark}
	if p.Retain {
		to.retained = m
	}
	s.passInTurn(a, to, func(kept uint64) error {
		m.Kept = kept
		return s.srv.cfg.Topics.Publish(m, a.done)
	})
	return nil
}
