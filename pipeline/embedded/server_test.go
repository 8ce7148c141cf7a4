package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/pipeline/embedded"
)

func start(t *testing.T, dir string, d embedded.Durability) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(embedded.Options{Dir: dir, Durability: d, MaxStore: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *embedded.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func connect(t *testing.T, s *embedded.Server) jetstream.JetStream {
	t.Helper()
	user, password := s.Credentials()
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.UserInfo(user, password))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestWhatWasAcknowledgedIsThereAfterARestart(t *testing.T) {
	for _, d := range []embedded.Durability{embedded.Strict, embedded.Relaxed} {
		t.Run(string(d), func(t *testing.T) {
			dir := t.TempDir()
			first := start(t, dir, d)
			js := connect(t, first)
			if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
				t.Fatal(err)
			}
			if _, err := js.Publish(t.Context(), "s", []byte("kept")); err != nil {
				t.Fatal(err)
			}
			if err := first.Healthy(); err != nil {
				t.Fatal(err)
			}
			js.Conn().Close()
			stop(t, first)
			if err := first.Healthy(); err == nil {
				t.Fatal("a stopped server says it is healthy")
			}
			js = connect(t, start(t, dir, d))
			s, err := js.Stream(t.Context(), "S")
			if err != nil {
				t.Fatal(err)
			}
			if m, err := s.GetMsg(t.Context(), 1); err != nil || string(m.Data) != "kept" {
				t.Fatalf("got %v, %v", m, err)
			}
		})
	}
}

func TestOneDirectoryHasOneServer(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir, embedded.Strict)
	if _, err := embedded.Start(embedded.Options{Dir: dir}); !errors.Is(err, embedded.ErrInUse) {
		t.Fatalf("a second server on the directory gave %v", err)
	}
	stop(t, first)
	start(t, dir, embedded.Strict)
}

func TestNobodyGetsInWithoutTheCredential(t *testing.T) {
	s := start(t, t.TempDir(), embedded.Relaxed)
	for _, connect := range []string{`{}`, `{"user":"tributary","pass":"guess"}`} {
		conn, err := s.InProcessConn()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(conn)
		if info, err := lines.ReadString('\n'); err != nil || !strings.Contains(info, `"auth_required":true`) {
			t.Fatalf("greeted with %q, %v", info, err)
		}
		if _, err := conn.Write([]byte("CONNECT " + connect + "\r\n")); err != nil {
			t.Fatal(err)
		}
		if answer, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(answer, "-ERR 'Authorization Violation'") {
			t.Errorf("%s is answered %q, %v", connect, answer, err)
		}
	}
}

func TestBadOptionsAreRefused(t *testing.T) {
	if _, err := embedded.Start(embedded.Options{}); err == nil {
		t.Error("no directory was accepted")
	}
	if _, err := embedded.Start(embedded.Options{Dir: t.TempDir(), Durability: "hopeful"}); err == nil {
		t.Error("an unknown durability was accepted")
	}
}
