package packet

import (
	"fmt"
	"strings"
)

// Reason is an MQTT 5 reason code (2.4), or a 3.1.1 return code.
type Reason byte

// The reason codes of MQTT 5. Several names share the value 0.
const (
	Success                     Reason = 0x00
	GrantedQoS0                 Reason = 0x00
	NormalDisconnection         Reason = 0x00
	GrantedQoS1                 Reason = 0x01
	GrantedQoS2                 Reason = 0x02
	DisconnectWithWill          Reason = 0x04
	NoMatchingSubscribers       Reason = 0x10
	NoSubscriptionExisted       Reason = 0x11
	ContinueAuthentication      Reason = 0x18
	Reauthenticate              Reason = 0x19
	UnspecifiedError            Reason = 0x80
	MalformedPacket             Reason = 0x81
	ProtocolError               Reason = 0x82
	ImplementationSpecific      Reason = 0x83
	UnsupportedVersion          Reason = 0x84
	ClientIDNotValid            Reason = 0x85
	BadUserNameOrPassword       Reason = 0x86
	NotAuthorized               Reason = 0x87
	ServerUnavailable           Reason = 0x88
	ServerBusy                  Reason = 0x89
	Banned                      Reason = 0x8A
	ServerShuttingDown          Reason = 0x8B
	BadAuthenticationMethod     Reason = 0x8C
	KeepAliveTimeout            Reason = 0x8D
	SessionTakenOver            Reason = 0x8E
	TopicFilterInvalid          Reason = 0x8F
	TopicNameInvalid            Reason = 0x90
	PacketIDInUse               Reason = 0x91
	PacketIDNotFound            Reason = 0x92
	ReceiveMaximumExceeded      Reason = 0x93
	TopicAliasInvalid           Reason = 0x94
	PacketTooLarge              Reason = 0x95
	MessageRateTooHigh          Reason = 0x96
	QuotaExceeded               Reason = 0x97
	AdministrativeAction        Reason = 0x98
	PayloadFormatInvalid        Reason = 0x99
	RetainNotSupported          Reason = 0x9A
	QoSNotSupported             Reason = 0x9B
	UseAnotherServer            Reason = 0x9C
	ServerMoved                 Reason = 0x9D
	SharedSubNotSupported       Reason = 0x9E
	ConnectionRateExceeded      Reason = 0x9F
	MaximumConnectTime          Reason = 0xA0
	SubscriptionIDsNotSupported Reason = 0xA1
	WildcardsNotSupported       Reason = 0xA2
)

// The CONNACK return codes of 3.1.1 (3.1.1: 3.2.2.3).
const (
	V311UnacceptableVersion Reason = 1
	V311IdentifierRejected  Reason = 2
	V311ServerUnavailable   Reason = 3
	V311BadUserOrPassword   Reason = 4
	V311NotAuthorized       Reason = 5
)

// V311SubscribeFailure is the only refusal a 3.1.1 SUBACK knows.
const V311SubscribeFailure Reason = 0x80

// Failed reports whether the code refuses (0x80 and above).
func (r Reason) Failed() bool { return r >= 0x80 }

// String is the code as the tables of the text print it.
func (r Reason) String() string { return fmt.Sprintf("0x%02X", byte(r)) }

// allowed reports whether an MQTT 5 packet of type t may carry the code.
func (r Reason) allowed(t Type) bool {
	return strings.IndexByte(reasonsOf(t), byte(r)) >= 0
}

// reasonsOf lists the codes of a packet type, from the tables of chapter 3.
func reasonsOf(t Type) string {
	switch t {
	case CONNACK:
		return "\x00\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8A\x8C\x90\x95\x97\x99\x9A\x9B\x9C\x9D\x9F"
	case PUBACK, PUBREC:
		return "\x00\x10\x80\x83\x87\x90\x91\x97\x99"
	case PUBREL, PUBCOMP:
		return "\x00\x92"
	case SUBACK:
		return "\x00\x01\x02\x80\x83\x87\x8F\x91\x97\x9E\xA1\xA2"
	case UNSUBACK:
		return "\x00\x11\x80\x83\x87\x8F\x91"
	case DISCONNECT:
		return "\x00\x04\x80\x81\x82\x83\x87\x89\x8B\x8D\x8E\x8F\x90\x93\x94\x95\x96\x97\x98\x99\x9A\x9B\x9C\x9D\x9E\x9F\xA0\xA1\xA2"
	case AUTH:
		return "\x00\x18\x19"
	}
	return ""
}
