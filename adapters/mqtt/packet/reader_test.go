package packet_test

import (
	"bytes"
	"testing"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
)

// pieces is a source that gives one piece at a time.
type pieces [][]byte

func (p *pieces) Read(b []byte) (int, error) {
	n := copy(b, (*p)[0])
	*p = (*p)[1:]
	return n, nil
}

// TestHolds: a packet counts once all of it is there.
func TestHolds(t *testing.T) {
	connect := encode(t, &packet.Connect{Version: packet.V311, CleanStart: true, ClientID: "a"}, packet.V311)
	subscribe := encode(t, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "a/commands"}}}, packet.V311)
	for cut := range len(subscribe) + 1 {
		r := packet.NewReader(&pieces{append(bytes.Clone(connect), subscribe[:cut]...)}, 0, 1<<10)
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if got, whole := r.Holds(packet.SUBSCRIBE), cut == len(subscribe); got != whole {
			t.Errorf("%d bytes of %d: %v", cut, len(subscribe), got)
		}
		if r.Holds(packet.UNSUBSCRIBE) {
			t.Error("SUBSCRIBE was taken for UNSUBSCRIBE")
		}
	}
}

// TestRenew: nothing of what a Reader read before is left, and its first packet is
// CONNECT again.
func TestRenew(t *testing.T) {
	connect := encode(t, &packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "a"}, packet.V5)
	ping := encode(t, packet.Pingreq{}, packet.V5)
	r := packet.NewReader(&pieces{append(bytes.Clone(connect), ping...)}, 0, 1<<10)
	if _, err := r.Next(); err != nil || r.Buffered() != len(ping) {
		t.Fatalf("%d bytes buffered, %v", r.Buffered(), err)
	}
	r.Renew(&pieces{ping}, 0, 1<<10)
	if p, err := r.Next(); err == nil {
		t.Errorf("%s was read without CONNECT before it", p.Type())
	}
	r.Renew(&pieces{connect}, 0, 1<<10)
	if p, err := r.Next(); err != nil || p.Type() != packet.CONNECT || r.Version() != packet.V5 {
		t.Errorf("got %v, %v", p, err)
	}
}

func encode(t *testing.T, p packet.Packet, v packet.Version) []byte {
	t.Helper()
	b, err := p.Append(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
