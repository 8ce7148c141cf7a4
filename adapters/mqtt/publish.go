package mqtt

import (
	"bytes"
	"time"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/normalize"
)

// User properties of MQTT 5 with a meaning of their own.
const (
	propKey       = "message-id"
	propCreatedAt = "created-at"
	propStatus    = "status"
)

// route is a topic resolved for this connection.
type route struct {
	address
	topic string
	id    device.ID
	via   string // the gateway, when it speaks for another
}

const maxRoutes = 8 // telemetry topics a connection remembers

// publish takes one message. Everything it refuses it refuses in order: the
// PUBACK waits for those of earlier messages.
func (s *session) publish(p *packet.Publish) error {
	if p.Retain && s.srv.cfg.Topics == nil && s.version >= packet.V5 {
		return closeWith(packet.RetainNotSupported, "retained messages are not kept here")
	}
	if err := s.unalias(p); err != nil {
		s.srv.metrics.malformed.Inc()
		return err
	}
	a, err := s.reserve(p)
	if a == nil || err != nil {
		return err
	}
	r, err := s.resolve(p.Topic)
	a.device, a.topic, a.payload = r.id, r.topic, bytes.Clone(p.Payload)
	if err == nil && len(p.Payload) > s.srv.cfg.MaxMessageBytes {
		err = device.Errorf(device.TooLarge, "payload is %d bytes long, the limit is %d", len(p.Payload), s.srv.cfg.MaxMessageBytes)
	}
	switch {
	case err != nil:
	case p.QoS == 2:
		err = s.receive(p, r, a)
	default:
		err = s.pass(p, r, a)
	}
	if err != nil {
		a.finished(err)
	}
	return nil
}

// pass hands a message to whom its topic says.
func (s *session) pass(p *packet.Publish, r route, a *pending) error {
	switch r.kind {
	case response:
		return s.answer(p, r, a)
	case order:
		return s.order(p, r, a)
	case own:
		return s.publishOwn(p, r, a)
	}
	return s.telemetry(p, r, a)
}

// unalias gives a message the topic its alias stands for (3.3.2.3.4).
func (s *session) unalias(p *packet.Publish) error {
	if len(p.Properties) == 0 {
		return nil
	}
	if _, ok := p.Properties.Number(packet.SubscriptionID); ok {
		return closeWith(packet.ProtocolError, "a client must not send a subscription identifier in PUBLISH")
	}
	n, ok := p.Properties.Number(packet.TopicAlias)
	switch alias := int(n); {
	case !ok:
	case alias > s.srv.cfg.AliasesIn:
		return closeWith(packet.TopicAliasInvalid, "topic alias is over the topic alias maximum in CONNACK")
	case len(p.Topic) > 0:
		if s.aliases == nil {
			s.aliases = map[uint16]string{}
		}
		s.aliases[uint16(alias)] = string(p.Topic)
	case s.aliases[uint16(alias)] == "":
		return closeWith(packet.ProtocolError, "topic alias stands for no topic yet")
	default:
		p.Topic = []byte(s.aliases[uint16(alias)])
	}
	return nil
}

// resolve finds whom a topic speaks for. Telemetry topics are remembered: a
// device uses few, and most messages cost no more than a comparison.
func (s *session) resolve(topic []byte) (route, error) {
	for i := range s.routes {
		if string(topic) == s.routes[i].topic {
			return s.routes[i], nil
		}
	}
	r := route{topic: string(topic), id: s.who.ID}
	var err error
	if r.address, err = parseTopic(r.topic); err != nil {
		return r, err
	}
	switch r.kind {
	case own:
		if s.srv.cfg.Topics == nil {
			return r, errNoTopics(r.topic)
		}
		return r, wrapTopic(s.who.UseTopic(r.topic))
	case order:
		r.id, err = s.orders(r.address.device)
		return r, wrapTopic(err)
	}
	id, via, err := s.who.SpeakFor(r.address.device)
	if err != nil {
		return r, wrapTopic(err)
	}
	r.id, r.via = id, via
	if r.kind == telemetry {
		if len(s.routes) == maxRoutes {
			s.routes = s.routes[:0]
		}
		s.routes = append(s.routes, r)
	}
	return r, nil
}

