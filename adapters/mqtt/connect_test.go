package mqtt_test

import (
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

func TestCapabilities(t *testing.T) {
	p := dial(t, serve(t, mqtt.Config{Window: 77, MaxKeepAlive: time.Minute}, &adaptertest.Gate{}), packet.V5)
	c := &packet.Connect{Version: packet.V5, KeepAlive: 3600}
	c.Properties.AddNumber(packet.SessionExpiry, 1000) // nothing keeps sessions here
	p.send(c)
	ack := want[*packet.Connack](p)
	for id, want := range map[packet.PropertyID]uint32{
		packet.SessionExpiry: 0, packet.ReceiveMaximum: 77, packet.RetainAvailable: 0,
		packet.MaximumPacketSize: 1<<20 + 96<<10, packet.TopicAliasMaximum: 32,
		packet.SharedSubAvailable: 0, packet.ServerKeepAlive: 60,
	} {
		if got, ok := ack.Properties.Number(id); !ok || got != want {
			t.Errorf("property 0x%02X is %d, %v; want %d", byte(id), got, ok, want)
		}
	}
	if id, _ := ack.Properties.Text(packet.AssignedClientID); len(id) < 20 {
		t.Errorf("assigned client id %q", id)
	}
	if ack.SessionPresent || ack.Reason != packet.Success {
		t.Errorf("%+v", ack)
	}
}

// TestConnectRefused: the reason of MQTT 5, the return code of 3.1.1.
func TestConnectRefused(t *testing.T) {
	secrets := map[device.ID]string{id1: "right"}
	closed := &adaptertest.Gate{RefuseAnonymous: true, Secrets: secrets}
	down := &adaptertest.Gate{AuthErr: device.Errorf(device.Unavailable, "down")}
	busy := &adaptertest.Gate{AuthErr: device.Errorf(device.Busy, "full")}
	forbidden := &adaptertest.Gate{AuthErr: device.Errorf(device.Forbidden, "no")}
	for _, c := range []struct {
		name    string
		gate    *adaptertest.Gate
		connect packet.Connect
		reason  packet.Reason
		v311    packet.Reason
	}{
		{"anonymous", closed, packet.Connect{ClientID: "c"}, packet.NotAuthorized, packet.V311NotAuthorized},
		{"wrong secret", closed, packet.Connect{HasUser: true, User: "dev1", HasPassword: true, Password: []byte("wrong")},
			packet.BadUserNameOrPassword, packet.V311BadUserOrPassword},
		{"unknown device", closed, packet.Connect{HasUser: true, User: "dev9", HasPassword: true, Password: []byte("right")},
			packet.BadUserNameOrPassword, packet.V311BadUserOrPassword},
		{"no secret", closed, packet.Connect{HasUser: true, User: "dev1"}, packet.BadUserNameOrPassword, packet.V311BadUserOrPassword},
		{"house is down", down, packet.Connect{}, packet.ServerUnavailable, packet.V311ServerUnavailable},
		{"house is busy", busy, packet.Connect{}, packet.ServerBusy, packet.V311ServerUnavailable},
		{"forbidden", forbidden, packet.Connect{HasUser: true, User: "dev1"}, packet.NotAuthorized, packet.V311NotAuthorized},
		{"long client id", &adaptertest.Gate{}, packet.Connect{ClientID: strings.Repeat("x", 257)}, packet.ClientIDNotValid, packet.V311IdentifierRejected},
		{"will", &adaptertest.Gate{}, packet.Connect{Will: &packet.Will{Topic: "t"}}, packet.ImplementationSpecific, packet.V311NotAuthorized},
		{"retained will", &adaptertest.Gate{}, packet.Connect{Will: &packet.Will{Topic: "t", Retain: true}}, packet.ImplementationSpecific, packet.V311NotAuthorized},
		{"will of QoS 2", &adaptertest.Gate{}, packet.Connect{Will: &packet.Will{Topic: "t", QoS: 2}}, packet.ImplementationSpecific, packet.V311NotAuthorized},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, v packet.Version) {
				p := dial(t, serve(t, mqtt.Config{}, c.gate), v)
				connect := c.connect
				connect.Version, connect.CleanStart = v, true
				p.send(&connect, publish(1, "telemetry", "too early"))
				reason := c.reason
				if v < packet.V5 {
					reason = c.v311
				}
				if got := want[*packet.Connack](p); got.Reason != reason {
					t.Errorf("CONNACK %v, want %v", got.Reason, reason)
				}
				p.wantClosed()
				if len(c.gate.Stored()) != 0 {
					t.Error("a message of a refused client was stored")
				}
			})
		})
	}
}

