package main

import (
	"context"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tributary-iot/tributary/internal/peer"
)

// TestStreamConsumers runs the two examples against the NATS door, with the
// token and kept places: each reads everything, and after the server was killed
// goes on where it stopped.
func TestStreamConsumers(t *testing.T) {
	t.Parallel()
	golang := filepath.Join(t.TempDir(), "consumer-go")
	build := exec.Command("go", "build", "-o", golang, "../../examples/consumer-go")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	nodejs, env := peer.Node(t, "@nats-io/jetstream")
	data := t.TempDir()
	s := serve(t, data)
	secret := s.addDevice("dev1")
	postTemperatures(t, s, secret, "1", "2")
	consumers := map[string]func(ctx context.Context, more ...string) *exec.Cmd{
		"go": func(ctx context.Context, more ...string) *exec.Cmd {
			return exec.CommandContext(ctx, golang, append([]string{"--data", data}, more...)...)
		},
		"node": func(ctx context.Context, more ...string) *exec.Cmd {
			cmd := exec.CommandContext(ctx, nodejs, append([]string{"../../examples/consumer-node/consumer.js", "--data", data, "--proto", "../../proto"}, more...)...)
			cmd.Env = env
			return cmd
		},
	}
	for name, consumer := range consumers {
		for _, more := range [][]string{{"--durable", name}, {"--filter", "telemetry.default.dev1.>"}} {
			wantLines(t, consumer, append(more, "--n", "2"), "default/dev1/room http temperature=1", "default/dev1/room http temperature=2")
		}
	}
	s.kill()
	s = serve(t, data)
	postTemperatures(t, s, secret, "3")
	for name, consumer := range consumers {
		wantLines(t, consumer, []string{"--n", "1", "--durable", name}, "default/dev1/room http temperature=3")
	}
	if nc, err := nats.Connect("nats://"+s.addresses["nats"], nats.UserInfo("reader", "guess")); err == nil {
		nc.Close()
		t.Error("a guessed password was accepted")
	}
	s.stop()
}

// postTemperatures sends temperatures over HTTP, each acknowledged.
func postTemperatures(t *testing.T, s *server, secret string, temperatures ...string) {
	t.Helper()
	for _, temperature := range temperatures {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addresses["http"]+"/v1/devices/dev1/telemetry/room",
			strings.NewReader(`{"temperature":`+temperature+`}`))
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth("dev1", secret)
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode/100 != 2 {
			t.Fatalf("HTTP answered %s", response.Status)
		}
	}
}

func wantLines(t *testing.T, consumer func(context.Context, ...string) *exec.Cmd, args []string, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := consumer(ctx, args...)
	out, err := cmd.CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != strings.Join(want, "\n") {
		t.Errorf("%v: %v\ngot:  %q\nwant: %q", cmd.Args, err, got, want)
	}
}
