package https_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/https"
	"github.com/tributary-iot/tributary/device"
)

func TestOpenRefusesNonsense(t *testing.T) {
	for _, cfg := range []https.Config{
		{Addr: "nowhere"}, {Addr: "127.0.0.1:0", MaxMessageBytes: -1}, {Addr: "127.0.0.1:0", Linger: -1},
		{Addr: "127.0.0.1:0", DefaultLock: 2 * time.Hour},
	} {
		if s, err := https.Open(cfg, &adaptertest.Gate{}); err == nil {
			t.Errorf("%+v was taken", cfg)
			_ = s.Shutdown(t.Context())
		}
	}
	h := open(t, https.Config{}, &adaptertest.Gate{})
	if _, err := https.Open(https.Config{Addr: strings.TrimPrefix(h.base, "http://")}, &adaptertest.Gate{}); err == nil {
		t.Error("a taken port is not an error of Open")
	}
}

func TestDrain(t *testing.T) {
	gate := &adaptertest.Gate{}
	dones := make(chan func(error), 1)
	gate.OnSubmit = func(m *device.Message, done func(error)) error { dones <- done; return nil }
	bubble(t, https.Config{}, gate, func(h *house) {
		h.send("c1")
		h.poll("?lock=50s")
		poll := h.begin(context.Background(), "GET", commands+"?wait=30s", "")
		post := h.begin(context.Background(), "POST", "/v1/devices/dev1/telemetry", "1")
		done := <-dones
		synctest.Wait()
		start, stopped := time.Now(), make(chan struct{})
		go func() { h.stop(); close(stopped) }()
		if r := <-poll; r.status != 204 || time.Since(start) != 0 {
			t.Errorf("the poll was answered %d after %v", r.status, time.Since(start))
		}
		synctest.Wait()
		select {
		case <-stopped:
			t.Error("stopped before the post was answered")
		default:
		}
		if _, err := h.try(context.Background(), "GET", commands, ""); err == nil {
			t.Error("a new connection was let in")
		}
		done(nil)
		if r := <-post; r.status != 204 {
			t.Errorf("the post in flight was answered %d", r.status)
		}
		<-stopped
		if h.gate.Sessions(dev1) != 0 || h.gate.Queued(dev1) != 1 {
			t.Errorf("%d sessions, %d commands queued", h.gate.Sessions(dev1), h.gate.Queued(dev1))
		}
	})
}

func TestDrainIsCut(t *testing.T) {
	gate := &adaptertest.Gate{OnSubmit: func(*device.Message, func(error)) error { return nil }}
	h := open(t, https.Config{}, gate)
	submitted := make(chan struct{})
	gate.OnSubmit = func(*device.Message, func(error)) error { close(submitted); return nil }
	answer := make(chan error, 1)
	go func() {
		_, err := h.try(context.Background(), "POST", "/v1/devices/dev1/telemetry", "1")
		answer <- err
	}()
	<-submitted
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.server.Shutdown(ctx); err == nil {
		t.Error("a cut drain is an error")
	}
	if err := <-answer; err == nil {
		t.Error("a post that was never stored was answered")
	}
}

func TestSlowPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		gate := &adaptertest.Gate{}
		server, err := https.OpenOn(l, https.Config{HeaderTimeout: 10 * time.Second, BodyTimeout: 30 * time.Second, IdleTimeout: time.Minute}, gate)
		if err != nil {
			t.Fatal(err)
		}
		h := &house{t: t, gate: gate, server: server, client: &http.Client{}}
		h.run()
		f := func(sent, wantStatus string, after time.Duration) {
			t.Helper()
			conn, err := l.dial(context.Background(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			start := time.Now()
			go func() { _, _ = io.WriteString(conn, sent) }()
			got, _ := io.ReadAll(conn)
			status, _, _ := strings.Cut(string(got), "\r\n")
			if status != wantStatus || time.Since(start) != after {
				t.Errorf("%.40q: %q after %v, want %q after %v", sent, status, time.Since(start), wantStatus, after)
			}
		}
		f("", "", 10*time.Second)
		f("POST /v1/dev", "HTTP/1.1 400 Bad Request", 10*time.Second)
		f("POST /v1/devices/dev1/telemetry HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc", "HTTP/1.1 408 Request Timeout", 30*time.Second)
		f("POST /v1/devices/dev1/telemetry HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1", "HTTP/1.1 204 No Content", time.Minute)
		h.stop()
	})
}

