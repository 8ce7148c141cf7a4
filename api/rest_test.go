package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
)

// rest is the REST form of a house, on a free port.
type rest struct {
	*house
	t    *testing.T
	base string
}

func openREST(t *testing.T, change ...func(*api.Config, *api.Needs)) *rest {
	h := open(t, change...)
	front := httptest.NewServer(h.server.Handler())
	t.Cleanup(func() { h.server.EndStreams(); front.Close() })
	return &rest{house: h, t: t, base: front.URL}
}

// request makes one with the token; headers come as pairs.
func (r *rest) request(ctx context.Context, method, path, body string, headers ...string) *http.Response {
	r.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// call answers the status and the JSON of an answer.
func (r *rest) call(method, path, body string, headers ...string) (int, map[string]any) {
	r.t.Helper()
	resp := r.request(r.t.Context(), method, path, body, headers...)
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		r.t.Fatalf("%s %s answered %d %q", method, path, resp.StatusCode, raw)
	}
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode >= 400 && kind != "application/problem+json" {
		r.t.Errorf("a refusal is %q", kind)
	}
	return resp.StatusCode, out
}

func TestRESTSaysWhatGRPCSays(t *testing.T) {
	r := openREST(t)
	code, made := r.call("POST", "/v1/tenants/acme/devices", `{"deviceId":"50% off – a:b@c"}`)
	if code != 200 || made["secret"] != "secret of 50% off – a:b@c" || made["name"] != "tenants/acme/devices/50%25 off – a:b@c" {
		t.Fatalf("answered %d %v", code, made)
	}
	// A name in a path is escaped once, as it would be anywhere.
	for _, path := range []string{"50%25%20off%20%E2%80%93%20a:b@c", "50%25%20off%20%e2%80%93%20a%3Ab%40c"} {
		if code, got := r.call("GET", "/v1/tenants/acme/devices/"+path, ""); code != 200 || got["device"] != "50% off – a:b@c" || got["disabled"] != nil {
			t.Errorf("%s answered %d %v", path, code, got)
		}
		if code, got := r.call("POST", "/v1/tenants/acme/devices/"+path+":disable", ""); code != 200 || got["disabled"] != true {
			t.Errorf("%s answered %d %v", path, code, got)
		}
		r.call("POST", "/v1/tenants/acme/devices/"+path+":enable", "{}")
	}
	if code, got := r.call("DELETE", "/v1/tenants/acme/devices/50%25%20off%20%E2%80%93%20a:b@c", ""); code != 200 || len(got) != 0 {
		t.Errorf("DELETE answered %d %v", code, got)
	}
	r.store.messages = several(1, 3, 10)
	code, page := r.call("GET", "/v1/tenants/default/devices/dev1/telemetry?pageSize=2&since=2020-01-01T00:00:00Z&channel=room", "")
	if code != 200 || len(page["messages"].([]any)) != 2 || page["nextPageToken"] == nil || r.store.asked.Since.IsZero() || *r.store.asked.Channel != "room" {
		t.Errorf("answered %d %v, asked for %v", code, page, r.store.asked)
	}
	code, page = r.call("GET", "/v1/tenants/default/devices/dev1/telemetry?page_size=2&page_token="+page["nextPageToken"].(string), "")
	if code != 200 || len(page["messages"].([]any)) != 1 {
		t.Errorf("the second page answered %d %v", code, page)
	}
}

