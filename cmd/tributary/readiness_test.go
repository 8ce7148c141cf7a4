package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// TestReadyzSaysWhichPart is not ready, in the form asked for.
func TestReadyzSaysWhichPart(t *testing.T) {
	var broken error
	r := &readiness{}
	r.add("nats", func() (string, error) { return "embedded", nil })
	r.add("store", func() (string, error) { return "here", broken })
	for _, c := range []struct {
		broken         error
		target, accept string
		status         int
		body           string
	}{
		{nil, "/readyz", "", 200, "ok\n"},
		{nil, "/readyz?verbose", "", 200, "ok\nnats       ready     embedded\nstore      ready     here\n"},
		{nil, "/readyz", "application/json", 200, `{"ready":true,"parts":[{"part":"nats","ready":true,"detail":"embedded"},{"part":"store","ready":true,"detail":"here"}]}` + "\n"},
		{errors.New("disk\nfull"), "/readyz", "", 503, "not ready\nnats       ready     embedded\nstore      NOT READY disk full (here)\n"},
		{errors.New("disk full"), "/readyz?format=json", "", 503,
			`{"ready":false,"parts":[{"part":"nats","ready":true,"detail":"embedded"},{"part":"store","ready":false,"detail":"here","error":"disk full"}]}` + "\n"},
	} {
		broken = c.broken
		w := httptest.NewRecorder()
		request := httptest.NewRequest(http.MethodGet, c.target, nil)
		request.Header.Set("Accept", c.accept)
		r.ServeHTTP(w, request)
		if w.Code != c.status || w.Body.String() != c.body {
			t.Errorf("%s %s %v: %d %q", c.target, c.accept, c.broken, w.Code, w.Body)
		}
	}
}

// TestReadinessOfARealServer names every part; status and gRPC health agree,
// and a store that fails is told everywhere while messages are still taken.
func TestReadinessOfARealServer(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "--open")
	eventually(t, "it is ready", func() bool { return s.ready() == http.StatusOK })
	all := s.readiness()
	for _, part := range []string{"nats ", "stream", "room", "durability", "leases", "store", "persister", "registry", "mqtt", "amqp", "http", "grpc", "admin", "nats door"} {
		if !strings.Contains(all, "\n"+part) {
			t.Errorf("nothing is said of %s:\n%s", part, all)
		}
	}
	if out := s.client("status"); !strings.HasPrefix(out, "ok\n") || !strings.Contains(out, "0 messages behind") {
		t.Errorf("status says %q", out)
	}
	health := healthv1.NewHealthClient(apiOf(t, s))
	serving := func(service string) bool {
		r, err := health.Check(context.Background(), &healthv1.HealthCheckRequest{Service: service})
		return err == nil && r.GetStatus() == healthv1.HealthCheckResponse_SERVING
	}
	services := []string{"", "tributary.v1.CommandService", "tributary.v1.TelemetryService"}
	for _, service := range services {
		eventually(t, service+" serves", func() bool { return serving(service) })
	}
	s.limitFiles("64")
	send, closeIt, err := sendHTTP(t.Context(), s, "dev1")
	if err != nil {
		t.Fatal(err)
	}
	defer closeIt()
	go send([]byte(`{"n":1}`)) // fails, or is answered when the disk is back
	for _, service := range services[:2] {
		eventually(t, service+" does not serve", func() bool { return !serving(service) })
	}
	if out, err := s.tryClient("status"); err == nil || !strings.Contains(out, "NOT READY") {
		t.Errorf("status of a server whose disk takes nothing: %v, %q", err, out)
	}
	s.limitFiles("unlimited")
	eventually(t, "it is ready again", func() bool { return s.ready() == http.StatusOK })
	for _, service := range services {
		eventually(t, service+" serves again", func() bool { return serving(service) })
	}
	s.stop()
}
