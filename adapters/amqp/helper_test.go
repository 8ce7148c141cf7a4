package amqp_test

import (
	"context"
	"testing"
	"time"

	client "github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/device"
)

const patience = 15 * time.Second

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// serve opens a door on a free port and closes it when the test ends.
func serve(t testing.TB, cfg amqp.Config, gate adapters.Gate) *amqp.Server {
	t.Helper()
	cfg.Addr = "127.0.0.1:0"
	s, err := amqp.Open(cfg, gate)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.Shutdown(soon(t)); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s
}

func addr(s adapters.Adapter) string { return s.Addrs()["amqp"].String() }

// dial connects go-amqp; nil options are those of an anonymous peer without SASL.
func dial(t testing.TB, s adapters.Adapter, opts *client.ConnOptions) (*client.Conn, *client.Session) {
	t.Helper()
	conn, err := client.Dial(soon(t), "amqp://"+addr(s), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	session, err := conn.NewSession(soon(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	return conn, session
}

func sender(t testing.TB, s *client.Session, to string, opts *client.SenderOptions) *client.Sender {
	t.Helper()
	l, err := s.NewSender(soon(t), to, opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func receiver(t testing.TB, s *client.Session, from string, opts *client.ReceiverOptions) *client.Receiver {
	t.Helper()
	l, err := s.NewReceiver(soon(t), from, opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func until(t testing.TB, gate *adaptertest.Gate, what string, ok func() bool) {
	t.Helper()
	if !gate.Until(patience, ok) {
		t.Fatalf("waited in vain: %s", what)
	}
}

func idOf(name string) device.ID { return device.ID{Tenant: device.DefaultTenant, Device: name} }

func command(id, dev, name, payload string) device.Command {
	now := time.Now().Truncate(time.Millisecond)
	return device.Command{ID: id, Tenant: device.DefaultTenant, Device: dev, Name: name, Payload: []byte(payload),
		ContentType: "application/json", CreatedAt: now, Deadline: now.Add(time.Hour)}
}
