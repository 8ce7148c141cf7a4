package amqp_test

import (
	"context"
	"testing"

	client "github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
)

// TestContract proves what package adapters asks, through go-amqp.
func TestContract(t *testing.T) {
	adaptertest.Check(t, adaptertest.Subject{
		Open: func(gate adapters.Gate) (adapters.Adapter, error) {
			return amqp.Open(amqp.Config{Addr: "127.0.0.1:0"}, gate)
		},
		Dial: dialContract,
	})
}

// contractPeer is go-amqp as the checker's client.
type contractPeer struct {
	conn    *client.Conn
	session *client.Session
	senders map[string]*client.Sender
	from    *client.Receiver
}

func dialContract(ctx context.Context, a adapters.Adapter, login adaptertest.Login) (adaptertest.Client, error) {
	opts := &client.ConnOptions{}
	if login.User != "" {
		opts.SASLType = client.SASLTypePlain(login.User, login.Secret)
	}
	conn, err := client.Dial(ctx, "amqp://"+addr(a), opts)
	if err != nil {
		return nil, err
	}
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &contractPeer{conn: conn, session: session, senders: map[string]*client.Sender{}}, nil
}

// Send uses a link to its own short address, and the anonymous terminus for an
// address that names a device: there a refusal concerns the message, not the link.
func (p *contractPeer) Send(ctx context.Context, to string, payload []byte) error {
	target, m := "telemetry", client.NewMessage(payload)
	if to != "" {
		target, to = "", to+"/telemetry"
		m.Properties = &client.MessageProperties{To: &to}
	}
	if p.senders[target] == nil {
		s, err := p.session.NewSender(ctx, target, nil)
		if err != nil {
			return err
		}
		p.senders[target] = s
	}
	return p.senders[target].Send(ctx, m, nil)
}

func (p *contractPeer) Receive(ctx context.Context) (adaptertest.Received, error) {
	if p.from == nil {
		r, err := p.session.NewReceiver(ctx, "commands", &client.ReceiverOptions{Credit: 1})
		if err != nil {
			return adaptertest.Received{}, err
		}
		p.from = r
	}
	m, err := p.from.Receive(ctx, nil)
	if err != nil {
		return adaptertest.Received{}, err
	}
	return adaptertest.Received{
		ID: m.Properties.MessageID.(string), Payload: m.GetData(), Repeat: m.Header != nil && m.Header.DeliveryCount > 0,
		Accept: func(ctx context.Context) error { return p.from.AcceptMessage(ctx, m) },
	}, nil
}

func (p *contractPeer) Close() { _ = p.conn.Close() }
