package wire_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
)

func ptr[T any](v T) *T { return &v }

// The peer's encoder against our scanner.
func TestMessagesOfGoAMQP(t *testing.T) {
	created := time.UnixMilli(1700000000123).UTC()
	full := &amqp.Message{
		Header:              &amqp.MessageHeader{Durable: true, Priority: 4, DeliveryCount: 2, TTL: time.Second},
		DeliveryAnnotations: amqp.Annotations{"x-a": "1"},
		Annotations:         amqp.Annotations{"x-b": int64(2)},
		Properties: &amqp.MessageProperties{
			MessageID: "m-1", UserID: []byte("u"), To: ptr("dev/telemetry"), Subject: ptr("subj"), ReplyTo: ptr("back"),
			CorrelationID: uint64(7), ContentType: ptr("application/json"), ContentEncoding: ptr("gzip"),
			AbsoluteExpiryTime: &created, CreationTime: &created, GroupID: ptr("g"), GroupSequence: ptr(uint32(1)), ReplyToGroupID: ptr("r"),
		},
		ApplicationProperties: map[string]any{"status": int32(200)},
		Data:                  [][]byte{[]byte(`{"a":`), []byte(`1}`)},
		Footer:                amqp.Annotations{"x-c": true},
	}
	raw, err := full.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	got, err := wire.DecodeMessage(raw)
	want := wire.Message{
		Durable: true, DeliveryCount: 2, MessageID: "m-1", To: "dev/telemetry", Subject: "subj", ReplyTo: "back",
		CorrelationID: uint64(7), ContentType: "application/json",
		AbsoluteExpiryTime: wire.Some(wire.TimestampOf(created)), CreationTime: wire.Some(wire.TimestampOf(created)),
		Properties: wire.Map{{Key: "status", Value: int32(200)}}, Body: []byte(`{"a":1}`), Kind: wire.Data,
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	for n := range len(raw) {
		_, _ = wire.DecodeMessage(raw[:n]) // a cut may fall between sections
	}
}

func TestBodies(t *testing.T) {
	for name, c := range map[string]struct {
		m    amqp.Message
		body string
		kind wire.BodyKind
	}{
		"data":     {amqp.Message{Data: [][]byte{[]byte("x")}}, "x", wire.Data},
		"string":   {amqp.Message{Value: "x"}, "x", wire.Text},
		"binary":   {amqp.Message{Value: []byte("x")}, "x", wire.Binary},
		"double":   {amqp.Message{Value: 1.5}, "", wire.Opaque},
		"sequence": {amqp.Message{Sequence: [][]any{{"a", int64(1)}}}, "", wire.Opaque},
		"none":     {amqp.Message{Header: &amqp.MessageHeader{}}, "", wire.NoBody},
	} {
		raw, err := c.m.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.DecodeMessage(raw)
		if err != nil || string(got.Body) != c.body || got.Kind != c.kind {
			t.Errorf("%s: %q of kind %d, %v", name, got.Body, got.Kind, err)
		}
	}
}

// Our encoder against the peer's decoder.
func TestMessagesForGoAMQP(t *testing.T) {
	m := wire.Message{
		DeliveryCount: 3, MessageID: "id", Subject: "heat", ReplyTo: "dev/responses", CorrelationID: "id",
		ContentType: "text/plain", AbsoluteExpiryTime: wire.Some(wire.Timestamp(1700000000123)),
		Properties: wire.Map{{Key: "a", Value: "b"}}, Body: bytes.Repeat([]byte("x"), 300), Kind: wire.Data,
	}
	raw, err := wire.AppendMessage(nil, &m)
	if err != nil {
		t.Fatal(err)
	}
	var got amqp.Message
	if err := got.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	p := got.Properties
	if got.Header.DeliveryCount != 3 || p.MessageID != "id" || *p.Subject != "heat" || *p.ReplyTo != "dev/responses" ||
		p.CorrelationID != "id" || *p.ContentType != "text/plain" || p.AbsoluteExpiryTime.UnixMilli() != 1700000000123 ||
		got.ApplicationProperties["a"] != "b" || !bytes.Equal(got.GetData(), m.Body) {
		t.Errorf("the peer read %+v %+v", got, p)
	}
	again, err := wire.DecodeMessage(raw)
	if err != nil || !reflect.DeepEqual(again, m) {
		t.Errorf("came back as %+v, %v", again, err)
	}
}

func TestMalformedMessages(t *testing.T) {
	data := []byte{0, 0x53, 0x75, 0xa0, 1, 'x'}
	header := []byte{0, 0x53, 0x70, 0x45}
	value := []byte{0, 0x53, 0x77, 0x40}
	for name, in := range map[string][]byte{
		"no descriptor":         []byte("{}"),
		"unknown section":       {0, 0x53, 0x79, 0x45},
		"header after data":     append(append([]byte{}, data...), header...),
		"two headers":           append(append([]byte{}, header...), header...),
		"data and value":        append(append([]byte{}, data...), value...),
		"value twice":           append(append([]byte{}, value...), value...),
		"data that is a string": {0, 0x53, 0x75, 0xa1, 1, 'x'},
		"message id of double":  {0, 0x53, 0x73, 0xc0, 10, 1, 0x82, 0, 0, 0, 0, 0, 0, 0, 0},
		"short body":            {0, 0x53, 0x75, 0xb0, 0xff, 0xff, 0xff, 0xff, 'x'},
	} {
		if m, err := wire.DecodeMessage(in); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}
