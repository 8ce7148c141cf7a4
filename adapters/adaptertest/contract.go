package adaptertest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// Subject is the adapter under the checker, and how to speak to it with a
// client that somebody else wrote.
type Subject struct {
	// Open makes the adapter on a free port of the loopback, as its package's
	// Open does, with its default configuration.
	Open func(gate adapters.Gate) (adapters.Adapter, error)

	// Dial connects as a device. An error means it was turned away; a protocol
	// without connections says so at the first Send instead.
	Dial func(ctx context.Context, adapter adapters.Adapter, login Login) (Client, error)
}

// Login is a device's credential, in the default tenant.
type Login struct{ User, Secret string }

// Client is one device's end of a connection. The checker uses each from one
// goroutine at a time, except that Close may come at any time.
type Client interface {
	// Send sends a telemetry message with no declared content type, asking for
	// an ack, and waits for it. to is the {device} of the address; "" means the
	// short form. An error means that it was refused in the protocol's words or
	// that the connection was closed.
	Send(ctx context.Context, to string, payload []byte) error

	// Receive waits for the device's next command, asking for one at a time and
	// settling nothing. A protocol with locks asks for a short one.
	Receive(ctx context.Context) (Received, error)

	// Close ends the connection without settling anything. It is idempotent.
	Close()
}

// Received is a command as the device sees it.
type Received struct {
	ID      string
	Payload []byte
	Repeat  bool                            // shown as offered before: DUP, delivery-count, attempt
	Accept  func(ctx context.Context) error // settles it; an error when the adapter says it is too late
}

// patience bounds every wait of one rule; nothing is measured by it.
const patience = 20 * time.Second

// rule is one sentence of package adapters, as a test.
type rule struct {
	name string
	gate func(*Gate) // prepares the gate; may be nil
	run  func(*scene) error
}

// Check proves that the adapter keeps what package adapters asks of it.
func Check(t *testing.T, subject Subject) {
	for _, r := range slices.Concat(telemetryRules, commandRules, lifeRules) {
		t.Run(r.name, func(t *testing.T) {
			if err := r.check(subject, patience); err != nil {
				t.Error(err)
			}
		})
	}
}

// check plays one rule against a gate and an adapter of its own.
func (r rule) check(subject Subject, patience time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s := &scene{ctx: ctx, patience: patience, subject: subject, gate: &Gate{RefuseAnonymous: true, Secrets: map[device.ID]string{}}}
	for _, login := range []Login{alice, bob} {
		s.gate.Secrets[idOf(login)] = login.Secret
	}
	if r.gate != nil {
		r.gate(s.gate)
	}
	if s.adapter, err = subject.Open(s.gate); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	s.served = make(chan error, 1)
	go func() { s.served <- s.adapter.Serve() }()
	defer s.end()
	return r.run(s)
}

// The devices every scene knows.
var (
	alice = Login{User: "alice", Secret: "the secret of alice"}
	bob   = Login{User: "bob", Secret: "the secret of bob"}
)

func idOf(l Login) device.ID { return device.ID{Tenant: device.DefaultTenant, Device: l.User} }

// scene is one adapter, served on one gate, with the clients of one rule.
type scene struct {
	ctx      context.Context
	patience time.Duration
	subject  Subject
	gate     *Gate
	adapter  adapters.Adapter
	served   chan error
	clients  []Client
}

// dial connects a client that lives as long as the scene.
func (s *scene) dial(login Login) (Client, error) {
	c, err := s.subject.Dial(s.ctx, s.adapter, login)
	if err != nil {
		return nil, fmt.Errorf("dial as %s: %w", login.User, err)
	}
	s.clients = append(s.clients, c)
	return c, nil
}

// deliver sends one message as a fresh connection and wants its ack: proof that
// the adapter still serves.
func (s *scene) deliver(login Login, payload string) error {
	c, err := s.dial(login)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Send(s.ctx, "", []byte(payload)); err != nil {
		return fmt.Errorf("send %q as %s: %w", payload, login.User, err)
	}
	return nil
}

// until waits for a state of the gate.
func (s *scene) until(what string, ok func() bool) error {
	if !s.gate.Until(s.patience, ok) {
		return fmt.Errorf("waited in vain until %s", what)
	}
	return nil
}

func (s *scene) end() {
	for _, c := range s.clients {
		c.Close()
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // cut: whatever the rule left open is not its subject
	_ = s.adapter.Shutdown(ctx)
}

// await waits for one value, for as long as the scene lasts.
func await[T any](s *scene, what string, c <-chan T) (T, error) {
	select {
	case v := <-c:
		return v, nil
	case <-s.ctx.Done():
		var none T
		return none, fmt.Errorf("waited in vain for %s", what)
	}
}

// keptPayloads lists the payloads stored so far, as text.
func (s *scene) keptPayloads() []string {
	var kept []string
	for _, m := range s.gate.Stored() {
		kept = append(kept, string(m.Payload))
	}
	return kept
}
