// Package packet is the MQTT wire codec: every control packet of MQTT 3.1.1
// (OASIS Standard, 29 October 2014) and MQTT 5.0 (OASIS Standard, 7 March
// 2019), in both directions.
//
// It is strict: what the texts call malformed is refused with the reason code
// they name. It allocates nothing for PUBLISH without properties and for
// acknowledgements, and never more than has arrived: a length announced is
// checked against the reader's limit first and buffered only as bytes come in.
//
// Section numbers in comments are those of MQTT 5.0 unless they say 3.1.1.
package packet

// Version is the protocol level of a connection.
type Version byte

// The versions the codec speaks. Zero stands for "not known before CONNECT".
const (
	V311 Version = 4
	V5   Version = 5
)

// Type is the kind of a control packet (2.1.2).
type Type byte

// The control packet types.
const (
	CONNECT     Type = 1
	CONNACK     Type = 2
	PUBLISH     Type = 3
	PUBACK      Type = 4
	PUBREC      Type = 5
	PUBREL      Type = 6
	PUBCOMP     Type = 7
	SUBSCRIBE   Type = 8
	SUBACK      Type = 9
	UNSUBSCRIBE Type = 10
	UNSUBACK    Type = 11
	PINGREQ     Type = 12
	PINGRESP    Type = 13
	DISCONNECT  Type = 14
	AUTH        Type = 15 // MQTT 5 only

	// will marks the will properties in tables keyed by Type; it is not on the wire.
	will Type = 0
)

var typeNames = [...]string{
	"reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

// String is the name the texts use.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "unknown"
}

// flags are the fixed-header flags every packet of type t must carry (2.1.3);
// PUBLISH alone has its own.
func (t Type) flags() byte {
	switch t {
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		return 0b0010
	}
	return 0
}

// Packet is one control packet.
type Packet interface {
	// Type says which one.
	Type() Type

	// Append encodes the packet for version v at the end of dst. It fails when
	// a field cannot be expressed: a string over 65,535 bytes, a property the
	// packet may not carry, a packet over 256 MB, an AUTH on 3.1.1. dst is
	// returned unchanged then.
	Append(dst []byte, v Version) ([]byte, error)
}

// MaxPacketBytes is the largest packet the fixed header can express: header
// byte, four length bytes and 268,435,455 bytes of body.
const MaxPacketBytes = 1 + 4 + maxVarint
