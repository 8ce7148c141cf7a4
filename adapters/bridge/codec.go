package bridge

import (
	"strconv"
	"strings"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/adapters/amqp/words"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/normalize"
)

// toTelemetry makes a message of one that a link received. Beside an error it
// answers the message when only its payload could not be read.
func (l *link) toTelemetry(in *incoming) (*device.Message, error) {
	name, channel, err := l.rule.apply(in)
	if err != nil {
		return nil, err
	}
	id, via, err := l.speaker.SpeakFor(name)
	if err != nil {
		return nil, err
	}
	body, contentType, err := l.payload(in)
	if err != nil {
		return nil, err
	}
	p := in.properties()
	said := in.said()
	attributes := words.EventAttributes(said.Properties)
	m := &device.Message{
		Tenant: id.Tenant, Device: id.Device, Via: via, Channel: channel,
		Key: words.ID(p.MessageID), Protocol: device.AMQP, QoS: 1,
		ContentType: contentType, ReceivedAt: time.Now(),
		Properties: words.Properties(said, attributes != nil), Payload: body,
	}
	if p.CreationTime != nil {
		m.CreatedAt = *p.CreationTime
	}
	if attributes != nil {
		if err := normalize.CloudEvent(m, attributes); err != nil {
			return nil, err
		}
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return m, normalize.Message(m)
}

// payload is the body and its content type: data sections put together, or an
// amqp-value that holds a string or a binary. A body of AMQP's own types is its
// JSON, as at the door.
func (l *link) payload(in *incoming) (body []byte, contentType string, err error) {
	contentType = text(in.properties().ContentType)
	switch v := in.Value.(type) {
	case string:
		body = []byte(v)
	case []byte:
		body = v
	case nil:
		if in.Sequence != nil {
			return l.typedBody(in, contentType)
		}
		for _, data := range in.Data {
			body = append(body, data...)
		}
	default:
		return l.typedBody(in, contentType)
	}
	if len(body) > l.cfg.MaxMessageBytes {
		err = device.Errorf(device.TooLarge, "the payload is %d bytes long, the limit is %d", len(body), l.cfg.MaxMessageBytes)
	}
	return body, contentType, err
}

const jsonType = "application/json"

func (l *link) typedBody(in *incoming, contentType string) ([]byte, string, error) {
	if contentType != "" && contentType != jsonType {
		return nil, contentType, device.Errorf(device.Undecodable, "the body is of AMQP's own types, and content-type says %.100q", contentType)
	}
	bare := amqp.Message{Value: in.Value, Sequence: in.Sequence}
	raw, err := bare.MarshalBinary()
	if err != nil {
		return nil, contentType, device.Wrap(device.Undecodable, "the body cannot be read", err)
	}
	m, err := wire.DecodeMessage(raw)
	if err != nil {
		return nil, contentType, device.Wrap(device.Undecodable, "the body cannot be read: "+err.Error(), err)
	}
	body, err := m.JSON(l.cfg.MaxMessageBytes)
	if err != nil {
		return nil, contentType, device.Wrap(device.Undecodable, "the body cannot be read: "+err.Error(), err)
	}
	return body, jsonType, nil
}

// A command is told apart at the broker by its token, which is message-id and
// correlation-id: the command's id and the device, neither of which holds a "/".
func tokenOf(c *device.Command) string { return c.ID + "/" + c.Device }

// toResponse makes an answer of a message from the reply address. Its
// correlation-id is the command's token; or the command's id alone, beside an
// application property device.
func (l *link) toResponse(in *incoming) (device.Response, error) {
	r := device.Response{Status: 200, Protocol: device.AMQP}
	command, name, _ := strings.Cut(words.ID(in.properties().CorrelationID), "/")
	if name == "" {
		name = words.Text(in.ApplicationProperties["device"])
	}
	if command == "" || name == "" {
		return r, device.Errorf(device.Invalid, "an answer needs the command's correlation-id as it came")
	}
	r.Command = command
	var err error
	if r.Device, r.Via, err = l.speaker.SpeakFor(name); err != nil {
		return r, err
	}
	if said, ok := in.ApplicationProperties["status"]; ok {
		if r.Status, err = strconv.Atoi(words.Text(said)); err != nil || r.Status < 100 || r.Status > 599 {
			return r, device.Errorf(device.Invalid, "the application property status must be a whole number from 100 to 599")
		}
	}
	r.Payload, r.ContentType, err = l.payload(in)
	return r, err
}

// fromDelivery is a command as it goes to the broker.
func (l *link) fromDelivery(d device.Delivery, now time.Time) *amqp.Message {
	c := &d.Command
	token := tokenOf(c)
	m := amqp.NewMessage(c.Payload)
	m.Header = &amqp.MessageHeader{Durable: true, Priority: 4, DeliveryCount: uint32(max(d.Attempt-1, 0))}
	m.Properties = &amqp.MessageProperties{MessageID: token, CorrelationID: token, Subject: some(c.Name)}
	if to := l.rule.to.fill(ofCommand(c)); to != "" {
		m.Properties.To = &to
	}
	if l.Replies != "" && !c.OneWay {
		m.Properties.ReplyTo = &l.Replies
	}
	if c.ContentType != "" {
		m.Properties.ContentType = &c.ContentType
	}
	if !c.CreatedAt.IsZero() {
		m.Properties.CreationTime = &c.CreatedAt
	}
	if !c.Deadline.IsZero() {
		m.Properties.AbsoluteExpiryTime = &c.Deadline
		m.Header.TTL = max(c.Deadline.Sub(now).Truncate(time.Millisecond), time.Millisecond)
	}
	m.ApplicationProperties = map[string]any{"device": c.Device}
	return m
}

// ofCommand answers what a template says of a command.
func ofCommand(c *device.Command) func(string) string {
	return func(reference string) string {
		return map[string]string{"device": c.Device, "name": c.Name, "tenant": c.Tenant}[reference]
	}
}

func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