// telemetry hands a message to the house.
func (s *session) telemetry(p *packet.Publish, r route, a *pending) error {
	m := &device.Message{
		Tenant: r.id.Tenant, Device: r.id.Device, Via: r.via, Channel: r.channel,
		Protocol: device.MQTT, QoS: int(p.QoS), ReceivedAt: time.Now(), Payload: a.payload,
	}
	s.srv.metrics.in[p.QoS].Inc()
	if len(p.Properties) > 0 {
		if err := fill(m, p.Properties); err != nil {
			return err
		}
		a.contentType = m.ContentType
	}
	if m.Key == "" {
		m.Key = a.mark // the store keeps one of those with one key
	}
	if err := normalize.Message(m); err != nil {
		a.unread = m
		return err
	}
	if len(m.Measurements) == 0 {
		s.srv.metrics.unread.Inc()
	}
	retain := p.Retain && s.srv.cfg.Topics != nil
	if !retain && s.straight(a) {
		return s.srv.gate.Submit(m, a.done)
	}
	to := passing{src: device.SourceTelemetry, topic: telemetryTopic(r), mark: m.Key}
	if retain {
		var err error
		if to.retained, err = s.publication(to.topic, p.QoS, true, a.payload, p.Properties); err != nil {
			return err
		}
	}
	s.passInTurn(a, to, func(kept uint64) error {
		m.Kept = kept
		return s.srv.gate.Submit(m, a.done)
	})
	return nil
}

// telemetryTopic is where a message is seen, whatever form its topic had.
func telemetryTopic(r route) string {
	if r.channel == "" {
		return r.id.Device + "/telemetry"
	}
	return r.id.Device + "/telemetry/" + r.channel
}

// fill takes over the properties of a MQTT 5 message.
func fill(m *device.Message, props packet.Properties) error {
	m.ContentType, _ = props.Text(packet.ContentType)
	for _, p := range props {
		if p.ID != packet.UserProperty {
			continue
		}
		switch p.Name {
		case propKey:
			m.Key = p.Text
		case propCreatedAt:
			at, err := time.Parse(time.RFC3339Nano, p.Text)
			if err != nil {
				return device.Errorf(device.Invalid, "user property created-at is %q, it must be a time like 2006-01-02T15:04:05Z (RFC 3339)", cut(p.Text))
			}
			m.CreatedAt = at
		default:
			if m.Properties == nil {
				m.Properties = map[string]string{}
			}
			m.Properties[p.Name] = p.Text
		}
	}
	if attributes := eventAttributes(m.Properties); attributes != nil {
		if err := normalize.CloudEvent(m, attributes); err != nil {
			return err
		}
	}
	return m.Validate()
}

// answer hands a device's response to the house.
func (s *session) answer(p *packet.Publish, r route, a *pending) error {
	s.srv.metrics.answers.Inc()
	a.answer = true
	a.contentType, _ = p.Properties.Text(packet.ContentType)
	if id, ok := p.Properties.Text(packet.CorrelationData); ok && id != r.command {
		return device.Errorf(device.Invalid, "correlation data does not match the command in the topic")
	}
	status, err := s.status(p, r)
	if err != nil {
		return err
	}
	s.srv.gate.Respond(device.Response{
		Device: r.id, Via: r.via, Command: r.command, Status: status, Payload: a.payload, ContentType: a.contentType, Protocol: device.MQTT,
	}, a.done)
	return nil
}

func (s *session) status(p *packet.Publish, r route) (int, error) {
	if r.status != 0 {
		return r.status, nil
	}
	if s.version < packet.V5 {
		return 0, wrapTopic(device.Errorf(device.Invalid, "the topic of the answer has no status: use {device}/responses/{id}/{status}"))
	}
	if text, ok := p.Properties.User(propStatus); ok {
		return parseStatus(text)
	}
	return 200, nil
}
