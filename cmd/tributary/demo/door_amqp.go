package demo

import (
	"context"
	"fmt"

	"github.com/Azure/go-amqp"
)

// amqpLink is a device on AMQP 1.0: one sender for readings, one receiver for
// commands, one sender for answers.
type amqpLink struct {
	name    string
	conn    *amqp.Conn
	session *amqp.Session
	sender  *amqp.Sender
}

func connectAMQP(ctx context.Context, addr, name string) (link, error) {
	conn, err := amqp.Dial(ctx, "amqp://"+addr, &amqp.ConnOptions{ContainerID: name, SASLType: amqp.SASLTypeAnonymous()})
	if err != nil {
		return nil, err
	}
	l := &amqpLink{name: name, conn: conn}
	if l.session, err = conn.NewSession(ctx, nil); err == nil {
		l.sender, err = l.session.NewSender(ctx, name+"/telemetry/room", nil)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return l, nil
}

func (l *amqpLink) send(ctx context.Context, payload []byte) error {
	message := amqp.NewMessage(payload)
	contentType := "application/json"
	message.Properties = &amqp.MessageProperties{ContentType: &contentType}
	return l.sender.Send(ctx, message, nil)
}

func (l *amqpLink) serve(ctx context.Context, obey handler) error {
	receiver, err := l.session.NewReceiver(ctx, l.name+"/commands", &amqp.ReceiverOptions{Credit: 8})
	if err != nil {
		return err
	}
	answers := map[string]*amqp.Sender{}
	for {
		m, err := receiver.Receive(ctx, nil)
		if err != nil {
			return err
		}
		if err := receiver.AcceptMessage(ctx, m); err != nil {
			return err
		}
		if m.Properties == nil || m.Properties.ReplyTo == nil {
			continue
		}
		name := ""
		if m.Properties.Subject != nil {
			name = *m.Properties.Subject
		}
		status, answer := obey(name, m.GetData())
		if err := l.answer(ctx, answers, m.Properties, status, answer); err != nil {
			return err
		}
	}
}

// answer sends to the command's reply-to, on a sender kept for that address.
func (l *amqpLink) answer(ctx context.Context, senders map[string]*amqp.Sender, to *amqp.MessageProperties, status int, body []byte) error {
	sender := senders[*to.ReplyTo]
	if sender == nil {
		var err error
		if sender, err = l.session.NewSender(ctx, *to.ReplyTo, nil); err != nil {
			return fmt.Errorf("reply-to %s: %w", *to.ReplyTo, err)
		}
		senders[*to.ReplyTo] = sender
	}
	m := amqp.NewMessage(body)
	m.Properties = &amqp.MessageProperties{CorrelationID: to.MessageID}
	m.ApplicationProperties = map[string]any{"status": int32(status)}
	return sender.Send(ctx, m, nil)
}

func (l *amqpLink) close() { l.conn.Close() }
