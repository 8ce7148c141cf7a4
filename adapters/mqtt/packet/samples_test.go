package packet_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
)

// sample is a packet and the version it is encoded for.
type sample struct {
	name    string
	version packet.Version
	p       packet.Packet
}

func props(add ...func(*packet.Properties)) packet.Properties {
	var p packet.Properties
	for _, f := range add {
		f(&p)
	}
	return p
}

func num(id packet.PropertyID, v uint32) func(*packet.Properties) {
	return func(p *packet.Properties) { p.AddNumber(id, v) }
}

func text(id packet.PropertyID, v string) func(*packet.Properties) {
	return func(p *packet.Properties) { p.AddText(id, v) }
}

func user(k, v string) func(*packet.Properties) {
	return func(p *packet.Properties) { p.AddUser(k, v) }
}

var publishProps = props(num(packet.PayloadFormat, 1), num(packet.MessageExpiry, 30),
	text(packet.ContentType, "application/json"), text(packet.ResponseTopic, "a/b"),
	text(packet.CorrelationData, "\x00\xff"), num(packet.TopicAlias, 3),
	user("message-id", "1"), user("message-id", "2"),
	num(packet.SubscriptionID, 1), num(packet.SubscriptionID, 268_435_455))

var ackProps = props(text(packet.ReasonString, "no"), user("a", "b"))

// samples covers every packet type of both versions, with and without options.
func samples() []sample {
	return append(samples311(), samples5()...)
}

func samples311() []sample {
	const v = packet.V311
	return []sample{
		{"connect", v, &packet.Connect{Version: v, CleanStart: true, KeepAlive: 60, ClientID: "dev1"}},
		{"connect full", v, &packet.Connect{Version: v, ClientID: "dev1", HasUser: true, User: "dev1@t", HasPassword: true,
			Password: []byte("s\x00cret"), Will: &packet.Will{Topic: "gone", Payload: []byte("x"), QoS: 2, Retain: true}}},
		{"connack", v, &packet.Connack{SessionPresent: true}},
		{"connack refusal", v, &packet.Connack{Reason: packet.V311NotAuthorized}},
		{"publish 0", v, &packet.Publish{Topic: []byte("dev1/telemetry"), Payload: []byte(`{"t":1}`)}},
		{"publish 1", v, &packet.Publish{QoS: 1, Dup: true, Retain: true, ID: 7, Topic: []byte("t"), Payload: []byte{}}},
		{"publish 2", v, &packet.Publish{QoS: 2, ID: 65535, Topic: []byte("t/ü"), Payload: bytes.Repeat([]byte("x"), 300)}},
		{"puback", v, &packet.Ack{Kind: packet.PUBACK, ID: 1}},
		{"pubrec", v, &packet.Ack{Kind: packet.PUBREC, ID: 2}},
		{"pubrel", v, &packet.Ack{Kind: packet.PUBREL, ID: 3}},
		{"pubcomp", v, &packet.Ack{Kind: packet.PUBCOMP, ID: 4}},
		{"subscribe", v, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "a/+/#", QoS: 1}, {Topic: "/", QoS: 2}}}},
		{"suback", v, &packet.Suback{ID: 1, Reasons: []packet.Reason{0, 1, 2, 0x80}}},
		{"unsubscribe", v, &packet.Unsubscribe{ID: 1, Filters: []string{"a/#", "#"}}},
		{"unsuback", v, &packet.Unsuback{ID: 1}},
		{"pingreq", v, packet.Pingreq{}},
		{"pingresp", v, packet.Pingresp{}},
		{"disconnect", v, &packet.Disconnect{}},
	}
}

