package words

import (
	"maps"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
)

func TestTexts(t *testing.T) {
	for want, v := range map[string]any{
		"": nil, "s": "s", "sym": wire.Symbol("sym"), "7": uint8(7), "-7": int64(-7), "1.5": float32(1.5), "0.1": float32(0.1), "21.5": 21.5,
		"true": true, "x": wire.Char('x'), "b": []byte("b"), "ff": []byte{0xff}, "2023-11-14T22:13:20.123Z": wire.Timestamp(1700000000123),
		"01020304": wire.Decimal{1, 2, 3, 4}, "2023-11-14T22:13:20Z": time.Unix(1700000000, 0), "other": amqp.Symbol("other"),
		"00010203-0405-0607-0809-0a0b0c0d0e0f": amqp.UUID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
	} {
		if got := Text(v); got != want {
			t.Errorf("%#v is %q, want %q", v, got, want)
		}
	}
	if got := ID([]byte("b")); got != "62" {
		t.Errorf("a binary id is %q", got)
	}
}

func TestPropertiesOfAnEvent(t *testing.T) {
	in := &wire.Message{
		Subject: "s", CorrelationID: []byte{1}, GroupSequence: wire.Some[uint32](0),
		Annotations: wire.Map{{Key: wire.Symbol("x-opt-a"), Value: int32(1)}, {Key: uint64(7), Value: "reserved"}},
		Properties: wire.Map{
			{Key: "cloudEvents:specversion", Value: "1.0"}, {Key: "cloudEvents_raw", Value: []byte{1, 2}}, {Key: "own", Value: true}, {Key: int32(1), Value: "no name"},
		},
	}
	want := map[string]string{"amqp.subject": "s", "amqp.correlation-id": "01", "amqp.group-sequence": "0", "amqp.annotation.x-opt-a": "1", "own": "true"}
	if got := Properties(in, true); !maps.Equal(got, want) {
		t.Errorf("kept %v", got)
	}
	if got := EventAttributes(in.Properties); !maps.Equal(got, map[string]string{"specversion": "1.0", "raw": "AQI="}) {
		t.Errorf("attributes %v", got)
	}
	in.Properties[1].Value = []byte{0xff, 2}
	want["cloudEvents:specversion"], want["cloudEvents_raw"] = "1.0", "ff02" // of no event: as any other
	if got := Properties(in, false); !maps.Equal(got, want) {
		t.Errorf("of no event, kept %v", got)
	}
	if Properties(&wire.Message{}, false) != nil || EventAttributes(in.Properties[1:]) != nil {
		t.Error("of nothing comes something")
	}
}
