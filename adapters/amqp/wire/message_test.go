package wire_test

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
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
		Durable: true, TTL: wire.Some[uint32](1000), DeliveryCount: 2, MessageID: "m-1", UserID: []byte("u"),
		To: "dev/telemetry", Subject: "subj", ReplyTo: "back", CorrelationID: uint64(7),
		ContentType: "application/json", ContentEncoding: "gzip", GroupID: "g", GroupSequence: wire.Some[uint32](1), ReplyToGroupID: "r",
		Annotations:        wire.Map{{Key: wire.Symbol("x-b"), Value: int64(2)}},
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
		"double":   {amqp.Message{Value: 1.5}, "", wire.Typed},
		"sequence": {amqp.Message{Sequence: [][]any{{"a", int64(1)}}}, "", wire.Typed},
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

// Bodies of AMQP's own types as JSON, from the peer's encoder.
func TestTypedBodiesAsJSON(t *testing.T) {
	at := time.UnixMilli(1700000000123).UTC()
	for want, m := range map[string]amqp.Message{
		`1.5`:        {Value: 1.5},
		`true`:       {Value: true},
		`[1,"a\"b"]`: {Value: []any{int64(1), `a"b`}},
		`{"t":21.5}`: {Value: map[string]any{"t": 21.5}},
		`{"a":{"b":[-1,255,65535,4294967295,18446744073709551615]}}`: {Value: map[string]any{"a": map[string]any{
			"b": []any{int8(-1), uint8(255), uint16(65535), uint32(4294967295), uint64(18446744073709551615)}}}},
		`["2023-11-14T22:13:20.123Z","sym","AQI=","01000000-0000-0000-0000-000000000000",null]`: {
			Value: []any{at, amqp.Symbol("sym"), []byte{1, 2}, amqp.UUID{1}, nil}},
		`[1,2]`:        {Value: []int64{1, 2}},
		`["a",1,"b"]`:  {Sequence: [][]any{{"a", int64(1)}, {}, {"b"}}},
		`[]`:           {Sequence: [][]any{{}}},
		`["x\u0001y"]`: {Value: []any{"x\x01y"}},
	} {
		raw, err := m.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.DecodeMessage(raw)
		if err != nil || got.Kind != wire.Typed {
			t.Fatalf("%s: kind %d, %v", want, got.Kind, err)
		}
		if json, err := got.JSON(1000); err != nil || string(json) != want {
			t.Errorf("%s, %v, want %s", json, err, want)
		}
	}
	for name, value := range map[string]any{
		"NaN": math.NaN(), "infinite": math.Inf(1), "keys that are numbers": map[any]any{int64(1): "a"}, "too long": strings.Split(strings.Repeat("x", 400), ""),
	} {
		raw, err := (&amqp.Message{Value: value}).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		got, _ := wire.DecodeMessage(raw)
		if json, err := got.JSON(1000); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %s, %v", name, json, err)
		}
	}
}

// Annotations with values of other types are no reason to refuse a message.
func TestAnnotations(t *testing.T) {
	raw, err := (&amqp.Message{Annotations: amqp.Annotations{
		"deep": map[string]any{"a": []any{[]any{[]any{"b"}}}}, "plain": "x", int64(7): "reserved",
	}, Data: [][]byte{[]byte("d")}}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	got, err := wire.DecodeMessage(raw)
	if err != nil || !reflect.DeepEqual(got.Annotations, wire.Map{{Key: wire.Symbol("plain"), Value: "x"}}) {
		t.Errorf("%+v, %v", got.Annotations, err)
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
