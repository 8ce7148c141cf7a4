package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// mqtt5Conn is an MQTT 5 client that acknowledges only when the test says so.
type mqtt5Conn struct {
	net.Conn
	in chan *packets.ControlPacket // closed when the connection ends
}

func tryMQTT5(s *server, client string) (*mqtt5Conn, error) { return knockMQTT5(s, client, "") }

// knockMQTT5 shows a secret, unless it is empty.
func knockMQTT5(s *server, client, secret string) (*mqtt5Conn, error) {
	conn, err := net.Dial("tcp", s.addresses["mqtt"])
	if err != nil {
		return nil, err
	}
	connect := &packets.Connect{ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: client, CleanStart: true, KeepAlive: 60}
	if secret != "" {
		connect.UsernameFlag, connect.Username, connect.PasswordFlag, connect.Password = true, client, true, []byte(secret)
	}
	if _, err := connect.WriteTo(conn); err != nil {
		return nil, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	answer, err := packets.ReadPacket(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	if ack, ok := answer.Content.(*packets.Connack); !ok || ack.ReasonCode != 0 {
		conn.Close()
		return nil, fmt.Errorf("refused: %v", answer.Content)
	}
	c := &mqtt5Conn{Conn: conn, in: make(chan *packets.ControlPacket, 64)}
	_ = conn.SetReadDeadline(time.Now().Add(3 * patience))
	go func() {
		defer close(c.in)
		for {
			p, err := packets.ReadPacket(conn)
			if err != nil {
				return
			}
			c.in <- p
		}
	}()
	return c, nil
}

func dialMQTT5(t *testing.T, s *server, client string) *mqtt5Conn {
	t.Helper()
	c, err := tryMQTT5(s, client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// await answers the first packet that is wanted; nil when the connection ended.
func (c *mqtt5Conn) await(t *testing.T, wanted func(*packets.ControlPacket) bool) *packets.ControlPacket {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case p, open := <-c.in:
			if !open {
				return nil
			}
			if wanted(p) {
				return p
			}
		case <-timeout:
			t.Fatal("the packet waited for did not come")
		}
	}
}

func (c *mqtt5Conn) subscribe(t *testing.T, filter string) {
	t.Helper()
	s := &packets.Subscribe{PacketID: 1, Subscriptions: []packets.SubOptions{{Topic: filter, QoS: 1}}}
	if _, err := s.WriteTo(c); err != nil {
		t.Fatal(err)
	}
	p := c.await(t, func(p *packets.ControlPacket) bool { return p.Type == packets.SUBACK })
	if p == nil || p.Content.(*packets.Suback).Reasons[0] != 1 {
		t.Fatalf("subscription refused: %v", p)
	}
}

// receive waits for a command and answers its packet id.
func (c *mqtt5Conn) receive(t *testing.T, command string) uint16 {
	t.Helper()
	p := c.await(t, func(p *packets.ControlPacket) bool {
		return p.Type == packets.PUBLISH && strings.Contains(p.Content.(*packets.Publish).Topic, command)
	})
	if p == nil {
		t.Fatal("the connection ended before the command came")
	}
	return p.Content.(*packets.Publish).PacketID
}

func (c *mqtt5Conn) ack(t *testing.T, id uint16) {
	t.Helper()
	if _, err := (&packets.Puback{PacketID: id}).WriteTo(c); err != nil {
		t.Fatal(err)
	}
}

func (c *mqtt5Conn) accept(t *testing.T, command string) { t.Helper(); c.ack(t, c.receive(t, command)) }

// disconnected waits for the end and answers the reason of DISCONNECT; 0 when
// none came.
func (c *mqtt5Conn) disconnected(t *testing.T) byte {
	t.Helper()
	p := c.await(t, func(p *packets.ControlPacket) bool { return p.Type == packets.DISCONNECT })
	if p == nil {
		return 0
	}
	return p.Content.(*packets.Disconnect).ReasonCode
}

// receivesFirst takes a command that comes to one of the two connections, and
// reports whether it was the other.
func (c *mqtt5Conn) receivesFirst(t *testing.T, other *mqtt5Conn, command string) bool {
	t.Helper()
	timeout := time.After(patience)
	for {
		var p *packets.ControlPacket
		to := c
		select {
		case p = <-c.in:
		case p = <-other.in:
			to = other
		case <-timeout:
			t.Fatal("the command came to neither")
		}
		if p == nil {
			t.Fatal("a connection ended")
		}
		if m, ok := p.Content.(*packets.Publish); ok && strings.Contains(m.Topic, command) {
			to.ack(t, m.PacketID)
			return to == other
		}
	}
}