func TestRESTProblems(t *testing.T) {
	r := openREST(t)
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{device.Errorf(device.Invalid, "why"), 400, "INVALID_ARGUMENT"},
		{device.Errorf(device.Forbidden, "why"), 403, "PERMISSION_DENIED"},
		{device.Errorf(device.NotFound, "why"), 404, "NOT_FOUND"},
		{device.Errorf(device.Conflict, "why"), 409, "ALREADY_EXISTS"},
		{device.Errorf(device.Precondition, "why"), 400, "FAILED_PRECONDITION"},
		{device.Errorf(device.Busy, "why"), 429, "RESOURCE_EXHAUSTED"},
		{device.Wrap(device.Unavailable, "why", errors.New("password=hunter2")), 503, "UNAVAILABLE"},
		{errors.New("password=hunter2"), 500, "INTERNAL"},
		{context.DeadlineExceeded, 504, "DEADLINE_EXCEEDED"},
	} {
		r.devices.get = func(device.ID) error { return c.err }
		status, p := r.call("GET", "/v1/tenants/t/devices/d", "")
		detail := "why"
		switch c.code {
		case "INTERNAL":
			detail = "internal error"
		case "DEADLINE_EXCEEDED":
			detail = "the call's deadline has passed"
		}
		kind := "urn:tributary:problem:" + strings.ToLower(strings.ReplaceAll(c.code, "_", "-"))
		if status != c.status || p["status"] != float64(c.status) || p["code"] != c.code || p["detail"] != detail || p["type"] != kind || p["title"] == "" {
			t.Errorf("%v is told as %d %v", c.err, status, p)
		}
	}
	r.devices.get = nil
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/v1/nothing", "", 404, "openapi.json"},
		{"PUT", "/v1/tenants/t/devices/d", "", 405, "PUT"},
		{"GET", "/v1/tenants/t/devices/d/telemetry?sicne=2020-01-01T00:00:00Z", "", 400, "since"},
		{"GET", "/v1/tenants/t/devices/d/telemetry?since=yesterday", "", 400, "since"},
		{"GET", "/v1/tenants/t/devices/d/telemetry?pageSize=-1", "", 400, "negative"},
		{"GET", "/v1/tenants/t/devices/-/telemetry", "", 400, "any device"},
		{"GET", "/v1/tenants/-/devices/d", "", 400, "tenant"},
		{"GET", "/v1/tenants/t%2Fu/devices/d", "", 400, "tenant"},
		{"POST", "/v1/tenants/t/devices", `{"deviceid":"d"}`, 400, "deviceid"},
		{"POST", "/v1/tenants/t/devices", `{"deviceId":`, 400, ""},
		{"POST", "/v1/tenants/t/devices/d/commands", `{"payload":"` + strings.Repeat("A", 5<<20) + `"}`, 413, "limit"},
		{"GET", "/v1/tenants/t/devices/d/commands/c:watch?x=y", "", 400, "none"},
	} {
		if status, p := r.call(c.method, c.path, c.body); status != c.status || !strings.Contains(p["detail"].(string), c.says) {
			t.Errorf("%s %s answered %d %v, want %d with %q", c.method, c.path, status, p, c.status, c.says)
		}
	}
}

func TestRESTNeedsTheToken(t *testing.T) {
	r := openREST(t)
	for _, auth := range []string{"", "Bearer wrong", "Basic " + token, token} {
		for _, headers := range [][]string{{}, {"Accept", "text/event-stream"}} {
			for _, path := range []string{"/v1/tenants/t/devices/d", "/v1/tenants/t/telemetry:subscribe"} {
				resp := r.request(t.Context(), "GET", path, "", append(headers, "Authorization", auth)...)
				raw, _ := io.ReadAll(resp.Body)
				if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != "Bearer" || !bytes.Contains(raw, []byte(`"UNAUTHENTICATED"`)) ||
					resp.Header.Get("Content-Type") != "application/problem+json" {
					t.Errorf("%s with %q is answered %d %v %s", path, auth, resp.StatusCode, resp.Header, raw)
				}
			}
		}
	}
	// Metadata that would be the gateway's own is not taken from headers.
	resp := r.request(t.Context(), "GET", "/v1/tenants/t/devices/d", "", "Authorization", "", "Grpc-Metadata-Authorization", "Bearer "+token)
	if resp.StatusCode != 401 {
		t.Errorf("a header that is metadata is answered %d", resp.StatusCode)
	}
}

func TestRESTHasNoCORS(t *testing.T) {
	r := openREST(t)
	resp := r.request(t.Context(), "GET", "/v1/tenants/t/devices", "", "Origin", "https://example.org")
	if resp.StatusCode != 200 || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("answered %d %v", resp.StatusCode, resp.Header)
	}
	resp = r.request(t.Context(), "OPTIONS", "/v1/tenants/t/devices", "", "Origin", "https://example.org", "Access-Control-Request-Method", "GET")
	if resp.StatusCode < 400 || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a preflight is answered %d %v", resp.StatusCode, resp.Header)
	}
}

func TestRESTWithoutAGRPCListener(t *testing.T) {
	s, err := api.Open(api.Config{Addr: api.Off, Token: token},
		api.Needs{Devices: &fakeDevices{}, Commands: &fakeCommands{}, Reader: &fakeStore{}, Feed: &fakeFeed{}})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	front := httptest.NewServer(s.Handler())
	defer front.Close()
	r := &rest{t: t, base: front.URL}
	if code, p := r.call("GET", "/v1/tenants/t/devices/d", ""); code != 404 || p["code"] != "NOT_FOUND" || s.Addr() != nil {
		t.Errorf("answered %d %v", code, p)
	}
	for range 2 {
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if code, p := r.call("GET", "/v1/tenants/t/devices/d", ""); code < 499 {
		t.Errorf("after Shutdown: %d %v", code, p)
	}
}
