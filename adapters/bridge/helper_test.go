package bridge

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/device"
)

// patience bounds every wait; nothing is measured by it.
const patience = 60 * time.Second

// broker is an AMQP door that plays the broker. What the commands of one of its
// devices are, is a queue for whoever receives from {device}/commands; what is
// sent to {device}/telemetry is a message that arrived.
type broker struct {
	*adaptertest.Gate
	addr string
	door *amqp.Server
}

func startBroker(t *testing.T, gate *adaptertest.Gate, addr string) *broker {
	t.Helper()
	return startBrokerWith(t, gate, amqp.Config{Addr: addr})
}

func startBrokerWith(t *testing.T, gate *adaptertest.Gate, cfg amqp.Config) *broker {
	t.Helper()
	door, err := amqp.Open(cfg, gate)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- door.Serve() }()
	b := &broker{Gate: gate, door: door}
	for _, addr := range door.Addrs() {
		b.addr = addr.String()
	}
	t.Cleanup(func() {
		b.kill()
		<-served
	})
	return b
}

// kill cuts every connection.
func (b *broker) kill() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = b.door.Shutdown(ctx)
}

// queue puts messages into {device}/commands: the name is their subject.
func (b *broker) queue(devicename, id, subject string, payload []byte) {
	b.Send(device.Command{
		ID: id, Tenant: device.DefaultTenant, Device: devicename, Name: subject, Payload: payload,
		CreatedAt: time.Now(), Deadline: time.Now().Add(time.Hour),
	})
}

// settled answers the outcomes of a queue's messages, by id.
func (b *broker) settled() map[string]device.Outcome {
	all := map[string]device.Outcome{}
	for _, s := range b.SettledAll() {
		all[s.Command] = s.Outcome
	}
	return all
}

// bridgeTo opens and serves a bridge with one link to a broker.
func bridgeTo(t *testing.T, addr string, gate *adaptertest.Gate, change func(*Config, *Link)) *Bridge {
	t.Helper()
	cfg := Config{RetryMin: 10 * time.Millisecond, RetryMax: 200 * time.Millisecond, Logger: testLog(t)}
	l := Link{Name: "plant", URL: "amqp://" + addr, Receive: []string{"queue/commands"}, Device: "dev1"}
	change(&cfg, &l)
	cfg.Links = append(cfg.Links, l)
	b, err := Open(cfg, gate)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- b.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return b
}

// testLog shows a test's log lines when it fails.
func testLog(t *testing.T) *slog.Logger {
	out := &syncBuffer{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(out.String())
		}
	})
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// until waits for a state of a gate.
func until(t *testing.T, gate *adaptertest.Gate, what string, ok func() bool) {
	t.Helper()
	if !gate.Until(patience, ok) {
		t.Fatalf("waited in vain until %s", what)
	}
}

// untilStatus waits for a status of the only link.
func untilStatus(t *testing.T, b *Bridge, what string, ok func(Status) bool) Status {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		s := b.Status()[0]
		if ok(s) {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s: %+v", what, s)
		}
		time.Sleep(5 * time.Millisecond) // nothing tells of a change
	}
}

// holding is an OnSubmit that keeps every done until it is released.
type holding struct {
	mu   sync.Mutex
	held []func(error)
	got  chan *device.Message
}

func newHolding() *holding { return &holding{got: make(chan *device.Message, 1000)} }

func (h *holding) submit(m *device.Message, done func(error)) error {
	h.mu.Lock()
	h.held = append(h.held, done)
	h.mu.Unlock()
	h.got <- m
	return nil
}

func (h *holding) next(t *testing.T) *device.Message {
	t.Helper()
	select {
	case m := <-h.got:
		return m
	case <-time.After(patience):
		t.Fatal("no message came")
		return nil
	}
}

// done answers the message submitted as the i-th.
func (h *holding) done(i int, err error) {
	h.mu.Lock()
	done := h.held[i]
	h.mu.Unlock()
	done(err)
}

func payload(i int) []byte { return fmt.Appendf(nil, `{"n":%d}`, i) }
