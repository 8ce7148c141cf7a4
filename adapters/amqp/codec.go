package amqp

import (
	"strconv"
	"strings"
	"time"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/adapters/amqp/words"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/normalize"
)

// jsonType is the content type of a body that was of AMQP's own types.
const jsonType = "application/json"

// node is what stands behind an address.
type node uint8

const (
	telemetry node = iota + 1
	commands
	responses
	dynamic // a node made for a receiver: see replyRoot
)

// ofDevices says whether it is devices that send there: what is refused of them
// leaves a trail.
func (n node) ofDevices() bool { return n == telemetry || n == responses }

var nodes = map[string]node{"telemetry": telemetry, "commands": commands, "responses": responses}

// address is an AMQP address in our words. The zero address is the anonymous
// terminus: every message names its own.
type address struct {
	node    node
	device  string // "" in a short form
	channel string // of telemetry
}

// parseAddress reads {device}/telemetry[/{channel}], {device}/commands,
// {device}/responses, and the same without {device}. A leading "/" is tolerated.
func parseAddress(s string) (address, error) {
	if strings.HasPrefix(strings.TrimPrefix(s, "/"), replyRoot) {
		return address{node: dynamic}, nil
	}
	first, rest, _ := strings.Cut(strings.TrimPrefix(s, "/"), "/")
	a := address{node: nodes[first]}
	if a.node == 0 {
		a.device = first
		first, rest, _ = strings.Cut(rest, "/")
		a.node = nodes[first]
	}
	if a.node == telemetry {
		a.channel = rest
	} else if rest != "" {
		a.node = 0
	}
	if a.node == 0 {
		return address{}, device.Errorf(device.NotFound,
			"there is no node %.300q; addresses are {device}/telemetry[/{channel}], {device}/commands and {device}/responses", s)
	}
	return a, device.ValidateChannel(a.channel)
}

// parseSource is parseAddress for those who receive: telemetry may end in "/#",
// which means the channels below, too.
func parseSource(s string) (from address, below bool, err error) {
	at, below := strings.CutSuffix(s, "/#")
	if from, err = parseAddress(at); err == nil && below && from.node != telemetry {
		from, err = parseAddress(s)
	}
	return from, below, err
}

// replyAddress is where a device answers its commands.
func replyAddress(id device.ID) string { return id.Device + "/responses" }

// decodeMessage reads the sections.
func decodeMessage(raw []byte, limit int) (wire.Message, error) {
	m, err := wire.DecodeMessage(raw)
	switch {
	case err != nil:
		return m, device.Wrap(device.Undecodable, "not an AMQP 1.0 message: "+err.Error(), err)
	case len(m.Body) > limit:
		return m, device.Errorf(device.TooLarge, "the payload is %d bytes long, the limit is %d", len(m.Body), limit)
	}
	return m, nil
}

// typedBody makes the body of a message that is a list, a map, a number, what
// AMQP has besides text and bytes, its JSON.
func typedBody(m *wire.Message, limit int) error {
	if m.Kind != wire.Typed {
		return nil
	}
	if m.ContentType != "" && m.ContentType != jsonType {
		return device.Errorf(device.Undecodable, "the body is of AMQP's own types, and content-type says %.100q: send it as a data section", m.ContentType)
	}
	body, err := m.JSON(limit)
	if err != nil {
		return device.Wrap(device.Undecodable, "the body cannot be read: "+err.Error(), err)
	}
	m.Kind, m.Body, m.ContentType = wire.Data, body, jsonType
	return nil
}

// toTelemetry makes a message of one for the telemetry of a device. Beside an
// error it answers the message when only its payload could not be read.
func toTelemetry(in *wire.Message, to route, settled bool) (*device.Message, error) {
	attributes := words.EventAttributes(in.Properties)
	m := &device.Message{
		Tenant: to.id.Tenant, Device: to.id.Device, Via: to.via, Channel: to.channel,
		Key: words.ID(in.MessageID), Protocol: device.AMQP, QoS: 1,
		ContentType: string(in.ContentType), ReceivedAt: time.Now(),
		Properties: words.Properties(in, attributes != nil), Payload: in.Body,
	}
	if settled {
		m.QoS = 0
	}
	if in.CreationTime.Set {
		m.CreatedAt = in.CreationTime.Value.Time()
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

// toResponse makes an answer of a message to a reply-to address.
func toResponse(in *wire.Message, to route) (device.Response, error) {
	r := device.Response{
		Device: to.id, Via: to.via, Command: words.ID(in.CorrelationID), Status: 200,
		Payload: in.Body, ContentType: string(in.ContentType), Protocol: device.AMQP,
	}
	if r.Command == "" {
		return r, device.Errorf(device.Invalid, "an answer needs the command's message-id as its correlation-id")
	}
	for _, p := range in.Properties {
		if p.Key != "status" {
			continue
		}
		status, err := strconv.Atoi(words.Text(p.Value))
		if err != nil || status < 100 || status > 599 {
			return r, device.Errorf(device.Invalid, "the application property status must be a whole number from 100 to 599")
		}
		r.Status = status
	}
	return r, nil
}

// fromDelivery is a command as its device receives it.
func fromDelivery(d device.Delivery) ([]byte, error) {
	c := &d.Command
	m := wire.Message{
		DeliveryCount: uint32(max(d.Attempt-1, 0)),
		MessageID:     c.ID, CorrelationID: c.ID, Subject: c.Name, ReplyTo: replyAddress(c.ForDevice()),
		ContentType: wire.Symbol(c.ContentType), Body: c.Payload,
		AbsoluteExpiryTime: wire.Some(wire.TimestampOf(c.Deadline)),
		CreationTime:       wire.Some(wire.TimestampOf(c.CreatedAt)),
	}
	m.AbsoluteExpiryTime.Set = !c.Deadline.IsZero()
	m.CreationTime.Set = !c.CreatedAt.IsZero()
	return wire.AppendMessage(nil, &m)
}

// outcomeOf reads what a device did with a command.
func outcomeOf(s wire.State) (o device.Outcome, final bool) {
	switch s := s.(type) {
	case wire.Accepted:
		return device.Outcome{Kind: device.Accepted}, true
	case wire.Rejected:
		o.Kind = device.Rejected
		if s.Error != nil {
			o.Reason = s.Error.Error()
		}
		return o, true
	case wire.Released:
		return device.Outcome{Kind: device.Released, Reason: "released"}, true
	case wire.Modified:
		if s.UndeliverableHere {
			return device.Outcome{Kind: device.Rejected, Reason: "undeliverable here"}, true
		}
		return device.Outcome{Kind: device.Released, Reason: "modified"}, true
	}
	return device.Outcome{Kind: device.Released, Reason: "settled without an outcome"}, false
}
