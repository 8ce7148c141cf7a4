package device

import (
	"cmp"
	"time"
)

// Protocol names the door a message or session came through.
type Protocol string

// The protocols, as they appear in messages, events and metrics labels.
const (
	MQTT Protocol = "mqtt"
	AMQP Protocol = "amqp"
	HTTP Protocol = "http"
)

// OctetStream is the content type of a payload no decoder takes.
const OctetStream = "application/octet-stream"

// Message is one telemetry message: what a device said, and what we know of
// how it reached us. Identity (Tenant, Device, Via) is stamped from the
// authenticated connection, never taken from the payload.
type Message struct {
	Tenant       string
	Device       string
	Via          string // the gateway that spoke for the device; empty when it spoke for itself
	Channel      string // levels separated by "/"; empty is the device's main channel
	Key          string // the device's own message id; "" when it gave none. At most MaxKeyBytes
	Protocol     Protocol
	QoS          int       // 0: sent without wanting an ack; 1: wants one; 2: MQTT QoS 2
	ContentType  string    // declared, or sniffed by normalize; OctetStream when unknown
	CreatedAt    time.Time // the device's clock; zero when it gave none
	ReceivedAt   time.Time // our clock, when the last byte arrived
	Properties   map[string]string
	Payload      []byte // the bytes as they came, never altered
	Measurements []Measurement
	Kept         uint64 // Publication.Kept, for subscribers of topics
}

// MaxKeyBytes bounds Message.Key and Command.Key.
const MaxKeyBytes = 256

// MaxProperties and MaxPropertyBytes bound Message.Properties: how many, and
// all names and values together.
const (
	MaxProperties    = 64
	MaxPropertyBytes = 16 << 10
)

// ID names the device the message is of.
func (m *Message) ID() ID { return ID{m.Tenant, m.Device} }

// Validate checks names and bounds (not the payload's size, which is configured).
func (m *Message) Validate() error {
	if err := m.ID().Validate(); err != nil {
		return err
	}
	if err := ValidateChannel(m.Channel); err != nil {
		return err
	}
	if len(m.Key) > MaxKeyBytes {
		return Errorf(Invalid, "message key is %d bytes long, the limit is %d", len(m.Key), MaxKeyBytes)
	}
	if len(m.Properties) > MaxProperties {
		return Errorf(Invalid, "message has %d properties, the limit is %d", len(m.Properties), MaxProperties)
	}
	total := 0
	for k, v := range m.Properties {
		total += len(k) + len(v)
	}
	if total > MaxPropertyBytes {
		return Errorf(Invalid, "message properties hold %d bytes, the limit is %d", total, MaxPropertyBytes)
	}
	return nil
}

// Measurement is one typed value read out of a payload.
type Measurement struct {
	Name  string    // dotted path for nested payloads: "motor.rpm"
	Unit  string    // "" when unknown
	Time  time.Time // when it was measured: the record's own time, else the message's
	Value Value
}

// Stored is a message at its place in the stream. A place is unique for good:
// sequences may start anew, but then under a higher epoch.
type Stored struct {
	Message
	Position Position
	StoredAt time.Time // when the stream took it; a store may have it some milliseconds later than a live reader
}

// Position is a place in a stream. Zero is before the first message.
type Position struct {
	Epoch uint64 // raised whenever the stream's sequence had to start anew
	Seq   uint64
}

// Before reports whether p comes before q.
func (p Position) Before(q Position) bool {
	return p.Epoch < q.Epoch || p.Epoch == q.Epoch && p.Seq < q.Seq
}

// Compare is negative when p comes before q, positive when q comes before p.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Epoch, q.Epoch), cmp.Compare(p.Seq, q.Seq))
}
