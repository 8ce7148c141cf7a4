package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
)

func TestValuesComeBack(t *testing.T) {
	values := []any{
		nil, true, false, uint8(7), int8(-7), uint16(65535), int16(-2),
		uint32(0), uint32(255), uint32(256), int32(-128), int32(1 << 20),
		uint64(0), uint64(255), uint64(math.MaxUint64), int64(-1), int64(math.MinInt64),
		float32(1.5), 21.5, wire.Char('ü'), wire.Timestamp(1700000000123), wire.UUID{1, 2, 15: 9},
		wire.Decimal{1, 2, 3, 4}, wire.Decimal(make([]byte, 8)), wire.Decimal(make([]byte, 16)),
		"", "text", strings.Repeat("x", 300), []byte{}, []byte{0, 1}, make([]byte, 300),
		wire.Symbol("sym"), wire.Symbol(strings.Repeat("s", 256)),
		wire.List{}, wire.List{uint32(1), "a", nil}, wire.List{strings.Repeat("x", 300)},
		wire.Map{{"k", int64(5)}, {wire.Symbol("s"), wire.List{true}}}, wire.Map{},
		wire.Array{wire.Symbol("a"), wire.Symbol("b")},
		wire.Described{Descriptor: uint64(0x77), Value: "v"},
	}
	for _, v := range values {
		enc, err := wire.Append(nil, v)
		if err != nil {
			t.Errorf("Append(%#v): %v", v, err)
			continue
		}
		got, rest, err := wire.Decode(append(enc, 0xee))
		if err != nil || !bytes.Equal(rest, []byte{0xee}) || !reflect.DeepEqual(got, v) {
			t.Errorf("%#v came back as %#v, rest %x, error %v", v, got, rest, err)
		}
		for n := range len(enc) {
			if _, _, err := wire.Decode(enc[:n]); !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("the first %d bytes of %#v decode: %v", n, v, err)
			}
		}
	}
}

func TestOtherEncodings(t *testing.T) {
	for in, want := range map[string]any{
		"5601":                        true,
		"7000000007":                  uint32(7),
		"8000000000000000ff":          uint64(255),
		"54ff":                        int32(-1),
		"55fe":                        int64(-2),
		"d00000000400000000":          wire.List{},
		"e00502540102" + "":           nil, // three bytes short of what it says
		"e004025401fe":                wire.Array{int32(1), int32(-2)},
		"e0020340":                    wire.Array{nil, nil, nil},
		"e00902005377a1" + "01610162": wire.Array{wire.Described{uint64(0x77), "a"}, wire.Described{uint64(0x77), "b"}},
	} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := wire.Decode(b)
		if want == nil {
			if err == nil {
				t.Errorf("%s decodes as %#v", in, got)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s decodes as %#v, %v; want %#v", in, got, err, want)
		}
	}
}

func TestHostileValues(t *testing.T) {
	for name, in := range map[string][]byte{
		"nothing":                    {},
		"unknown code":               {0x3f},
		"boolean of 2":               {0x56, 2},
		"binary of 4 GiB":            {0xb0, 0xff, 0xff, 0xff, 0xff},
		"list of 4 G elements":       {0xd0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff},
		"list smaller than it says":  {0xc0, 9, 1, 0x40},
		"list larger than it says":   {0xc0, 3, 1, 0x40, 0x40},
		"map of one":                 {0xc1, 2, 1, 0x40},
		"array of 4 G nulls":         {0xf0, 0, 0, 0, 5, 0x7f, 0xff, 0xff, 0xff, 0x40},
		"array without constructor":  {0xe0, 1, 0},
		"string that is not UTF-8":   {0xa1, 1, 0xff},
		"descriptors without an end": bytes.Repeat([]byte{0}, 4096),
		"lists in lists":             nested(0xc0),
		"arrays in arrays":           nested(0xe0),
	} {
		if v, _, err := wire.Decode(in); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: decoded as %#v, %v", name, v, err)
		}
	}
}

func nested(code byte) []byte {
	b := []byte{0x40}
	for range 100 {
		if code == 0xe0 && b[0] != 0xe0 {
			b = []byte{0xe0, 2, 0, 0x40}
		}
		b = append([]byte{code, byte(len(b) + 1), 1}, b...)
	}
	return b
}

