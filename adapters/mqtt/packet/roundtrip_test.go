package packet_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"testing/iotest"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
)

// versionFor is the version a reader must be told before it meets p.
func versionFor(s sample) packet.Version {
	if s.p.Type() == packet.CONNECT {
		return 0
	}
	return s.version
}

// plain empties nil and zero-length slices alike, so that packets compare.
func plain(p packet.Packet) packet.Packet {
	switch p := p.(type) {
	case *packet.Publish:
		c := *p
		c.Properties = append(packet.Properties{}, p.Properties...)
		c.Topic, c.Payload = append([]byte{}, p.Topic...), append([]byte{}, p.Payload...)
		return &c
	case *packet.Ack:
		c := *p
		c.Properties = append(packet.Properties{}, p.Properties...)
		return &c
	case *packet.Connect:
		c := *p
		c.Properties = append(packet.Properties{}, p.Properties...)
		if p.Will != nil {
			w := *p.Will
			w.Properties = append(packet.Properties{}, w.Properties...)
			w.Payload = append([]byte{}, w.Payload...)
			c.Will = &w
		}
		return &c
	case *packet.Connack:
		c := *p
		c.Properties = append(packet.Properties{}, p.Properties...)
		return &c
	case *packet.Subscribe:
		c := *p
		c.Properties = append(packet.Properties{}, p.Properties...)
		return &c
	case *packet.Suback:
		c := *p
		c.Properties = append(packet.Properties{}, p.Properties...)
		return &c
	case *packet.Unsubscribe:
		c := *p
		c.Properties = append(packet.Properties{}, p.Properties...)
		return &c
	case *packet.Unsuback:
		c := *p
		c.Properties = append(packet.Properties{}, p.Properties...)
		return &c
	case *packet.Disconnect:
		c := *p
		c.Properties = append(packet.Properties{}, p.Properties...)
		return &c
	case *packet.Auth:
		c := *p
		c.Properties = append(packet.Properties{}, p.Properties...)
		return &c
	}
	return p
}

func TestRoundTrip(t *testing.T) {
	for _, s := range samples() {
		b := mustEncode(t, s)
		got, err := packet.NewReader(bytes.NewReader(b), versionFor(s), 1<<20).Next()
		if err != nil {
			t.Errorf("%s (v%d): %v", s.name, s.version, err)
			continue
		}
		if want := plain(s.p); !reflect.DeepEqual(plain(got), want) {
			t.Errorf("%s (v%d):\n got %+v\nwant %+v", s.name, s.version, got, want)
		}
	}
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	for _, s := range samples() {
		b, err := s.p.Append([]byte("before"), s.version)
		if err != nil || string(b[:6]) != "before" || !bytes.Equal(b[6:], mustEncode(t, s)) {
			t.Errorf("%s (v%d): %x, %v", s.name, s.version, b, err)
		}
	}
}

// TestSplitAtEveryByte delivers each packet in two pieces, cut everywhere.
func TestSplitAtEveryByte(t *testing.T) {
	for _, s := range samples() {
		b := mustEncode(t, s)
		for cut := range len(b) {
			src := io.MultiReader(bytes.NewReader(b[:cut]), bytes.NewReader(b[cut:]))
			got, err := packet.NewReader(src, versionFor(s), 1<<20).Next()
			if err != nil || !reflect.DeepEqual(plain(got), plain(s.p)) {
				t.Fatalf("%s (v%d) cut at %d: %+v, %v", s.name, s.version, cut, got, err)
			}
		}
	}
}

// TestTruncated ends the stream inside each packet, everywhere.
func TestTruncated(t *testing.T) {
	for _, s := range samples() {
		b := mustEncode(t, s)
		for cut := 1; cut < len(b); cut++ {
			_, err := packet.NewReader(bytes.NewReader(b[:cut]), versionFor(s), 1<<20).Next()
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s (v%d) ending at %d: %v", s.name, s.version, cut, err)
			}
		}
	}
}

// TestShortened keeps the fixed header truthful but cuts the body: whatever
// the codec answers, it must not read past the end.
func TestShortened(t *testing.T) {
	for _, s := range samples() {
		b := mustEncode(t, s)
		if len(b) > 129 {
			continue
		}
		for cut := 2; cut < len(b); cut++ {
			short := append([]byte{b[0], byte(cut - 2)}, b[2:cut]...)
			r := packet.NewReader(bytes.NewReader(short), versionFor(s), 1<<20)
			var broken *packet.Error
			if _, err := r.Next(); err != nil && !errors.As(err, &broken) {
				t.Fatalf("%s (v%d) shortened to %d: %v", s.name, s.version, cut, err)
			}
		}
	}
}

func TestStreamOfPackets(t *testing.T) {
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		var all []byte
		var want []packet.Packet
		for _, s := range samples() {
			if s.version == v && s.p.Type() != packet.CONNECT {
				all = append(all, mustEncode(t, s)...)
				want = append(want, plain(s.p))
			}
		}
		for name, src := range map[string]io.Reader{
			"whole": bytes.NewReader(all), "half": iotest.HalfReader(bytes.NewReader(all)),
			"byte": iotest.OneByteReader(bytes.NewReader(all)), "with error": iotest.DataErrReader(bytes.NewReader(all)),
		} {
			r := packet.NewReader(src, v, 1<<20)
			for i := range want {
				got, err := r.Next()
				if err != nil || !reflect.DeepEqual(plain(got), want[i]) {
					t.Fatalf("v%d %s, packet %d: %+v, %v", v, name, i, got, err)
				}
			}
			if _, err := r.Next(); err != io.EOF {
				t.Fatalf("v%d %s: end is %v", v, name, err)
			}
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	long := string(make([]byte, 65_536))
	for name, s := range map[string]sample{
		"long client id":    {"", packet.V5, &packet.Connect{Version: packet.V5, ClientID: long}},
		"long topic":        {"", packet.V311, &packet.Publish{Topic: []byte(long)}},
		"property misplace": {"", packet.V5, &packet.Disconnect{Properties: props(num(packet.TopicAlias, 1))}},
		"unknown property":  {"", packet.V5, &packet.Disconnect{Properties: props(num(0x7F, 1))}},
		"long property":     {"", packet.V5, &packet.Disconnect{Properties: props(text(packet.ReasonString, long))}},
		"auth on 3.1.1":     {"", packet.V311, &packet.Auth{}},
	} {
		if b, err := s.p.Append([]byte("x"), s.version); err == nil || string(b) != "x" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}
