package natsdoor_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/pipeline/embedded"
	"github.com/tributary-iot/tributary/pipeline/natsdoor"
)

// TestASlowReaderIsCut: one that asks for much and takes nothing loses its
// connection; others do not notice.
func TestASlowReaderIsCut(t *testing.T) {
	h := open(t, embedded.Readers{}, natsdoor.Config{})
	const messages, size = 120, 1 << 20
	body := strings.Repeat("x", size)
	for range messages {
		h.store("telemetry.default.a", body)
	}
	_, s := h.readerStream()
	if _, err := s.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Name: "slow"}); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	pull := fmt.Sprintf("%d", messages)
	fmt.Fprintf(conn, "CONNECT {\"user\":\"reader\",\"pass\":%q,\"headers\":true}\r\nSUB _INBOX.slow 1\r\nPUB $JS.API.CONSUMER.MSG.NEXT.TELEMETRY.slow _INBOX.slow %d\r\n%s\r\n",
		password, len(pull), pull)
	c, err := s.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Name: "quick", AckPolicy: jetstream.AckNonePolicy})
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for read < messages {
		batch, err := c.Fetch(20, jetstream.FetchMaxWait(30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for range batch.Messages() {
			read++
		}
		if err := batch.Error(); err != nil {
			t.Fatal(err)
		}
	}
	// Only now it reads what is left for it.
	if err := conn.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, conn)
	if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
		t.Fatal("a reader that took nothing is still connected")
	}
	if n >= messages*size {
		t.Errorf("it was sent all of its %d bytes", n)
	}
}

// TestReadersComeBackAfterAFault: the server is restarted in place, listens
// where it did, and a durable reader goes on where it was.
func TestReadersComeBackAfterAFault(t *testing.T) {
	h := open(t, embedded.Readers{}, natsdoor.Config{})
	h.store("telemetry.default.a", "1")
	back := make(chan struct{}, 1)
	nc := h.reader(nil, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond), nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	c, err := js.CreateOrUpdateConsumer(t.Context(), "TELEMETRY", jetstream.ConsumerConfig{Durable: "billing", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, c, 1); got[0] != "1" {
		t.Fatalf("read %q", got)
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	lift := func() { _ = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before) }
	defer lift()
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 16, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	if err := h.inside.Conn().Publish("telemetry.default.a", []byte("lost")); err != nil {
		t.Fatal(err)
	}
	for h.server.Healthy() == nil {
		time.Sleep(time.Millisecond)
	}
	lift()
	select {
	case <-back:
	case <-time.After(60 * time.Second):
		t.Fatal("the reader is not back")
	}
	for deadline := time.Now().Add(60 * time.Second); ; {
		_, err := h.inside.Publish(t.Context(), "telemetry.default.a", []byte("2"), jetstream.WithMsgID("2"))
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(60 * time.Second); ; {
		m, err := c.Next(jetstream.FetchMaxWait(time.Second))
		if err == nil {
			if string(m.Data()) != "2" {
				t.Errorf("read %q", m.Data())
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