func performatives() []wire.Performative {
	err := &wire.Error{Condition: wire.CondNotFound, Description: "no such node"}
	return []wire.Performative{
		&wire.Open{ContainerID: "c", Hostname: "h", MaxFrameSize: 4096, ChannelMax: 7, IdleTimeOut: 30000, Offered: []wire.Symbol{"A", "B"}, Desired: []wire.Symbol{"C"}},
		&wire.Open{ContainerID: "c", MaxFrameSize: math.MaxUint32, ChannelMax: math.MaxUint16},
		&wire.Begin{RemoteChannel: wire.Some[uint16](3), NextOutgoingID: 1, IncomingWindow: 2, OutgoingWindow: 3, HandleMax: 4},
		&wire.Attach{Name: "l", Handle: 1, Role: true, SndSettleMode: wire.SndSettled, RcvSettleMode: wire.RcvSecond,
			Source:               &wire.Source{Address: wire.Some("a"), Durable: 2, ExpiryPolicy: "never", Timeout: 9, Dynamic: true, DefaultOutcome: wire.Released{}, Outcomes: []wire.Symbol{"x", "y"}, Capabilities: []wire.Symbol{"z"}},
			Target:               &wire.Target{Durable: 1, Capabilities: []wire.Symbol{"q"}},
			InitialDeliveryCount: wire.Some[uint32](0), MaxMessageSize: 1 << 20, Offered: []wire.Symbol{"ANONYMOUS-RELAY"}},
		&wire.Attach{Name: "l", SndSettleMode: wire.SndMixed},
		&wire.Flow{NextIncomingID: wire.Some[uint32](1), IncomingWindow: 2, Handle: wire.Some[uint32](0), DeliveryCount: wire.Some[uint32](5), LinkCredit: wire.Some[uint32](100), Drain: true, Echo: true},
		&wire.Transfer{Handle: 1, DeliveryID: wire.Some[uint32](0), DeliveryTag: []byte("t"), MessageFormat: wire.Some[uint32](0), Settled: wire.Some(false), More: true, Aborted: true},
		&wire.Disposition{Role: true, First: 1, Last: wire.Some[uint32](9), Settled: true, State: wire.Accepted{}},
		&wire.Disposition{State: wire.Rejected{Error: err}},
		&wire.Disposition{State: wire.Modified{DeliveryFailed: true, UndeliverableHere: true}},
		&wire.Disposition{State: wire.Released{}},
		&wire.Disposition{State: wire.Received{}},
		&wire.Disposition{State: wire.Unknown{Descriptor: 0x34}},
		&wire.Detach{Handle: 300, Closed: true, Error: err},
		&wire.End{}, &wire.End{Error: err}, &wire.Close{Error: &wire.Error{Condition: wire.CondConnectionForced}},
		&wire.SASLMechanisms{Mechanisms: []wire.Symbol{wire.MechPlain}},
		&wire.SASLInit{Mechanism: wire.MechPlain, Response: []byte("\x00u\x00p"), Hostname: "h"},
		&wire.SASLChallenge{Challenge: []byte("c")}, &wire.SASLResponse{Response: []byte("r")},
		&wire.SASLOutcome{Code: wire.SASLSysTemp},
	}
}

func TestPerformativesComeBack(t *testing.T) {
	for _, p := range performatives() {
		enc := p.Append(nil)
		got, rest, err := wire.DecodePerformative(append(enc, "payload"...))
		if err != nil || string(rest) != "payload" || !reflect.DeepEqual(got, p) {
			t.Errorf("%#v came back as %#v, rest %q, error %v", p, got, rest, err)
		}
		for n := range len(enc) {
			if _, _, err := wire.DecodePerformative(enc[:n]); !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("the first %d bytes of %#v decode: %v", n, p, err)
			}
		}
	}
}

func TestFrames(t *testing.T) {
	frame := wire.AppendFrame(nil, wire.FrameAMQP, 258, &wire.Transfer{Handle: 1}, []byte("body"))
	h, err := wire.ReadFrameHeader(bytes.NewReader(frame), 512)
	if err != nil || h.Channel != 258 || int(h.Size) != len(frame) {
		t.Fatalf("%+v, %v", h, err)
	}
	// The same frame with an extended header of four bytes.
	long := append(append(append([]byte{}, frame[:8]...), 1, 2, 3, 4), frame[8:]...)
	long[3], long[4] = byte(len(long)), 3
	r := bytes.NewReader(long)
	if h, err = wire.ReadFrameHeader(r, 512); err != nil {
		t.Fatal(err)
	}
	body, err := h.ReadBody(r, make([]byte, h.Size))
	if err != nil {
		t.Fatal(err)
	}
	p, payload, err := wire.DecodePerformative(body)
	if tr, ok := p.(*wire.Transfer); !ok || tr.Handle != 1 || string(payload) != "body" || err != nil {
		t.Errorf("%#v %q %v", p, payload, err)
	}
	for name, head := range map[string]string{
		"too small": "0000000702000000", "too large": "0000020102000000",
		"body before the head's end": "0000001001000000", "body after the end": "0000000803000000",
	} {
		b, _ := hex.DecodeString(head)
		if _, err := wire.ReadFrameHeader(bytes.NewReader(b), 512); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTimestamps(t *testing.T) {
	now := time.UnixMilli(1700000000123).UTC()
	if got := wire.TimestampOf(now).Time(); !got.Equal(now) {
		t.Errorf("%v came back as %v", now, got)
	}
	if got := wire.Timestamp(math.MaxInt64).Time(); !got.IsZero() {
		t.Errorf("a timestamp beyond the year 9999 is %v", got)
	}
}
