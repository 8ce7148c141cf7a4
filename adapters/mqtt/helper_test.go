package mqtt_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

var _ adapters.Adapter = (*mqtt.Server)(nil)

const patience = 10 * time.Second

// both runs a test for each version of the protocol.
func both(t *testing.T, f func(t *testing.T, v packet.Version)) {
	t.Run("3.1.1", func(t *testing.T) { f(t, packet.V311) })
	t.Run("5", func(t *testing.T) { f(t, packet.V5) })
}

// serve opens a door on a free port and closes it when the test ends. Unless told
// otherwise it parks connections all the time.
func serve(t testing.TB, cfg mqtt.Config, gate adapters.Gate) *mqtt.Server {
	t.Helper()
	cfg.Addr = "127.0.0.1:0"
	if cfg.ParkAfter == 0 {
		cfg.ParkAfter = time.Millisecond
	}
	s, err := mqtt.Open(cfg, gate)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s
}

func addr(s *mqtt.Server) string { return s.Addrs()["mqtt"].String() }

// wire is a client made of the codec alone: it does exactly what it is told.
type wire struct {
	t    testing.TB
	conn net.Conn
	r    *packet.Reader
	v    packet.Version
}

func dial(t testing.TB, s *mqtt.Server, v packet.Version) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", addr(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &wire{t: t, conn: conn, r: packet.NewReader(conn, v, packet.MaxPacketBytes), v: v}
}

// join connects anonymously with a client id and expects to be let in.
func join(t testing.TB, s *mqtt.Server, v packet.Version, client string) *wire {
	t.Helper()
	p := dial(t, s, v)
	p.send(&packet.Connect{Version: v, CleanStart: true, ClientID: client, KeepAlive: 60})
	if ack := want[*packet.Connack](p); ack.Reason != packet.Success || ack.SessionPresent {
		t.Fatalf("CONNACK %+v", ack)
	}
	return p
}

func (p *wire) raw(b ...byte) {
	p.t.Helper()
	_ = p.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *wire) send(packets ...packet.Packet) {
	p.t.Helper()
	var b []byte
	for _, x := range packets {
		var err error
		if b, err = x.Append(b, p.v); err != nil {
			p.t.Fatal(err)
		}
	}
	p.raw(b...)
}

// next reads one packet; an acknowledgement is copied out of the buffer.
func (p *wire) next() (packet.Packet, error) {
	_ = p.conn.SetReadDeadline(time.Now().Add(patience))
	x, err := p.r.Next()
	switch x := x.(type) {
	case *packet.Ack:
		c := *x
		c.Properties = append(packet.Properties(nil), x.Properties...)
		return &c, err
	case *packet.Publish:
		c := *x
		c.Topic, c.Payload = append([]byte(nil), x.Topic...), append([]byte(nil), x.Payload...)
		c.Properties = append(packet.Properties(nil), x.Properties...)
		return &c, err
	}
	return x, err
}

// want reads one packet, which must be of type P.
func want[P packet.Packet](p *wire) P {
	p.t.Helper()
	x, err := p.next()
	if err != nil {
		p.t.Fatalf("expected a packet: %v", err)
	}
	got, ok := x.(P)
	if !ok {
		p.t.Fatalf("got %T %+v", x, x)
	}
	return got
}

func (p *wire) wantAck(id uint16, reason packet.Reason) {
	p.t.Helper()
	if a := want[*packet.Ack](p); a.Kind != packet.PUBACK || a.ID != id || a.Reason != reason {
		p.t.Fatalf("got %v of %d with %v, want PUBACK of %d with %v", a.Kind, a.ID, a.Reason, id, reason)
	}
}

// wantEnd expects the connection to end: with a DISCONNECT on MQTT 5, with
// nothing on 3.1.1.
func (p *wire) wantEnd(reason packet.Reason) {
	p.t.Helper()
	if p.v >= packet.V5 {
		if d := want[*packet.Disconnect](p); d.Reason != reason {
			p.t.Fatalf("DISCONNECT %v, want %v", d.Reason, reason)
		}
	}
	p.wantClosed()
}

func (p *wire) wantClosed() {
	p.t.Helper()
	x, err := p.next()
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		p.t.Fatalf("connection is still open: %+v, %v", x, err)
	}
}

// wantSilence proves, by a PINGREQ whose answer comes first, that nothing else
// is on its way.
func (p *wire) wantSilence() {
	p.t.Helper()
	p.send(packet.Pingreq{})
	want[packet.Pingresp](p)
}

func (p *wire) subscribe(filter string, qos byte) packet.Reason {
	p.t.Helper()
	p.send(&packet.Subscribe{ID: 900, Filters: []packet.Filter{{Topic: filter, QoS: qos}}})
	ack := want[*packet.Suback](p)
	if ack.ID != 900 || len(ack.Reasons) != 1 {
		p.t.Fatalf("SUBACK %+v", ack)
	}
	return ack.Reasons[0]
}

func publish(id uint16, topic, payload string) *packet.Publish {
	p := &packet.Publish{ID: id, Topic: []byte(topic), Payload: []byte(payload)}
	if id > 0 {
		p.QoS = 1
	}
	return p
}

func until(t testing.TB, g *adaptertest.Gate, what string, ok func() bool) {
	t.Helper()
	if !g.Until(patience, ok) {
		t.Fatalf("never happened: %s", what)
	}
}

// poll is until for what changes without the gate.
func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("never happened: %s", what)
		}
	}
}

// holder keeps the done of every submitted message until the test decides.
type holder struct {
	gate *adaptertest.Gate
	ch   chan held
}

type held struct {
	m    *device.Message
	done func(error)
}

func hold(g *adaptertest.Gate) *holder {
	h := &holder{gate: g, ch: make(chan held, 10_000)}
	g.OnSubmit = func(m *device.Message, done func(error)) error {
		h.ch <- held{m, done}
		return nil
	}
	return h
}

func (h *holder) next(t testing.TB) held {
	t.Helper()
	select {
	case m := <-h.ch:
		return m
	case <-time.After(patience):
		t.Fatal("no message was submitted")
		return held{}
	}
}

var id1 = device.ID{Tenant: "default", Device: "dev1"}
