package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// mqttLink is a device on MQTT 3.1.1, QoS 1 both ways.
type mqttLink struct {
	name   string
	client mqtt.Client
	lost   chan error
}

func connectMQTT(ctx context.Context, addr, name string) (link, error) {
	l := &mqttLink{name: name, lost: make(chan error, 1)}
	options := mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(name).
		SetAutoReconnect(false).SetConnectTimeout(5 * time.Second).SetOrderMatters(false).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { l.lost <- err })
	l.client = mqtt.NewClient(options)
	return l, wait(ctx, l.client.Connect())
}

func (l *mqttLink) send(ctx context.Context, payload []byte) error {
	return wait(ctx, l.client.Publish(l.name+"/telemetry/room", 1, false, payload))
}

func (l *mqttLink) serve(ctx context.Context, obey handler) error {
	subscribed := l.client.Subscribe(l.name+"/commands/#", 1, func(_ mqtt.Client, m mqtt.Message) {
		// {device}/commands/{id}/{name}
		levels := strings.SplitN(m.Topic(), "/", 4)
		if len(levels) < 3 {
			return
		}
		name := ""
		if len(levels) == 4 {
			name = levels[3]
		}
		status, answer := obey(name, m.Payload())
		l.client.Publish(fmt.Sprintf("%s/responses/%s/%d", l.name, levels[2], status), 1, false, answer)
	})
	if err := wait(ctx, subscribed); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-l.lost:
		return err
	}
}

func (l *mqttLink) close() { l.client.Disconnect(250) }

// wait turns paho's token into an error or the end of ctx.
func wait(ctx context.Context, token mqtt.Token) error {
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return errors.New("mqtt: no acknowledgement in time")
	}
}
