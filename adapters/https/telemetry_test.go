package https_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/https"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/peer"
)

func TestTelemetryIsStoredAsSent(t *testing.T) {
	h := open(t, https.Config{}, &adaptertest.Gate{})
	before := time.Now()
	r := h.do("POST", "/v1/devices/dev1/telemetry/room/%C3%A9%2Fx", `{"temperature":21.5}`,
		"Content-Type", "application/json", "Idempotency-Key", `"k-1"`,
		"Tributary-Created-At", "2026-05-04T03:02:01.5+02:00", "Tributary-Property-Site", "north")
	if r.status != 204 || r.body != "" {
		t.Fatalf("%d %q", r.status, r.body)
	}
	stored := h.gate.Stored()
	if len(stored) != 1 {
		t.Fatalf("%d messages stored", len(stored))
	}
	m := stored[0]
	if m.ReceivedAt.Before(before) || m.ReceivedAt.After(time.Now()) {
		t.Errorf("ReceivedAt %v", m.ReceivedAt)
	}
	created := time.Date(2026, 5, 4, 1, 2, 1, 5e8, time.UTC)
	want := device.Message{Tenant: "default", Device: "dev1", Channel: "room/é/x", Key: "k-1", Protocol: device.HTTP, QoS: 1,
		ContentType: "application/json", CreatedAt: created, ReceivedAt: m.ReceivedAt, Payload: []byte(`{"temperature":21.5}`),
		Properties:   map[string]string{"site": "north"},
		Measurements: []device.Measurement{{Name: "temperature", Time: created, Value: device.Double(21.5)}}}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("\n got %+v\nwant %+v", m, want)
	}
}

func TestTelemetryForms(t *testing.T) {
	h := open(t, https.Config{}, &adaptertest.Gate{})
	post := func(path, body string, headers ...string) device.Message {
		t.Helper()
		if r := h.do("POST", path, body, headers...); r.status != 204 {
			t.Fatalf("%s: %d %q", path, r.status, r.body)
		}
		stored := h.gate.Stored()
		return stored[len(stored)-1]
	}
	if m := post("/v1/devices/dev1/telemetry", "21.5"); m.Channel != "" || m.ContentType != "text/plain" || len(m.Measurements) != 1 {
		t.Errorf("%+v", m)
	}
	if m := post("/v1/devices/dev1/telemetry/", ""); m.Channel != "" || m.ContentType != device.OctetStream {
		t.Errorf("%+v", m)
	}
	if m := post("/v1/devices/dev1/telemetry/a//b", `{"a":1}`, "Content-Type", "application/x-www-form-urlencoded"); m.Channel != "a//b" || m.ContentType != "application/json" {
		t.Errorf("%+v", m)
	}
	if m := post("/v1/devices/d%40x/telemetry", "1", "Date", "Mon, 04 May 2026 03:02:01 GMT"); m.Device != "d@x" || m.CreatedAt.Unix() != 1777863721 {
		t.Errorf("%+v", m)
	}
	if m := post("/v1/devices/dev1/telemetry", "1", "Date", "yesterday"); !m.CreatedAt.IsZero() {
		t.Errorf("%+v", m)
	}
}

func TestAckOnlyAfterStored(t *testing.T) {
	gate := &adaptertest.Gate{}
	dones := make(chan func(error), 1)
	gate.OnSubmit = func(m *device.Message, done func(error)) error { dones <- done; return nil }
	bubble(t, https.Config{}, gate, func(h *house) {
		for _, c := range []struct {
			err    error
			status int
		}{
			{nil, 204},
			{device.Errorf(device.Invalid, "no"), 400},
			{device.Errorf(device.TooLarge, "no"), 413},
			{device.Errorf(device.Unavailable, "no"), 503},
			{errors.New("secret cause"), 500},
		} {
			answer := h.begin(context.Background(), "POST", "/v1/devices/dev1/telemetry", "1")
			done := <-dones
			synctest.Wait() // everything that could run has run
			select {
			case r := <-answer:
				t.Fatalf("answered %d before done", r.status)
			default:
			}
			done(c.err)
			r := <-answer
			if r.status != c.status || strings.Contains(r.body, "secret") {
				t.Errorf("done(%v): %d %q", c.err, r.status, r.body)
			}
			if r.status != 204 {
				r.problem(t)
			}
		}
	})
}

