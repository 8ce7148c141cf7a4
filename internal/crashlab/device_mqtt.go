package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session"
	"github.com/eclipse/paho.golang/paho/session/state"
)

// mqttLink is a device on MQTT 5 with QoS 1, by Eclipse Paho. Its session ends
// with the connection: what is sent again is sent by the device.
type mqttLink struct {
	device  string
	client  *paho.Client
	session *openSession
}

// openSession is paho's session, telling who waits for the acknowledgement of
// the message added last: paho itself sends in order or waits, not both.
type openSession struct {
	*state.State
	ack chan packets.ControlPacket
}

// AddToSession implements session.SessionManager.
func (s *openSession) AddToSession(ctx context.Context, p session.Packet, resp chan<- packets.ControlPacket) error {
	if p.Type() != packets.PUBLISH {
		return s.State.AddToSession(ctx, p, resp)
	}
	s.ack = make(chan packets.ControlPacket, 1)
	return s.State.AddToSession(ctx, p, s.ack)
}

func connectMQTT(ctx context.Context, addr, device string) (link, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	l := &mqttLink{device: device, session: &openSession{State: state.NewInMemory()}}
	l.client = paho.NewClient(paho.ClientConfig{ClientID: device, Conn: packets.NewThreadSafeConn(conn), Session: l.session, PacketTimeout: ackPatience})
	answer, err := l.client.Connect(ctx, &paho.Connect{ClientID: device, CleanStart: true, KeepAlive: 30})
	if err == nil && answer.ReasonCode != 0 {
		err = fmt.Errorf("CONNACK with %#x", answer.ReasonCode)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return l, nil
}

func (l *mqttLink) send(ctx context.Context, m *message, done func(error)) error {
	publish := &paho.Publish{Topic: l.device + "/telemetry/room", QoS: 1, Payload: payload(m.n), Properties: &paho.PublishProperties{ContentType: "application/json"}}
	if key := m.key(l.device); key != "" {
		publish.Properties.User.Add("message-id", key)
	}
	if _, err := l.client.PublishWithOptions(ctx, publish, paho.PublishOptions{Method: paho.PublishMethod_AsyncSend}); err != nil {
		return err
	}
	ack := l.session.ack
	go func() { done(acknowledged(ctx, ack)) }()
	return nil
}

func acknowledged(ctx context.Context, ack <-chan packets.ControlPacket) error {
	select {
	case p := <-ack:
		puback, ok := p.Content.(*packets.Puback)
		switch {
		case !ok:
			return errors.New("the connection ended without a PUBACK")
		case puback.ReasonCode >= 0x80:
			return fmt.Errorf("PUBACK with %#x", puback.ReasonCode)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *mqttLink) close() {
	_ = l.client.Disconnect(&paho.Disconnect{})
	select {
	case <-l.client.Done():
	case <-time.After(dialTimeout):
	}
	_ = l.session.Close()
}
