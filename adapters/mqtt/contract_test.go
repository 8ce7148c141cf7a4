package mqtt_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	paho311 "github.com/eclipse/paho.mqtt.golang"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
)

// TestContract proves what package adapters asks, through the Eclipse clients.
func TestContract(t *testing.T) {
	for name, parkAfter := range map[string]time.Duration{"": -1, ", parked": time.Millisecond} {
		open := func(gate adapters.Gate) (adapters.Adapter, error) {
			return mqtt.Open(mqtt.Config{Addr: "127.0.0.1:0", ParkAfter: parkAfter}, gate)
		}
		t.Run("3.1.1"+name, func(t *testing.T) { adaptertest.Check(t, adaptertest.Subject{Open: open, Dial: dialPaho311}) })
		t.Run("5"+name, func(t *testing.T) { adaptertest.Check(t, adaptertest.Subject{Open: open, Dial: dialPaho5}) })
	}
}

var clientNumber atomic.Int64

func clientID() string { return fmt.Sprintf("client-%d", clientNumber.Add(1)) }

func telemetryTopic(to string) string {
	if to == "" {
		return "telemetry"
	}
	return to + "/telemetry"
}

// paho5 is the Eclipse MQTT 5 client.
type paho5 struct {
	client   *paho.Client
	conn     net.Conn
	commands chan *paho.Publish
}

func dialPaho5(ctx context.Context, a adapters.Adapter, login adaptertest.Login) (adaptertest.Client, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.Addrs()["mqtt"].String())
	if err != nil {
		return nil, err
	}
	c := &paho5{conn: conn, commands: make(chan *paho.Publish, 100)}
	c.client = paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn), PacketTimeout: time.Minute, EnableManualAcknowledgment: true, SendAcksInterval: time.Millisecond,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			c.commands <- p.Packet
			return true, nil
		}},
	})
	_, err = c.client.Connect(ctx, &paho.Connect{
		ClientID: clientID(), CleanStart: true, KeepAlive: 30,
		UsernameFlag: login.User != "", Username: login.User, PasswordFlag: login.Secret != "", Password: []byte(login.Secret),
	})
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *paho5) Send(ctx context.Context, to string, payload []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // Publish goes on waiting when the connection is lost; an ack that came just before counts
		select {
		case <-c.client.Done():
			time.AfterFunc(100*time.Millisecond, cancel)
		case <-ctx.Done():
		}
	}()
	_, err := c.client.Publish(ctx, &paho.Publish{Topic: telemetryTopic(to), QoS: 1, Payload: payload})
	return err
}

func (c *paho5) Receive(ctx context.Context) (adaptertest.Received, error) {
	if _, err := c.client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "commands/#", QoS: 1}}}); err != nil {
		return adaptertest.Received{}, err
	}
	select {
	case p := <-c.commands:
		return adaptertest.Received{
			ID: string(p.Properties.CorrelationData), Payload: p.Payload, Repeat: p.Duplicate(),
			Accept: func(context.Context) error { return c.client.Ack(p) },
		}, nil
	case <-ctx.Done():
		return adaptertest.Received{}, ctx.Err()
	}
}

func (c *paho5) Close() { _ = c.conn.Close() }

// paho3 is the Eclipse MQTT 3.1.1 client.
type paho3 struct {
	client   paho311.Client
	commands chan paho311.Message
}

func dialPaho311(ctx context.Context, a adapters.Adapter, login adaptertest.Login) (adaptertest.Client, error) {
	options := paho311.NewClientOptions().AddBroker("tcp://" + a.Addrs()["mqtt"].String()).SetClientID(clientID()).
		SetProtocolVersion(4).SetUsername(login.User).SetPassword(login.Secret).SetAutoReconnect(false).SetAutoAckDisabled(true)
	c := &paho3{client: paho311.NewClient(options), commands: make(chan paho311.Message, 100)}
	return c, wait(ctx, c.client.Connect())
}

func wait(ctx context.Context, token paho311.Token) error {
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *paho3) Send(ctx context.Context, to string, payload []byte) error {
	return wait(ctx, c.client.Publish(telemetryTopic(to), 1, false, payload))
}

func (c *paho3) Receive(ctx context.Context) (adaptertest.Received, error) {
	token := c.client.Subscribe("commands/#", 1, func(_ paho311.Client, m paho311.Message) { c.commands <- m })
	if err := wait(ctx, token); err != nil {
		return adaptertest.Received{}, err
	}
	select {
	case m := <-c.commands:
		return adaptertest.Received{
			ID: strings.Split(m.Topic(), "/")[1], Payload: m.Payload(), Repeat: m.Duplicate(),
			Accept: func(context.Context) error { m.Ack(); return nil },
		}, nil
	case <-ctx.Done():
		return adaptertest.Received{}, ctx.Err()
	}
}

func (c *paho3) Close() { c.client.Disconnect(0) }
