package natsdoor_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/pipeline/embedded"
	"github.com/tributary-iot/tributary/pipeline/natsdoor"
)

func fetch(t *testing.T, c jetstream.Consumer, n int) (bodies []string) {
	t.Helper()
	batch, err := c.Fetch(n, jetstream.FetchMaxWait(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for m := range batch.Messages() {
		bodies = append(bodies, string(m.Data()))
		if err := m.DoubleAck(t.Context()); err != nil && !strings.Contains(err.Error(), "no reply") {
			t.Fatal(err)
		}
	}
	if err := batch.Error(); err != nil {
		t.Fatal(err)
	}
	return bodies
}

func TestAReaderReadsFromABeginningAndKeepsItsPlace(t *testing.T) {
	h := open(t, embedded.Readers{}, natsdoor.Config{})
	h.store("telemetry.default.a", "1", "2")
	h.store("telemetry.default.b.x", "3")
	_, s := h.readerStream()
	if n := s.CachedInfo().State.Msgs; n != 3 {
		t.Errorf("the stream is said to hold %d messages", n)
	}
	durable := jetstream.ConsumerConfig{Durable: "billing", AckPolicy: jetstream.AckExplicitPolicy}
	c, err := s.CreateOrUpdateConsumer(t.Context(), durable)
	if err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, c, 2); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("read %q", got)
	}
	// Another connection goes on where the first stopped.
	_, s = h.readerStream()
	if c, err = s.CreateOrUpdateConsumer(t.Context(), durable); err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, c, 1); !slices.Equal(got, []string{"3"}) {
		t.Errorf("read %q", got)
	}
	if err := s.DeleteConsumer(t.Context(), "billing"); err != nil {
		t.Error(err)
	}
}

func TestAnOrderedReaderFollowsAFilter(t *testing.T) {
	h := open(t, embedded.Readers{}, natsdoor.Config{})
	h.store("telemetry.default.a", "1")
	h.store("telemetry.default.b", "no")
	js, _ := h.readerStream()
	c, err := js.OrderedConsumer(t.Context(), "TELEMETRY", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"telemetry.default.a"}})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 8)
	run, err := c.Consume(func(m jetstream.Msg) { got <- string(m.Data()) })
	if err != nil {
		t.Fatal(err)
	}
	defer run.Stop()
	h.store("telemetry.default.a", "2")
	for _, want := range []string{"1", "2"} {
		select {
		case body := <-got:
			if body != want {
				t.Errorf("read %q, want %q", body, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("nothing came")
		}
	}
}

func TestOnlyTheReaderWithItsPasswordGetsIn(t *testing.T) {
	h := open(t, embedded.Readers{}, natsdoor.Config{})
	own, ownPassword := h.server.Credentials()
	porter, porterPassword := h.server.PorterCredentials()
	for _, user := range [][2]string{{"reader", "guess"}, {"reader", ""}, {"", ""}, {own, ownPassword}, {porter, porterPassword}, {"admin", password}} {
		nc, err := nats.Connect(h.url, nats.UserInfo(user[0], user[1]))
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("user %q: %v", user[0], err)
		}
		if nc != nil {
			nc.Close()
		}
	}
	h = open(t, embedded.Readers{Open: true}, natsdoor.Config{})
	for _, options := range [][]nats.Option{nil, {nats.UserInfo("reader", "")}} {
		nc, err := nats.Connect(h.url, options...)
		if err != nil {
			t.Fatal(err)
		}
		nc.Close()
	}
	if nc, err := nats.Connect(h.url, nats.UserInfo(own, ownPassword)); err == nil {
		nc.Close()
		t.Error("another user got in")
	}
}

func TestReadersBeyondTheLimitAreTurnedAway(t *testing.T) {
	h := open(t, embedded.Readers{MaxConnections: 2}, natsdoor.Config{})
	first := h.reader(nil)
	h.reader(nil)
	if nc, err := nats.Connect(h.url, nats.UserInfo("reader", password)); err == nil {
		nc.Close()
		t.Fatal("a third reader got in")
	}
	first.Close()
	deadline := time.Now().Add(20 * time.Second)
	for {
		nc, err := nats.Connect(h.url, nats.UserInfo("reader", password))
		if err == nil {
			nc.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody gets in after one has left: %v", err)
		}
	}
}

func TestAnAbandonedConsumerGoes(t *testing.T) {
	h := open(t, embedded.Readers{}, natsdoor.Config{MaxConsumers: 1, MaxIdle: 200 * time.Millisecond})
	_, s := h.readerStream()
	if _, err := s.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Name: "left"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for { // its place is free again once the server has let it go
		_, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{Name: "next"})
		if err == nil {
			return
		}
		var api *jetstream.APIError
		if !errors.As(err, &api) || api.ErrorCode != 10026 {
			t.Fatal(err)
		}
	}
}