func TestAckTimeoutAndLeavingClient(t *testing.T) {
	gate := &adaptertest.Gate{}
	var dones []func(error)
	gate.OnSubmit = func(m *device.Message, done func(error)) error { dones = append(dones, done); return nil }
	bubble(t, https.Config{AckTimeout: time.Minute, BodyTimeout: 10 * time.Second}, gate, func(h *house) {
		start := time.Now()
		r := h.do("POST", "/v1/devices/dev1/telemetry", "1")
		if p := r.problem(t); r.status != 503 || p.Type != "urn:tributary:problem:unavailable" || time.Since(start) != time.Minute {
			t.Errorf("%d %+v after %v", r.status, p, time.Since(start))
		}
		ctx, cancel := context.WithCancel(context.Background())
		answer := h.begin(ctx, "POST", "/v1/devices/dev1/telemetry", "1")
		synctest.Wait()
		cancel()
		<-answer
		for _, done := range dones {
			done(nil) // late: nobody listens, nothing blocks
		}
	})
}

func TestTelemetryRefusals(t *testing.T) {
	gate := &adaptertest.Gate{Secrets: map[device.ID]string{dev1: "s3cret"}, RefuseAnonymous: true}
	h := open(t, https.Config{MaxMessageBytes: 100}, gate)
	f := func(status int, code, user, secret, path, body string, headers ...string) {
		t.Helper()
		if user != "" {
			r, _ := http.NewRequest("GET", "/", nil)
			r.SetBasicAuth(user, secret)
			headers = append(headers, "Authorization", r.Header.Get("Authorization"))
		}
		r := h.do("POST", path, body, headers...)
		if status == 204 {
			if r.status != 204 {
				t.Errorf("%s: %d %q", path, r.status, r.body)
			}
			return
		}
		if p := r.problem(t); r.status != status || p.Type != "urn:tributary:problem:"+code {
			t.Errorf("%s: %d %+v, want %d %s", path, r.status, p, status, code)
		}
		if wants := r.header.Get("WWW-Authenticate") != ""; wants != (status == 401) {
			t.Errorf("%s: %d with WWW-Authenticate %v", path, status, wants)
		}
	}
	const path = "/v1/devices/dev1/telemetry"
	f(204, "", "dev1", "s3cret", path, "1")
	f(204, "", "dev1@default", "s3cret", path, "1")
	f(401, "unauthenticated", "", "", path, "1")
	f(401, "unauthenticated", "dev1", "wrong", path, "1")
	f(401, "unauthenticated", "dev9", "s3cret", path, "1")
	f(401, "unauthenticated", "", "", path, "1", "Authorization", "Bearer s3cret")
	f(401, "unauthenticated", "", "", path, "1", "Authorization", "Basic !")
	if n := len(gate.Refusals()); n != 0 {
		t.Errorf("%d refusals of peers nobody knows", n)
	}
	f(403, "forbidden", "dev1", "s3cret", "/v1/devices/dev2/telemetry", "stolen")
	f(400, "undecodable", "dev1", "s3cret", path, "{", "Content-Type", "application/json")
	f(413, "too-large", "dev1", "s3cret", path, strings.Repeat("x", 101))
	f(400, "invalid", "dev1", "s3cret", path+"/1/2/3/4/5/6/7/8/9", "1")
	f(400, "invalid", "dev1", "s3cret", path, "1", "Tributary-Created-At", "noon")
	f(400, "invalid", "dev1", "s3cret", path, "1", "Idempotency-Key", strings.Repeat("k", 257))
	f(400, "invalid", "dev1", "s3cret", path, "1", "Tributary-Property-X", "\xff")
	f(415, "unsupported-encoding", "dev1", "s3cret", path, "1", "Content-Encoding", "gzip")
	var trail []string
	for _, r := range gate.Refusals() {
		raw := string(r.Raw)
		if len(raw) > 10 {
			raw = raw[:10]
		}
		trail = append(trail, r.Device.Device+" "+device.CodeOf(r.Err).String()+" "+raw)
	}
	want := "dev1 forbidden stolen|dev1 undecodable {|dev1 too-large |dev1 invalid 1|dev1 invalid 1|dev1 invalid 1|dev1 invalid 1"
	if got := strings.Join(trail, "|"); got != want {
		t.Errorf("trail\n got %s\nwant %s", got, want)
	}
}

