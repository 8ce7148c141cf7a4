package packet_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
)

// loop repeats b for ever, a few packets at a time, as a busy socket does.
type loop struct {
	b   []byte
	off int
}

func (l *loop) Read(p []byte) (int, error) {
	n := copy(p, l.b[l.off:])
	l.off = (l.off + n) % len(l.b)
	return n, nil
}

func benchRead(b *testing.B, s sample) {
	one := mustEncode(b, s)
	r := packet.NewReader(&loop{b: bytes.Repeat(one, 40)}, s.version, 1<<20)
	b.ReportAllocs()
	b.SetBytes(int64(len(one)))
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

var payload200 = bytes.Repeat([]byte("0123456789"), 20)

func BenchmarkReadPublish311(b *testing.B) {
	benchRead(b, sample{"", packet.V311, &packet.Publish{QoS: 1, ID: 5, Topic: []byte("dev1/telemetry/room"), Payload: payload200}})
}

func BenchmarkReadPublish5(b *testing.B) {
	benchRead(b, sample{"", packet.V5, &packet.Publish{QoS: 1, ID: 5, Topic: []byte("dev1/telemetry/room"), Payload: payload200}})
}

func BenchmarkReadPublish5Properties(b *testing.B) {
	benchRead(b, sample{"", packet.V5, &packet.Publish{QoS: 1, ID: 5, Topic: []byte("dev1/telemetry/room"), Payload: payload200,
		Properties: props(text(packet.ContentType, "application/json"), user("message-id", "0123456789"))}})
}

func BenchmarkReadPuback(b *testing.B) {
	benchRead(b, sample{"", packet.V5, &packet.Ack{Kind: packet.PUBACK, ID: 5}})
}

func BenchmarkAppendPuback(b *testing.B) {
	buf := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		buf = packet.AppendAck(buf[:0], packet.V5, packet.PUBACK, 5, packet.Success)
	}
}

func BenchmarkAppendPublish(b *testing.B) {
	p := &packet.Publish{QoS: 1, ID: 5, Topic: []byte("dev1/commands/01/heat"), Payload: payload200}
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = p.Append(buf[:0], packet.V311)
	}
}

// TestHotPathAllocatesNothing holds the promise of the package comment.
func TestHotPathAllocatesNothing(t *testing.T) {
	for _, s := range []sample{
		{"publish 3.1.1", packet.V311, &packet.Publish{QoS: 1, ID: 5, Topic: []byte("a/telemetry"), Payload: payload200}},
		{"publish 5", packet.V5, &packet.Publish{QoS: 1, ID: 5, Topic: []byte("a/telemetry"), Payload: payload200}},
		{"puback", packet.V5, &packet.Ack{Kind: packet.PUBACK, ID: 5}},
	} {
		var src io.Reader = &loop{b: bytes.Repeat(mustEncode(t, s), 40)}
		r := packet.NewReader(src, s.version, 1<<20)
		for range 1000 { // let the buffer find its size
			_, _ = r.Next()
		}
		if n := testing.AllocsPerRun(1000, func() { _, _ = r.Next() }); n > 0 {
			t.Errorf("%s: %v allocations a packet", s.name, n)
		}
	}
}
