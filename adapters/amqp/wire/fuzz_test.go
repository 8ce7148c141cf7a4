package wire_test

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"testing"

	"github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
)

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0xc0, 4, 2, 0x41, 0x52, 7})
	f.Add([]byte{0xe0, 4, 2, 0x54, 1, 0xfe})
	f.Add([]byte{0, 0x53, 0x77, 0xa1, 1, 'v'})
	f.Fuzz(func(t *testing.T, in []byte) {
		v, rest, err := wire.Decode(in)
		if err != nil {
			return
		}
		if len(rest) >= len(in) {
			t.Fatal("a value of no bytes")
		}
		enc, err := wire.Append(nil, v)
		if err != nil {
			return // an array of something else than symbols
		}
		again, _, err := wire.Decode(enc)
		if enc2, _ := wire.Append(nil, again); err != nil || !bytes.Equal(enc, enc2) {
			t.Fatalf("%#v came back as %#v, %v", v, again, err)
		}
	})
}

func FuzzPerformative(f *testing.F) {
	for _, p := range performatives() {
		f.Add(p.Append(nil))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		p, _, err := wire.DecodePerformative(in)
		if err != nil {
			return
		}
		enc := p.Append(nil)
		again, rest, err := wire.DecodePerformative(enc)
		if err != nil || len(rest) != 0 || !bytes.Equal(again.Append(nil), enc) {
			t.Fatalf("%#v came back as %#v, %v", p, again, err)
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(wire.AppendFrame(nil, wire.FrameAMQP, 1, &wire.Close{}, nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 4096
		r := bytes.NewReader(in)
		h, err := wire.ReadFrameHeader(r, limit)
		if err != nil {
			return
		}
		if h.Size > limit {
			t.Fatalf("a frame of %d bytes went through", h.Size)
		}
		body, err := h.ReadBody(r, make([]byte, limit))
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF || len(body) > int(h.Size) {
			t.Fatalf("%d bytes of body, %v", len(body), err)
		}
	})
}

// FuzzMessage compares our scanner with go-amqp's decoder: what both read they
// must read alike.
func FuzzMessage(f *testing.F) {
	for _, m := range []amqp.Message{
		{Data: [][]byte{[]byte("a"), []byte("b")}}, {Value: "text"}, {Value: 1.5}, {Sequence: [][]any{{"a"}}},
		{Properties: &amqp.MessageProperties{MessageID: uint64(1), Subject: ptr("s"), To: ptr("t")},
			ApplicationProperties: map[string]any{"k": "v", "n": 1.5}, Data: [][]byte{nil}},
	} {
		raw, err := m.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := wire.DecodeMessage(in)
		if err != nil {
			return
		}
		if enc, err := wire.AppendMessage(nil, &got); err == nil {
			again, err := wire.DecodeMessage(enc)
			if err != nil || !bytes.Equal(again.Body, got.Body) || again.Subject != got.Subject || !reflect.DeepEqual(again.MessageID, got.MessageID) {
				t.Fatalf("%+v came back as %+v, %v", got, again, err)
			}
		}
		var theirs amqp.Message
		if theirs.UnmarshalBinary(in) != nil {
			return // they look inside sections we step over
		}
		// They do not hold sections to their stated size, so the comparison is of
		// what they write of what they read.
		raw, err := theirs.MarshalBinary()
		if err != nil {
			return
		}
		if got, err = wire.DecodeMessage(raw); err != nil {
			return // both data and a value, which they let pass
		}
		if got.Kind == wire.Data && !bytes.Equal(bytes.Join(theirs.Data, nil), got.Body) {
			t.Fatalf("data %q, theirs %q", got.Body, theirs.Data)
		}
		if p := theirs.Properties; p != nil && p.Subject != nil && *p.Subject != got.Subject {
			t.Fatalf("subject %q, theirs %q", got.Subject, *p.Subject)
		}
		if len(theirs.ApplicationProperties) != len(got.Properties) {
			t.Fatalf("properties %v, theirs %v", got.Properties, theirs.ApplicationProperties)
		}
	})
}

// FuzzTypedBody: a body of AMQP's own types becomes JSON within the limit, or is
// refused.
func FuzzTypedBody(f *testing.F) {
	for _, m := range []amqp.Message{
		{Value: map[string]any{"a": []any{1.5, "b", nil}}}, {Sequence: [][]any{{"a"}, {int64(1)}}}, {Value: []int64{1, 2}},
	} {
		raw, err := m.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw[3:]) // behind the descriptor
	}
	f.Add([]byte{0xf0, 0, 0, 0, 5, 0, 0, 0x10, 0, 0x40}) // many values of no width
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, section := range []byte{0x76, 0x77} {
			m, err := wire.DecodeMessage(append([]byte{0, 0x53, section}, value...))
			if err != nil || m.Kind != wire.Typed {
				continue
			}
			const limit = 2000
			out, err := m.JSON(limit)
			if err == nil && (!json.Valid(out) || len(out) > limit) {
				t.Fatalf("% x became %q", value, out)
			}
		}
	})
}
