package packet_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
)

// refused is one breach of the texts in hexadecimal, and the reason it earns.
var refused = []struct {
	name    string
	version packet.Version // 0: the packet is the first of the connection
	hex     string
	reason  packet.Reason
}{
	{"type 0", 4, "0000", packet.MalformedPacket},
	{"first packet is not CONNECT", 0, "c000", packet.ProtocolError},
	{"CONNECT flags", 0, "1100", packet.MalformedPacket},
	{"SUBSCRIBE flags", 4, "8006 0001 0001 61 00", packet.MalformedPacket},
	{"UNSUBSCRIBE flags", 5, "a005 0001 0001 61", packet.MalformedPacket},
	{"PUBREL flags", 4, "6002 0001", packet.MalformedPacket},
	{"PUBACK flags", 4, "4102 0001", packet.MalformedPacket},
	{"PINGREQ with a body", 4, "c001 00", packet.MalformedPacket},
	{"length of five bytes", 4, "30 80808080 01", packet.MalformedPacket},
	{"length longer than needed", 5, "c0 8000", packet.MalformedPacket},

	{"protocol name", 0, "100c 0004 4d515455 04 02 003c 0000", packet.MalformedPacket},
	{"MQTT 3.1", 0, "100e 0006 4d5149736470 03 02 003c 0000", packet.UnsupportedVersion},
	{"level 6", 0, "100c 0004 4d515454 06 02 003c 0000", packet.UnsupportedVersion},
	{"reserved connect flag", 0, "100c 0004 4d515454 04 03 003c 0000", packet.MalformedPacket},
	{"will QoS without will", 0, "100c 0004 4d515454 04 0a 003c 0000", packet.MalformedPacket},
	{"will retain without will", 0, "100c 0004 4d515454 04 22 003c 0000", packet.MalformedPacket},
	{"will QoS 3", 0, "1012 0004 4d515454 04 1e 003c 0000 0001 61 0001 62", packet.MalformedPacket},
	{"will topic wildcard", 0, "1012 0004 4d515454 04 06 003c 0000 0001 23 0001 62", packet.TopicNameInvalid},
	{"password without user on 3.1.1", 0, "100f 0004 4d515454 04 42 003c 0000 0001 70", packet.MalformedPacket},
	{"bytes after CONNECT", 0, "100d 0004 4d515454 04 02 003c 0000 ff", packet.MalformedPacket},
	{"client id with NUL", 0, "100d 0004 4d515454 04 02 003c 0001 00", packet.MalformedPacket},
	{"authentication data without method", 0, "1011 0004 4d515454 05 02 003c 04 16 0001 61 0000", packet.ProtocolError},
	{"receive maximum 0", 0, "1010 0004 4d515454 05 02 003c 03 21 0000 0000", packet.ProtocolError},
	{"maximum packet size 0", 0, "1012 0004 4d515454 05 02 003c 05 27 00000000 0000", packet.ProtocolError},
	{"request problem information 2", 0, "100f 0004 4d515454 05 02 003c 02 17 02 0000", packet.ProtocolError},

	{"QoS 3", 4, "3605 0001 61 0001", packet.MalformedPacket},
	{"DUP with QoS 0", 4, "3803 0001 61", packet.MalformedPacket},
	{"packet identifier 0", 4, "3205 0001 61 0000", packet.ProtocolError},
	{"topic with +", 4, "3005 0003 612f2b", packet.TopicNameInvalid},
	{"topic with #", 5, "3006 0003 612f23 00", packet.TopicNameInvalid},
	{"topic with NUL", 4, "3005 0003 610061", packet.MalformedPacket},
	{"topic with a surrogate", 4, "3005 0003 eda080", packet.MalformedPacket},
	{"topic overlong UTF-8", 4, "3004 0002 c080", packet.MalformedPacket},
	{"topic cut short", 4, "3003 0005 61", packet.MalformedPacket},
	{"empty topic on 3.1.1", 4, "3002 0000", packet.ProtocolError},
	{"empty topic without alias", 5, "3003 0000 00", packet.ProtocolError},
	{"alias 0", 5, "3006 0000 03 23 0000", packet.TopicAliasInvalid},
	{"properties overrun", 5, "3005 0001 61 02 00", packet.MalformedPacket},
	{"property cut by the property length", 5, "3008 0001 61 02 02 000000", packet.MalformedPacket},
	{"property twice", 5, "3008 0001 61 04 0101 0101", packet.ProtocolError},
	{"property of another packet", 5, "3009 0001 61 05 11 00000001", packet.ProtocolError},
	{"unknown property", 5, "3006 0001 61 02 7f 00", packet.MalformedPacket},
	{"property identifier of two bytes", 5, "3007 0001 61 03 a602 00", packet.MalformedPacket},
	{"payload format 2", 5, "3006 0001 61 02 01 02", packet.ProtocolError},
	{"response topic wildcard", 5, "3008 0001 61 04 08 0001 23", packet.ProtocolError},
	{"subscription identifier 0", 5, "3006 0001 61 02 0b 00", packet.ProtocolError},
	{"property length longer than needed", 5, "3005 0001 61 8000", packet.MalformedPacket},

	{"PUBACK identifier 0", 4, "4002 0000", packet.ProtocolError},
	{"PUBACK of three bytes on 3.1.1", 4, "4003 0001 00", packet.MalformedPacket},
	{"PUBACK of one byte", 5, "4001 00", packet.MalformedPacket},
	{"PUBACK with a foreign reason", 5, "4003 0001 8e", packet.MalformedPacket},
	{"bytes after PUBACK", 5, "4005 0001 00 00 00", packet.MalformedPacket},

	{"SUBSCRIBE without filter", 4, "8202 0001", packet.ProtocolError},
	{"SUBSCRIBE empty filter", 4, "8205 0001 0000 00", packet.TopicFilterInvalid},
	{"SUBSCRIBE without options", 5, "8206 0001 00 0001 61", packet.MalformedPacket},
	{"SUBSCRIBE truncated properties", 5, "8205 0001 000000", packet.MalformedPacket},
	{"filter a#", 4, "8207 0001 0002 6123 00", packet.TopicFilterInvalid},
	{"filter #/a", 4, "8208 0001 0003 232f61 00", packet.TopicFilterInvalid},
	{"filter +a", 4, "8207 0001 0002 2b61 00", packet.TopicFilterInvalid},
	{"subscribe QoS 3", 4, "8206 0001 0001 61 03", packet.MalformedPacket},
	{"reserved options on 3.1.1", 4, "8206 0001 0001 61 04", packet.MalformedPacket},
	{"reserved options on 5", 5, "8207 0001 00 0001 61 40", packet.MalformedPacket},
	{"retain handling 3", 5, "8207 0001 00 0001 61 30", packet.ProtocolError},
	{"no local on a share", 5, "8210 0001 00 000a 2473686172652f672f61 04", packet.ProtocolError},
	{"share without filter", 5, "820e 0001 00 0008 2473686172652f67 00", packet.TopicFilterInvalid},
	{"UNSUBSCRIBE without filter", 5, "a203 0001 00", packet.ProtocolError},

	{"CONNACK flags", 4, "2002 02 00", packet.MalformedPacket},
	{"CONNACK code 6 on 3.1.1", 4, "2002 00 06", packet.MalformedPacket},
	{"CONNACK session present on refusal", 4, "2002 01 05", packet.ProtocolError},
	{"SUBACK without codes", 4, "9002 0001", packet.ProtocolError},
	{"SUBACK code 3", 4, "9003 0001 03", packet.MalformedPacket},
	{"UNSUBACK with codes on 3.1.1", 4, "b003 0001 00", packet.MalformedPacket},
	{"DISCONNECT with a body on 3.1.1", 4, "e001 00", packet.MalformedPacket},
	{"DISCONNECT with a foreign reason", 5, "e001 10", packet.MalformedPacket},
	{"AUTH on 3.1.1", 4, "f000", packet.MalformedPacket},
	{"AUTH with a foreign reason", 5, "f001 80", packet.MalformedPacket},
	{"too large", 4, "30 ffffff7f", packet.PacketTooLarge},
}