func TestConnectRefusedOneVersion(t *testing.T) {
	s := serve(t, mqtt.Config{}, &adaptertest.Gate{})
	p := dial(t, s, packet.V311)
	p.send(&packet.Connect{Version: packet.V311})
	if got := want[*packet.Connack](p); got.Reason != packet.V311IdentifierRejected {
		t.Errorf("empty client id without clean session: %v", got.Reason)
	}
	q := dial(t, s, packet.V5)
	c := &packet.Connect{Version: packet.V5}
	c.Properties.AddText(packet.AuthMethod, "SCRAM")
	q.send(c)
	if got := want[*packet.Connack](q); got.Reason != packet.BadAuthenticationMethod {
		t.Errorf("extended authentication: %v", got.Reason)
	}
}

func TestAcceptsRightSecret(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		gate := &adaptertest.Gate{RefuseAnonymous: true, Secrets: map[device.ID]string{{Tenant: "acme", Device: "dev1"}: "s"}}
		p := dial(t, serve(t, mqtt.Config{}, gate), v)
		p.send(&packet.Connect{Version: v, CleanStart: true, HasUser: true, User: "dev1@acme", HasPassword: true, Password: []byte("s")})
		want[*packet.Connack](p)
		p.send(publish(1, "telemetry", "1"))
		p.wantAck(1, packet.Success)
		if m := gate.Stored()[0]; m.Tenant != "acme" || m.Device != "dev1" {
			t.Errorf("%+v", m)
		}
	})
}

// TestFirstPacket: whatever comes first instead of a sound CONNECT, the
// connection closes and the house hears nothing.
func TestFirstPacket(t *testing.T) {
	gate := &adaptertest.Gate{}
	gate.OnSubmit = func(*device.Message, func(error)) error { t.Error("submitted before CONNECT"); return nil }
	s := serve(t, mqtt.Config{}, gate)
	first := map[string]string{
		"garbage": "474554202f20485454502f312e310d0a0d0a", "CONNACK": "20020000", "PUBLISH": "300b000974656c656d65747279",
		"PUBACK": "40020001", "PUBREC": "50020001", "PUBREL": "62020001", "PUBCOMP": "70020001",
		"SUBSCRIBE": "82060001000161" + "00", "SUBACK": "9003000100", "UNSUBSCRIBE": "a2050001000161", "UNSUBACK": "b0020001",
		"PINGREQ": "c000", "PINGRESP": "d000", "DISCONNECT": "e000", "AUTH": "f000", "type 0": "0000",
		"CONNECT too long": "10ffffff7f", "CONNECT cut": "100400044d51", "3.1.1 flags": "100c00044d515454040300000000",
	}
	for name, text := range first {
		t.Run(name, func(t *testing.T) {
			b, err := hex.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			p := dial(t, s, packet.V311)
			p.raw(b...)
			p.wantClosed()
		})
	}
}

func TestOtherVersionsAreTold(t *testing.T) {
	s := serve(t, mqtt.Config{}, &adaptertest.Gate{})
	p := dial(t, s, packet.V311) // MQTT 3.1
	p.raw(0x10, 0x0e, 0, 6, 'M', 'Q', 'I', 's', 'd', 'p', 3, 2, 0, 60, 0, 0)
	if got := want[*packet.Connack](p); got.Reason != packet.V311UnacceptableVersion {
		t.Errorf("3.1: %v", got.Reason)
	}
	p.wantClosed()
	q := dial(t, s, packet.V5) // level 6
	q.raw(0x10, 0x0c, 0, 4, 'M', 'Q', 'T', 'T', 6, 2, 0, 60, 0, 0)
	if got := want[*packet.Connack](q); got.Reason != packet.UnsupportedVersion {
		t.Errorf("level 6: %v", got.Reason)
	}
	q.wantClosed()
	m := dial(t, s, packet.V5) // malformed, but surely MQTT 5
	m.raw(0x10, 0x0c, 0, 4, 'M', 'Q', 'T', 'T', 5, 3, 0, 60, 0, 0)
	if got := want[*packet.Connack](m); got.Reason != packet.MalformedPacket {
		t.Errorf("malformed: %v", got.Reason)
	}
	m.wantClosed()
}

func TestNoConnectInTime(t *testing.T) {
	p := dial(t, serve(t, mqtt.Config{ConnectTimeout: 30 * time.Millisecond}, &adaptertest.Gate{}), packet.V311)
	p.raw(0x10)
	p.wantClosed()
}

