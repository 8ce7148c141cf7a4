package devicepb_test

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

var at = time.Date(2026, 5, 4, 12, 30, 15, 123456789, time.UTC)

func messages() map[string]*device.Message {
	return map[string]*device.Message{
		"empty":  {},
		"plain":  plain(),
		"kept":   {Tenant: "t", Device: "d", Kept: 1 << 60},
		"epoch":  {Tenant: "t", Device: "d", ReceivedAt: time.Unix(0, 0).UTC()},
		"before": {Tenant: "t", Device: "d", ReceivedAt: time.Unix(-12345, 678).UTC()},
		"long": {Tenant: "t", Device: strings.Repeat("d", 128), Properties: map[string]string{strings.Repeat("k", 200): strings.Repeat("v", 20000)},
			Payload: bytes.Repeat([]byte{0}, 1<<20)},
		"kinds": {Tenant: "t", Device: "d", CreatedAt: at, ReceivedAt: at.Add(time.Second), Measurements: []device.Measurement{
			{Name: "f", Unit: "C", Time: at, Value: device.Double(21.5)},
			{Name: "zero", Time: at, Value: device.Double(0)},
			{Name: "nan", Time: at, Value: device.Double(math.NaN())},
			{Name: "i", Time: at.Add(-time.Hour), Value: device.Int(math.MinInt64)},
			{Name: "i0", Time: at, Value: device.Int(0)},
			{Name: "b", Time: at, Value: device.Bool(true)},
			{Name: "b0", Time: at, Value: device.Bool(false)},
			{Name: "s", Time: at, Value: device.String(strings.Repeat("ü", 300))},
			{Name: "s0", Time: at, Value: device.String("")},
			{Name: "y", Time: at, Value: device.Bytes([]byte{0xff, 0})},
			{Name: "y0", Time: time.Unix(0, 0).UTC(), Value: device.Bytes(nil)},
		}},
	}
}

func plain() *device.Message {
	return &device.Message{Tenant: "default", Device: "sensor-17", Via: "gw", Channel: "room/1", Key: "abc", Protocol: device.MQTT, QoS: 1,
		ContentType: "application/json", ReceivedAt: at,
		Properties: map[string]string{"b": "2", "a": "1", "": "", "c": ""}, Payload: []byte(`{"temperature":21.5,"on":true}`),
		Measurements: []device.Measurement{{Name: "temperature", Time: at, Value: device.Double(21.5)}, {Name: "on", Time: at, Value: device.Bool(true)}}}
}

// inStream makes the generated message the stream's form is compared with.
func inStream(m *device.Message) *pb.Message {
	p := devicepb.MessageToProto(m)
	own := m.CreatedAt
	if own.IsZero() {
		own = m.ReceivedAt
	}
	for i, x := range m.Measurements {
		if x.Time.Equal(own) {
			p.Measurements[i].Time = nil
		}
	}
	return p
}

func TestMessageIsWhatTheGeneratedCodeWrites(t *testing.T) {
	for name, m := range messages() {
		t.Run(name, func(t *testing.T) {
			want, err := proto.MarshalOptions{Deterministic: true}.Marshal(inStream(m))
			if err != nil {
				t.Fatal(err)
			}
			got := devicepb.MarshalMessage(m)
			if !bytes.Equal(got, want) {
				t.Fatalf("got  %x\nwant %x", got, want)
			}
			back, err := devicepb.UnmarshalMessage(got)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(back, m) {
				t.Fatalf("came back as %+v, was %+v", back, m)
			}
			if app := devicepb.AppendMessage([]byte("x"), m); !bytes.Equal(app[1:], want) {
				t.Fatal("AppendMessage differs from MarshalMessage")
			}
		})
	}
}

func TestBadTextIsReplacedWhenWrittenAndRefusedWhenRead(t *testing.T) {
	m := &device.Message{Tenant: "t", Device: "d", Key: "a\xffb", Properties: map[string]string{"\xfe": "\xfd"},
		Measurements: []device.Measurement{{Name: "n\xff", Value: device.String("v\xff")}}}
	var p pb.Message
	if err := proto.Unmarshal(devicepb.MarshalMessage(m), &p); err != nil {
		t.Fatal(err)
	}
	if p.Key != "a\uFFFDb" || p.Measurements[0].GetStringValue() != "v\uFFFD" {
		t.Fatalf("got %q and %v", p.Key, p.Measurements)
	}
	if _, err := devicepb.UnmarshalMessage([]byte{0x0a, 1, 0xff}); err == nil {
		t.Fatal("a tenant that is not UTF-8 was read")
	}
	if _, err := devicepb.UnmarshalMessage([]byte{0x0a, 9, 'x'}); err == nil {
		t.Fatal("a truncated field was read")
	}
}

func TestStoredThereAndBack(t *testing.T) {
	s := device.Stored{Message: *plain(), Position: device.Position{Epoch: 3, Seq: 1 << 40}, StoredAt: at}
	p := devicepb.StoredToProto(&s)
	if p.Measurements[0].Time == nil {
		t.Fatal("an API answer spells out the time of every measurement")
	}
	back, err := devicepb.StoredFromProto(p)
	if err != nil || !reflect.DeepEqual(back, s) {
		t.Fatalf("came back as %+v (%v), was %+v", back, err, s)
	}
	p.Position = "AAAA"
	if _, err := devicepb.StoredFromProto(p); device.CodeOf(err) != device.Invalid {
		t.Fatalf("a mangled position gave %v", err)
	}
}

func FuzzUnmarshalMessage(f *testing.F) {
	for _, m := range messages() {
		if b := devicepb.MarshalMessage(m); len(b) < 4096 {
			f.Add(b)
		}
	}
	f.Add([]byte{0x4a, 2, 8, 1, 0x4a, 2, 16, 1, 0x6b, 0x6c, 0x6a, 4, 0x3a, 0, 0x28, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := devicepb.UnmarshalMessage(data)
		var p pb.Message
		if generated := proto.Unmarshal(data, &p); (err == nil) != (generated == nil) {
			t.Fatalf("ours says %v, the generated code %v", err, generated)
		}
		if err != nil {
			return
		}
		want := devicepb.MessageFromProto(&p)
		a, b := devicepb.MarshalMessage(m), devicepb.MarshalMessage(want)
		if !bytes.Equal(a, b) {
			t.Fatalf("ours read %+v\ngenerated %+v", m, want)
		}
		again, err := devicepb.UnmarshalMessage(a)
		if err != nil || !bytes.Equal(devicepb.MarshalMessage(again), a) {
			t.Fatalf("not stable: %v", err)
		}
	})
}

func BenchmarkMarshalMessage(b *testing.B) {
	m := plain()
	b.ReportAllocs()
	for b.Loop() {
		devicepb.MarshalMessage(m)
	}
}

func BenchmarkUnmarshalMessage(b *testing.B) {
	data := devicepb.MarshalMessage(plain())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := devicepb.UnmarshalMessage(data); err != nil {
			b.Fatal(err)
		}
	}
}