func TestChunkedBodies(t *testing.T) {
	h := open(t, https.Config{MaxMessageBytes: 100}, &adaptertest.Gate{})
	post := func(n int) int {
		t.Helper()
		body := struct{ *strings.Reader }{strings.NewReader(strings.Repeat("x", n))} // hides its length
		response, err := h.client.Post(h.base+"/v1/devices/dev1/telemetry", "", body)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	if got := post(100); got != 204 {
		t.Errorf("100 bytes: %d", got)
	}
	if got := post(101); got != 413 {
		t.Errorf("101 bytes: %d", got)
	}
	if r := h.gate.Refusals(); len(r) != 1 || len(r[0].Raw) != 100 {
		t.Errorf("trail %+v", r)
	}
}

func TestBackPressureIs503(t *testing.T) {
	gate := &adaptertest.Gate{OnSubmit: func(*device.Message, func(error)) error { return device.Errorf(device.Busy, "the queue is full") }}
	h := open(t, https.Config{}, gate)
	r := h.do("POST", "/v1/devices/dev1/telemetry", "1")
	if p := r.problem(t); r.status != 503 || p.Detail != "the queue is full" || r.header.Get("Retry-After") != "1" {
		t.Errorf("%d %+v %v", r.status, p, r.header)
	}
	gate = &adaptertest.Gate{AuthErr: device.Errorf(device.Unavailable, "no registry")}
	h = open(t, https.Config{}, gate)
	if r := h.do("POST", "/v1/devices/dev1/telemetry", "1"); r.status != 503 || r.header.Get("Retry-After") != "5" {
		t.Errorf("%d %v", r.status, r.header)
	}
}

func TestPanicCostsOneRequest(t *testing.T) {
	gate := &adaptertest.Gate{}
	gate.OnSubmit = func(m *device.Message, done func(error)) error {
		if string(m.Payload) == "boom" {
			panic("boom")
		}
		go done(nil)
		return nil
	}
	h := open(t, https.Config{}, gate)
	if r := h.do("POST", "/v1/devices/dev1/telemetry", "boom"); r.status != 500 || strings.Contains(r.body, "boom") {
		t.Errorf("%d %q", r.status, r.body)
	}
	if r := h.do("POST", "/v1/devices/dev1/telemetry", "fine"); r.status != 204 {
		t.Errorf("%d %q", r.status, r.body)
	}
}

func TestCurl(t *testing.T) {
	curl := peer.Command(t, "curl")
	gate := &adaptertest.Gate{Secrets: map[device.ID]string{dev1: "s3cret"}, RefuseAnonymous: true}
	h := open(t, https.Config{}, gate)
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), curl, append([]string{"-sS", "-m", "10", "-u", "dev1:s3cret", "-w", "%{http_code}"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("curl %v: %v %s", args, err, out)
		}
		return string(out)
	}
	device1 := h.base + "/v1/devices/dev1"
	if got := run("-d", `{"temperature":21.5}`, device1+"/telemetry/room"); got != "204" {
		t.Error(got)
	}
	if got := run("-H", "Transfer-Encoding: chunked", "-H", "Content-Type: application/json", "-d", `{"temperature":21.5}`, device1+"/telemetry/room"); got != "204" {
		t.Error(got)
	}
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run("-H", "Expect: 100-continue", "--data-binary", "@"+large, device1+"/telemetry"); !strings.HasSuffix(got, "413") {
		t.Error(got)
	}
	for _, m := range gate.Stored() {
		if m.ContentType != "application/json" || len(m.Measurements) != 1 || m.Channel != "room" {
			t.Errorf("%+v", m)
		}
	}
	h.send("c1")
	got := run(device1 + "/commands?wait=10s")
	o := one(t, reply{status: 200, body: strings.TrimSuffix(got, "200")})
	if got := run("-d", "lock_token="+o.LockToken, device1+"/commands/c1:accept"); got != "204" {
		t.Error(got)
	}
	if got := run("-d", "done", device1+"/commands/c1/response?status=201"); got != "204" {
		t.Error(got)
	}
	if r := gate.Responses(); len(r) != 1 || r[0].Status != 201 || string(r[0].Payload) != "done" {
		t.Errorf("%+v", r)
	}
	h.wantSettled("c1/1=accepted")
}