func TestRefused(t *testing.T) {
	for _, c := range refused {
		b, err := hex.DecodeString(strings.ReplaceAll(c.hex, " ", ""))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		p, err := packet.NewReader(bytes.NewReader(b), c.version, 64<<10).Next()
		var broken *packet.Error
		if !errors.As(err, &broken) || broken.Reason != c.reason {
			t.Errorf("%s: %+v, %v; want %v", c.name, p, err, c.reason)
		}
	}
}

func TestCapsOnCounts(t *testing.T) {
	var broken *packet.Error
	over := &packet.Publish{Topic: []byte("t"), Properties: manyUsers(packet.MaxUserProperties + 1)}
	b, _ := over.Append(nil, packet.V5)
	if _, err := packet.NewReader(bytes.NewReader(b), packet.V5, 1<<20).Next(); !errors.As(err, &broken) || broken.Reason != packet.QuotaExceeded {
		t.Errorf("user properties: %v", err)
	}
	sub := &packet.Subscribe{ID: 1, Filters: make([]packet.Filter, packet.MaxFilters+1)}
	for i := range sub.Filters {
		sub.Filters[i].Topic = "a"
	}
	b, _ = sub.Append(nil, packet.V311)
	if _, err := packet.NewReader(bytes.NewReader(b), packet.V311, 1<<20).Next(); !errors.As(err, &broken) || broken.Reason != packet.QuotaExceeded {
		t.Errorf("filters: %v", err)
	}
}

// TestLargeAnnouncementCostsNothing: a length alone must not allocate.
func TestLargeAnnouncementCostsNothing(t *testing.T) {
	const limit = packet.MaxPacketBytes
	head := []byte{0x30, 0xff, 0xff, 0xff, 0x7f}
	allocated := testing.AllocsPerRun(5, func() {
		r := packet.NewReader(io.MultiReader(bytes.NewReader(head), bytes.NewReader(make([]byte, 1000))), 4, limit)
		if _, err := r.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	})
	if allocated > 20 {
		t.Errorf("%v allocations", allocated)
	}
	result := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = packet.NewReader(bytes.NewReader(head), 4, limit).Next()
		}
	})
	if n := result.AllocedBytesPerOp(); n > 4096 {
		t.Errorf("%d bytes allocated for a header alone", n)
	}
}
