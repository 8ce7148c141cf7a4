package natsdoor_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/pipeline/embedded"
	"github.com/tributary-iot/tributary/pipeline/natsdoor"
)

const password = "the operator's token"

// house is an embedded server with two streams, and a door to one of them.
type house struct {
	t      *testing.T
	server *embedded.Server
	url    string
	inside jetstream.JetStream // as the pipeline is connected
}

func open(t *testing.T, readers embedded.Readers, cfg natsdoor.Config) *house {
	t.Helper()
	readers.Addr, readers.Stream = "127.0.0.1:0", "TELEMETRY"
	if !readers.Open {
		readers.Password = password
	}
	server, err := embedded.Start(embedded.Options{Dir: t.TempDir(), MaxStore: 1 << 30, Readers: &readers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	h := &house{t: t, server: server}
	user, secret := server.Credentials()
	nc, err := nats.Connect("", nats.InProcessServer(server), nats.UserInfo(user, secret), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if h.inside, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	for name, root := range map[string]string{"TELEMETRY": "telemetry.>", "COMMANDS": "command.>"} {
		if _, err := h.inside.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{root}}); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Server, cfg.Stream, cfg.Root, cfg.Inbox, cfg.Delivery = server, "TELEMETRY", "telemetry", embedded.Inbox, embedded.Delivery
	porter, err := natsdoor.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { porter.Close(context.Background()) })
	addr, err := server.Listen()
	if err != nil {
		t.Fatal(err)
	}
	h.url = "nats://" + addr.String()
	return h
}

// store puts messages into a stream as the pipeline does.
func (h *house) store(subject string, bodies ...string) {
	h.t.Helper()
	for _, body := range bodies {
		if _, err := h.inside.Publish(h.t.Context(), subject, []byte(body)); err != nil {
			h.t.Fatal(err)
		}
	}
}

// reader is a connection over the network; denied receives what is refused.
func (h *house) reader(denied chan<- error, options ...nats.Option) *nats.Conn {
	h.t.Helper()
	options = append([]nats.Option{nats.UserInfo("reader", password), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case denied <- err:
		default:
		}
	})}, options...)
	nc, err := nats.Connect(h.url, options...)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(nc.Close)
	return nc
}

func (h *house) readerStream() (jetstream.JetStream, jetstream.Stream) {
	h.t.Helper()
	js, err := jetstream.New(h.reader(nil))
	if err != nil {
		h.t.Fatal(err)
	}
	s, err := js.Stream(h.t.Context(), "TELEMETRY")
	if err != nil {
		h.t.Fatal(err)
	}
	return js, s
}

func (h *house) messages(stream string) uint64 {
	h.t.Helper()
	s, err := h.inside.Stream(h.t.Context(), stream)
	if err != nil {
		h.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}
