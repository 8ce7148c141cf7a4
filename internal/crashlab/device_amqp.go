package main

import (
	"context"
	"fmt"

	"github.com/Azure/go-amqp"
)

// amqpLink is a device on AMQP 1.0, by Microsoft's client.
type amqpLink struct {
	device string
	conn   *amqp.Conn
	sender *amqp.Sender
}

func connectAMQP(ctx context.Context, addr, device string) (link, error) {
	conn, err := amqp.Dial(ctx, "amqp://"+addr, &amqp.ConnOptions{ContainerID: device, SASLType: amqp.SASLTypeAnonymous()})
	if err != nil {
		return nil, err
	}
	l := &amqpLink{device: device, conn: conn}
	session, err := conn.NewSession(ctx, nil)
	if err == nil {
		l.sender, err = session.NewSender(ctx, device+"/telemetry/room", nil)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return l, nil
}

func (l *amqpLink) send(ctx context.Context, m *message, done func(error)) error {
	contentType := "application/json"
	body := amqp.NewMessage(payload(m.n))
	body.Properties = &amqp.MessageProperties{ContentType: &contentType}
	if key := m.key(l.device); key != "" {
		body.Properties.MessageID = key
	}
	receipt, err := l.sender.SendWithReceipt(ctx, body, nil)
	if err != nil {
		return err
	}
	go func() {
		state, err := receipt.Wait(ctx)
		if _, accepted := state.(*amqp.StateAccepted); err == nil && !accepted {
			err = fmt.Errorf("disposition %T", state)
		}
		done(err)
	}()
	return nil
}

func (l *amqpLink) close() { l.conn.Close() }
