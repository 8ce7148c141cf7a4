package https_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/https"
	"github.com/tributary-iot/tributary/device"
)

// patience bounds every wait on a real socket; nothing depends on its length.
const patience = 10 * time.Second

var dev1 = device.ID{Tenant: "default", Device: "dev1"}

// house is a running server and a client to it.
type house struct {
	t      *testing.T
	gate   *adaptertest.Gate
	server *https.Server
	client *http.Client
	base   string // "http://host:port"
	stop   func() // drains; runs by itself at the end of the test
}

// open starts a server on a real socket.
func open(t *testing.T, cfg https.Config, gate *adaptertest.Gate) *house {
	t.Helper()
	cfg.Addr = "127.0.0.1:0"
	server, err := https.Open(cfg, gate)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, gate: gate, server: server, client: &http.Client{Transport: &http.Transport{}, Timeout: patience}}
	h.base = "http://" + server.Addrs()["http"].String()
	h.run()
	t.Cleanup(h.stop)
	return h
}

// bubble runs f in a synctest bubble with a server on an in-memory network, so
// that locks, waits and lingers take no time and happen exactly when due.
func bubble(t *testing.T, cfg https.Config, gate *adaptertest.Gate, f func(h *house)) {
	t.Helper()
	bubbleOn(t, cfg, gate, gate, f)
}

// bubbleOn is bubble with a gate that the server sees in place of the test's.
func bubbleOn(t *testing.T, cfg https.Config, gate *adaptertest.Gate, seen adapters.Gate, f func(h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		server, err := https.OpenOn(l, cfg, seen)
		if err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{DialContext: l.dial}
		h := &house{t: t, gate: gate, server: server, client: &http.Client{Transport: transport}, base: "http://door"}
		h.run()
		f(h)
		transport.CloseIdleConnections()
		h.stop()
	})
}

func (h *house) run() {
	served := make(chan error, 1)
	go func() { served <- h.server.Serve() }()
	h.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		h.client.CloseIdleConnections()
		if err := h.server.Shutdown(ctx); err != nil {
			h.t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; err != nil {
			h.t.Errorf("Serve: %v", err)
		}
	})
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// problem is the body as RFC 9457, and checks that it is one.
func (r reply) problem(t *testing.T) (p struct {
	Type, Title, Detail string
	Status              int
}) {
	t.Helper()
	if got := r.header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("Content-Type %q of %d %q", got, r.status, r.body)
	}
	if err := json.Unmarshal([]byte(r.body), &p); err != nil || p.Status != r.status || p.Title == "" || p.Detail == "" {
		t.Fatalf("problem %q: %v", r.body, err)
	}
	return p
}

// do sends a request; headers are pairs.
func (h *house) do(method, path, body string, headers ...string) reply {
	h.t.Helper()
	r, err := h.try(context.Background(), method, path, body, headers...)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

func (h *house) try(ctx context.Context, method, path, body string, headers ...string) (reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, h.base+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := h.client.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, string(answer)}, err
}

// begin sends a request in the background.
func (h *house) begin(ctx context.Context, method, path, body string, headers ...string) <-chan reply {
	answer := make(chan reply, 1)
	go func() {
		r, err := h.try(ctx, method, path, body, headers...)
		if err != nil && !errors.Is(err, context.Canceled) {
			h.t.Errorf("%s %s: %v", method, path, err)
		}
		answer <- r
	}()
	return answer
}

// offer is a command as a poll shows it.
type offer struct {
	ID, Name    string
	Payload     []byte
	ContentType string `json:"content_type"`
	Deadline    time.Time
	Attempt     int
	LockToken   string    `json:"lock_token"`
	LockUntil   time.Time `json:"lock_until"`
}

// poll expects one command.
func (h *house) poll(query string) offer {
	h.t.Helper()
	return one(h.t, h.do("GET", "/v1/devices/dev1/commands"+query, ""))
}

func one(t *testing.T, r reply) offer {
	t.Helper()
	o, err := parseOffer(r.body)
	if r.status != 200 || err != nil {
		t.Fatalf("%d %q: %v", r.status, r.body, err)
	}
	return o
}

func parseOffer(body string) (o offer, err error) {
	err = json.Unmarshal([]byte(body), &o)
	return o, err
}

func (h *house) send(ids ...string) {
	for _, id := range ids {
		h.gate.Send(device.Command{ID: id, Tenant: "default", Device: "dev1", Name: "heat", Payload: []byte(`{"on":true}`),
			ContentType: "application/json", Deadline: time.Now().Add(time.Hour)})
	}
}

// settled is the trail of settlements on one line: id/attempt=kind(reason).
func (h *house) settled() string {
	kinds := map[device.OutcomeKind]string{device.Accepted: "accepted", device.Unconfirmed: "unconfirmed",
		device.Rejected: "rejected", device.Released: "released", device.LockExpired: "expired"}
	var parts []string
	for _, s := range h.gate.SettledAll() {
		parts = append(parts, s.Command+"/"+string(rune('0'+s.Attempt))+"="+kinds[s.Outcome.Kind])
	}
	return strings.Join(parts, " ")
}

func (h *house) wantSettled(want string) {
	h.t.Helper()
	if got := h.settled(); got != want {
		h.t.Errorf("settled %q, want %q", got, want)
	}
}

// pipeListener is a network in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "door:80" }
