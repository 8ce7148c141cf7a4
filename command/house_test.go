package command_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/device"
)

var dev = device.ID{Tenant: "default", Device: "dev1"}

// open starts a service on the belt; it is shut down with the test, or before.
func open(t *testing.T, b *belt, change ...func(*command.Config)) *command.Service {
	t.Helper()
	cfg := command.Config{
		Node: "node-1", Stored: b.store.stored, PurgeStep: 1,
		Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, c := range change {
		c(&cfg)
	}
	s, err := command.New(cfg, b.log, b.mailbox, b.leases, b.store)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, s) })
	return s
}

func shut(t *testing.T, s *command.Service) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// door is a session as an adapter has it.
type door struct {
	t    *testing.T
	at   adapters.Attachment
	got  chan device.Delivery
	lost chan struct{}
}

func attach(t *testing.T, s *command.Service, p device.Protocol, credit int) *door {
	t.Helper()
	return attachAs(t, s, device.Session{Device: dev, Protocol: p}, credit)
}

func attachAs(t *testing.T, s *command.Service, who device.Session, credit int) *door {
	t.Helper()
	d := &door{t: t, got: make(chan device.Delivery, 1000), lost: make(chan struct{})}
	at, err := s.Attach(t.Context(), who,
		func(v device.Delivery) { d.got <- v }, func() { close(d.lost) })
	if err != nil {
		t.Fatal(err)
	}
	d.at = at
	at.Request(credit)
	return d
}

func (d *door) next() device.Delivery {
	d.t.Helper()
	select {
	case v := <-d.got:
		return v
	case <-time.After(time.Minute):
		d.t.Fatal("nothing was offered within a minute")
		panic("unreachable")
	}
}

func (d *door) settle(v device.Delivery, k device.OutcomeKind) error {
	done := make(chan error, 1)
	d.at.Settle(v.Command.ID, v.Attempt, device.Outcome{Kind: k}, func(err error) { done <- err })
	return <-done
}

func (d *door) must(v device.Delivery, k device.OutcomeKind) {
	d.t.Helper()
	if err := d.settle(v, k); err != nil {
		d.t.Fatalf("settle: %v", err)
	}
}

func respond(s *command.Service, id string, status int, body string) error {
	done := make(chan error, 1)
	s.Respond(device.Response{Device: dev, Command: id, Status: status, Payload: []byte(body), Protocol: device.MQTT},
		func(err error) { done <- err })
	return <-done
}

func send(t *testing.T, s *command.Service, c device.Command) device.Command {
	t.Helper()
	c.Tenant, c.Device = dev.Tenant, dev.Device
	if c.Name == "" {
		c.Name = "heat"
	}
	r, err := s.Send(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Last().State; got != device.StateQueued {
		t.Fatalf("a sent command is %s", got)
	}
	return r.Command
}

// states is the trail of a command: "QUEUED SENT DELIVERED".
func states(t *testing.T, s *command.Service, id string) string {
	t.Helper()
	r, err := s.Get(t.Context(), device.ID{Tenant: dev.Tenant}, id)
	if err != nil {
		t.Fatal(err)
	}
	return trail(r)
}

func trail(r device.CommandRecord) (out string) {
	for i, e := range r.Events {
		if i > 0 {
			out += " "
		}
		out += e.State.String()
	}
	return out
}

func is(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func code(t *testing.T, err error, want device.Code) {
	t.Helper()
	if err == nil || device.CodeOf(err) != want {
		t.Fatalf("got %v, want an error of code %s", err, want)
	}
}