// TestAfterConnect: what a client must not send, in its own words.
func TestAfterConnect(t *testing.T) {
	raised := &packet.Disconnect{Reason: packet.NormalDisconnection}
	raised.Properties.AddNumber(packet.SessionExpiry, 10)
	for _, x := range []packet.Packet{
		&packet.Connect{Version: packet.V5}, &packet.Connack{}, &packet.Suback{ID: 1, Reasons: []packet.Reason{0}},
		&packet.Unsuback{ID: 1, Reasons: []packet.Reason{0}}, packet.Pingresp{}, &packet.Auth{},
		raised,
	} {
		p := join(t, serve(t, mqtt.Config{}, &adaptertest.Gate{}), packet.V5, "dev1")
		p.send(x)
		p.wantEnd(packet.ProtocolError)
	}
	p := join(t, serve(t, mqtt.Config{}, &adaptertest.Gate{}), packet.V5, "dev1")
	p.send(&packet.Ack{Kind: packet.PUBREL, ID: 5})
	if got := want[*packet.Ack](p); got.Kind != packet.PUBCOMP || got.Reason != packet.PacketIDNotFound {
		t.Errorf("%+v", got)
	}
	p.send(&packet.Ack{Kind: packet.PUBCOMP, ID: 5}, &packet.Ack{Kind: packet.PUBREC, ID: 6})
	if got := want[*packet.Ack](p); got.Kind != packet.PUBREL || got.ID != 6 || got.Reason != packet.PacketIDNotFound {
		t.Errorf("%+v", got)
	}
	p.raw(0x36, 0)
	p.wantEnd(packet.MalformedPacket)
}

func TestPacketTooLarge(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		gate := &adaptertest.Gate{}
		p := join(t, serve(t, mqtt.Config{MaxMessageBytes: 1000}, gate), v, "dev1")
		p.raw(0x32, 0xff, 0xff, 0xff, 0x7f)
		p.wantEnd(packet.PacketTooLarge)
		if r := gate.Refusals(); len(r) != 1 || device.CodeOf(r[0].Err) != device.TooLarge {
			t.Errorf("trail %+v", r)
		}
	})
}

// TestReasonStrings: in words where the client wants them and can take them.
func TestReasonStrings(t *testing.T) {
	for _, c := range []struct {
		name   string
		id     packet.PropertyID
		number uint32
		words  bool
	}{{"wanted", packet.RequestProblemInfo, 1, true}, {"not wanted", packet.RequestProblemInfo, 0, false}, {"too large", packet.MaximumPacketSize, 150, false}} {
		p := dial(t, serve(t, mqtt.Config{}, &adaptertest.Gate{}), packet.V5)
		connect := &packet.Connect{Version: packet.V5, ClientID: "dev1"}
		connect.Properties.AddNumber(c.id, c.number)
		p.send(connect)
		want[*packet.Connack](p)
		topic := strings.Repeat("x", 200)
		p.send(publish(1, topic, ""))
		ack := want[*packet.Ack](p)
		text, _ := ack.Properties.Text(packet.ReasonString)
		if ack.Reason != packet.TopicNameInvalid || strings.Contains(text, "use {device}/telemetry") != c.words || strings.Contains(text, topic) {
			t.Errorf("%s: %v %q", c.name, ack.Reason, text)
		}
		p.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: topic}}})
		sub := want[*packet.Suback](p)
		if _, words := sub.Properties.Text(packet.ReasonString); sub.Reasons[0] != packet.TopicFilterInvalid || words != c.words {
			t.Errorf("%s: SUBACK %+v", c.name, sub)
		}
	}
}

func TestNoRoomForConnack(t *testing.T) {
	p := dial(t, serve(t, mqtt.Config{}, &adaptertest.Gate{}), packet.V5)
	connect := &packet.Connect{Version: packet.V5, ClientID: "dev1"}
	connect.Properties.AddNumber(packet.MaximumPacketSize, 10)
	p.send(connect)
	p.wantEnd(packet.PacketTooLarge) // of three bytes, so it may be sent
}

// TestPingKeepsAlive: a client that pings in time stays, whatever it lacks to say.
func TestPingKeepsAlive(t *testing.T) {
	p := dial(t, serve(t, mqtt.Config{}, &adaptertest.Gate{}), packet.V311)
	p.send(&packet.Connect{Version: packet.V311, CleanStart: true, KeepAlive: 1})
	want[*packet.Connack](p)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for range 5 { // well past one and a half intervals
		<-tick.C
		p.wantSilence()
	}
}

// TestConnectionLimit: one above it is closed, and there is room again when
// somebody leaves.
func TestConnectionLimit(t *testing.T) {
	s := serve(t, mqtt.Config{MaxConnections: 1}, &adaptertest.Gate{})
	first := join(t, s, packet.V5, "dev1")
	conn, err := net.Dial("tcp", addr(s))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection above the limit: %v", err)
	}
	first.conn.Close()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if reached(s) == nil {
			return
		}
		if time.Since(began) > patience {
			t.Fatal("there is no room after the first has left")
		}
	}
}

// reached connects, and is answered.
func reached(s *mqtt.Server) error {
	conn, err := net.Dial("tcp", addr(s))
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01x")); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 4))
	return err
}