func TestMalformedHTTP(t *testing.T) {
	h := open(t, https.Config{MaxHeaderBytes: 4096}, &adaptertest.Gate{})
	const post = "POST /v1/devices/dev1/telemetry HTTP/1.1\r\nHost: x\r\n"
	for raw, status := range map[string]string{
		"\x16\x03\x01\x02\x00\x01\x00\n":                           "400",
		"hello\r\n\r\n":                                            "400",
		"GET / HTTP/9.9\r\n\r\n":                                   "505",
		"POST /v1/devices/dev1/telemetry HTTP/1.1\r\n\r\n":         "400", // no Host
		"GET /v1/devices/%zz/commands HTTP/1.1\r\nHost: x\r\n\r\n": "400",
		post + "Content-Length: -1\r\n\r\n":                        "400",
		post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx":  "400",
		post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n":          "400",
		post + "Transfer-Encoding: gzip\r\n\r\n":                   "501",
		post + "X: " + strings.Repeat("y", 20000) + "\r\n\r\n":     "431",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(h.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(conn, raw); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%.40q: %v", raw, err)
		} else if got := fmt.Sprint(response.StatusCode); got != status {
			t.Errorf("%.40q: %s, want %s", raw, got, status)
		}
		conn.Close()
	}
	if n := len(h.gate.Stored()); n != 0 {
		t.Errorf("%d messages stored", n)
	}
	if r := h.do("POST", "/v1/devices/dev1/telemetry", "1"); r.status != 204 {
		t.Errorf("afterwards: %d", r.status)
	}
}

func TestWrongPathsAndMethods(t *testing.T) {
	h := open(t, https.Config{}, &adaptertest.Gate{})
	for _, path := range []string{"/", "/v1/devices/", "/v1/devices/dev1", "/v1/devices/dev1/", "/v1/devices//telemetry",
		"/v1/devices/dev1/telemetr", "/v1/devices/dev1/commands/", "/v1/devices/dev1/commands/c1", "/v1/devices/dev1/commands/c1:explode",
		"/v1/devices/dev1/commands/c1/response/x", "/v1/devices/dev1/commands//response", "/v1/devices/dev1/commands/:accept", "/v2/devices/dev1/telemetry"} {
		if p := h.do("POST", path, "").problem(t); p.Status != 404 {
			t.Errorf("%s: %+v", path, p)
		}
	}
	for path, allow := range map[string]string{"/telemetry": "POST", "/commands": "GET", "/commands/c1:accept": "POST", "/commands/c1/response": "POST"} {
		r := h.do("DELETE", "/v1/devices/dev1"+path, "")
		if p := r.problem(t); p.Status != 405 || r.header.Get("Allow") != allow {
			t.Errorf("%s: %+v %v", path, p, r.header)
		}
	}
	for _, path := range []string{"/v1/devices/a%2Fb/telemetry", "/v1/devices/$x/telemetry", "/v1/devices/commands/telemetry", "/v1/devices/%01/telemetry"} {
		if p := h.do("POST", path, "").problem(t); p.Status != 400 {
			t.Errorf("%s: %+v", path, p)
		}
	}
}

func TestConnectionLimit(t *testing.T) {
	registry := prometheus.NewRegistry()
	h := open(t, https.Config{MaxConnections: 1, Registerer: registry}, &adaptertest.Gate{})
	if r := h.do("POST", "/v1/devices/dev1/telemetry", "1"); r.status != 204 {
		t.Fatalf("%d", r.status)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != 503 || response.Header.Get("Retry-After") == "" {
		t.Errorf("%+v, %v", response, err)
	}
	if r := h.do("POST", "/v1/devices/dev1/telemetry", "1"); r.status != 204 {
		t.Errorf("the connection within the limit: %d", r.status)
	}
	want := `
# HELP tributary_http_connections_refused_total Connections turned away at the connection limit.
# TYPE tributary_http_connections_refused_total counter
tributary_http_connections_refused_total 1
# HELP tributary_http_requests_total Requests answered, by route and status; 499 is a client that left before its answer.
# TYPE tributary_http_requests_total counter
tributary_http_requests_total{route="telemetry",status="204"} 2
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "tributary_http_connections_refused_total", "tributary_http_requests_total"); err != nil {
		t.Error(err)
	}
}