func samples5() []sample {
	const v = packet.V5
	return []sample{
		{"connect", v, &packet.Connect{Version: v, CleanStart: true, KeepAlive: 60, ClientID: "dev1"}},
		{"connect full", v, &packet.Connect{Version: v, ClientID: "", HasPassword: true, Password: []byte("p"),
			Properties: props(num(packet.SessionExpiry, 1), num(packet.ReceiveMaximum, 2), num(packet.MaximumPacketSize, 3),
				num(packet.TopicAliasMaximum, 4), num(packet.RequestProblemInfo, 0), num(packet.RequestResponseInfo, 1),
				text(packet.AuthMethod, "m"), text(packet.AuthData, "\x00"), user("k", "v")),
			Will: &packet.Will{Topic: "gone", Payload: []byte("x"), QoS: 1,
				Properties: props(num(packet.WillDelay, 5), text(packet.ContentType, "text/plain"))}}},
		{"connect will", v, &packet.Connect{Version: v, ClientID: "c", HasUser: true, User: "u", Properties: props(num(packet.RequestProblemInfo, 0)),
			Will: &packet.Will{Topic: "gone", Payload: []byte("x"), Retain: true, Properties: props(num(packet.WillDelay, 5), user("a", "b"))}}},
		{"connack", v, &packet.Connack{Properties: props(num(packet.ReceiveMaximum, 256), num(packet.MaximumQoS, 1),
			num(packet.RetainAvailable, 0), num(packet.MaximumPacketSize, 1<<20), text(packet.AssignedClientID, "x"),
			num(packet.WildcardSubAvailable, 1), num(packet.SubIDAvailable, 0), num(packet.SharedSubAvailable, 0),
			num(packet.ServerKeepAlive, 60), text(packet.ServerReference, "other"), text(packet.ResponseInfo, "r"))}},
		{"connack refusal", v, &packet.Connack{Reason: packet.NotAuthorized, Properties: ackProps}},
		{"publish plain", v, &packet.Publish{QoS: 1, ID: 9, Topic: []byte("dev1/telemetry"), Payload: []byte("21.5")}},
		{"publish full", v, &packet.Publish{QoS: 2, ID: 9, Topic: []byte("t"), Payload: []byte("x"), Properties: publishProps}},
		{"publish alias", v, &packet.Publish{Topic: []byte{}, Payload: []byte("x"), Properties: props(num(packet.TopicAlias, 1))}},
		{"puback short", v, &packet.Ack{Kind: packet.PUBACK, ID: 1}},
		{"puback reason", v, &packet.Ack{Kind: packet.PUBACK, ID: 1, Reason: packet.QuotaExceeded}},
		{"puback full", v, &packet.Ack{Kind: packet.PUBACK, ID: 1, Reason: packet.NotAuthorized, Properties: ackProps}},
		{"pubrec", v, &packet.Ack{Kind: packet.PUBREC, ID: 2, Properties: ackProps}},
		{"pubrel", v, &packet.Ack{Kind: packet.PUBREL, ID: 3, Reason: packet.PacketIDNotFound, Properties: ackProps}},
		{"pubcomp", v, &packet.Ack{Kind: packet.PUBCOMP, ID: 4, Reason: packet.PacketIDNotFound}},
		{"subscribe", v, &packet.Subscribe{ID: 1, Properties: props(num(packet.SubscriptionID, 7)), Filters: []packet.Filter{
			{Topic: "a/+", QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: 2}, {Topic: "$share/g/#"}}}},
		{"suback", v, &packet.Suback{ID: 1, Properties: ackProps, Reasons: []packet.Reason{0, 1, 0x8F}}},
		{"unsubscribe", v, &packet.Unsubscribe{ID: 1, Properties: props(user("a", "b")), Filters: []string{"a/#"}}},
		{"unsuback", v, &packet.Unsuback{ID: 1, Reasons: []packet.Reason{0, 0x11}}},
		{"pingreq", v, packet.Pingreq{}},
		{"pingresp", v, packet.Pingresp{}},
		{"disconnect short", v, &packet.Disconnect{}},
		{"disconnect full", v, &packet.Disconnect{Reason: packet.SessionTakenOver, Properties: ackProps}},
		{"auth", v, &packet.Auth{Reason: packet.ContinueAuthentication, Properties: props(text(packet.AuthMethod, "m"), text(packet.AuthData, "d"))}},
		{"user properties", v, &packet.Publish{Topic: []byte("t"), Payload: []byte{}, Properties: manyUsers(packet.MaxUserProperties)}},
	}
}

func manyUsers(n int) packet.Properties {
	return props(func(p *packet.Properties) {
		for range n {
			p.AddUser(strings.Repeat("k", 3), "")
		}
	})
}

func mustEncode(t testing.TB, s sample) []byte {
	t.Helper()
	b, err := s.p.Append(nil, s.version)
	if err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	return b
}
