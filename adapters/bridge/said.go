package bridge

import (
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
)

// said answers what a message says beside its payload, in the types of our codec.
func (in *incoming) said() *wire.Message {
	p := in.properties()
	m := &wire.Message{
		MessageID: p.MessageID, CorrelationID: p.CorrelationID, UserID: p.UserID,
		Subject: text(p.Subject), ReplyTo: text(p.ReplyTo), GroupID: text(p.GroupID), ReplyToGroupID: text(p.ReplyToGroupID),
		ContentEncoding: wire.Symbol(text(p.ContentEncoding)),
	}
	if p.AbsoluteExpiryTime != nil {
		m.AbsoluteExpiryTime = wire.Some(wire.TimestampOf(*p.AbsoluteExpiryTime))
	}
	if p.GroupSequence != nil {
		m.GroupSequence = wire.Some(*p.GroupSequence)
	}
	for key, value := range in.ApplicationProperties {
		m.Properties = append(m.Properties, wire.Pair{Key: key, Value: value})
	}
	for key, value := range in.Annotations {
		if name, ok := key.(string); ok { // a number is of AMQP itself
			m.Annotations = append(m.Annotations, wire.Pair{Key: wire.Symbol(name), Value: value})
		}
	}
	return m
}
