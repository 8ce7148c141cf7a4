package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// apiTour is how each shell block of docs/api.md is known, and what it prints.
var apiTour = []struct {
	about string
	shows []string
}{
	{"admin.token", []string{`"channel":"room"`, `"doubleValue":21.5`}},
	{"token create dashboard", []string{"dashboard", "viewer", `"temperature"`}},
	{"-X POST", []string{`"code":"PERMISSION_DENIED"`, "CreateDevice", `is for tenant \"default\" only`}},
	{`"command":"heat"`, []string{`"sender":"operator"`, `"state":"COMMAND_STATE_QUEUED"`, `"commands":[`}},
	{"text/event-stream", []string{": connected", "id: ", `data: {"tenant":"default"`}},
	{"token rm dashboard", []string{"dashboard removed", `"code":"UNAUTHENTICATED"`}},
}

// TestAPIPage types what docs/api.md says; only the ports are others.
func TestAPIPage(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	usual, err := parseServe()
	r.must(err)
	at := map[string]string{}
	raw, err := os.ReadFile(filepath.Join(r.dir, "data", addressesFile))
	r.must(err)
	r.must(json.Unmarshal(raw, &at))
	r.ports = strings.NewReplacer(usual.HTTP, at["http"], usual.Admin, at["admin"])
	blocks := shellBlocks(t, "../../docs/api.md", "## A first look")
	if len(blocks) != len(apiTour) {
		t.Fatalf("the page has %d shell blocks, want %d", len(blocks), len(apiTour))
	}
	for i, step := range apiTour {
		if !strings.Contains(blocks[i], step.about) {
			t.Fatalf("block %d is %q, want the one with %q", i, blocks[i], step.about)
		}
		if strings.Contains(blocks[i], "event-stream") {
			cmd, printed := r.start("exec " + blocks[i])
			again, _, _ := strings.Cut(blocks[0], "\n\n")
			eventually(t, blocks[i], func() bool { r.run(again); return len(lacks(printed(), step.shows)) == 0 })
			r.must(cmd.Process.Kill())
			_ = cmd.Wait()
			continue
		}
		if printed := r.run(blocks[i]); len(lacks(printed, step.shows)) > 0 {
			t.Fatalf("%s\nprinted no %q:\n%s", blocks[i], lacks(printed, step.shows), printed)
		}
	}
}

// restOf makes REST calls of a server with one token.
type restOf struct {
	t     *testing.T
	base  string
	token string
}

func (r restOf) get(ctx context.Context, path string, headers ...string) *http.Response {
	r.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", r.base+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
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

func (r restOf) code(path string) (int, string) {
	resp := r.get(r.t.Context(), path)
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// newToken makes one, and answers its text and a file that holds it.
func (s *server) newToken(name, role, tenant string) (text, file string) {
	s.t.Helper()
	made := parseLines[struct{ Secret string }](s.t, s.client("token", "create", name, "--role", role, "--tenant", tenant, "-o", "json"))
	file = filepath.Join(s.t.TempDir(), name)
	if err := os.WriteFile(file, []byte(made[0].Secret), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return made[0].Secret, file
}

// speaker registers a device and answers what sends its telemetry.
func (s *server) speaker(user string) func(body string) {
	s.t.Helper()
	added := parseLines[struct{ Secret string }](s.t, s.client("device", "add", user, "-o", "json"))
	return func(body string) {
		s.t.Helper()
		req, err := http.NewRequestWithContext(s.t.Context(), "POST", "http://"+s.addresses["http"]+"/v1/devices/dev1/telemetry", strings.NewReader(body))
		if err != nil {
			s.t.Fatal(err)
		}
		req.SetBasicAuth(user, added[0].Secret)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode/100 != 2 {
			s.t.Fatalf("%v %v", resp, err)
		}
		resp.Body.Close()
	}
}

// TestATenantSeesNothingOfAnother: what tenant a has, with a token of b, over
// the command line and REST, page tokens and positions of a included.
func TestATenantSeesNothingOfAnother(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	sayA, sayB := s.speaker("dev1@a"), s.speaker("dev1@b")
	sayA(`{"canary":1}`)
	sayA(`{"canary":2}`)
	sent := parseLines[struct{ ID string }](t, s.client("send", "--tenant", "a", "dev1", "canary", "-o", "json"))
	base := "http://" + s.addresses["admin"]
	ofA, _ := s.newToken("admin-a", "admin", "a")
	ofB, fileB := s.newToken("admin-b", "admin", "b")
	a, b := restOf{t, base, ofA}, restOf{t, base, ofB}
	code, page := a.code("/v1/tenants/a/devices/dev1/telemetry?pageSize=1")
	var first struct {
		NextPageToken string
		Messages      []struct{ Position string }
	}
	if err := json.Unmarshal([]byte(page), &first); err != nil || code != 200 || first.NextPageToken == "" {
		t.Fatalf("a's own token is answered %d %s", code, page)
	}
	for _, path := range []string{
		"/devices/dev1", "/devices", "/devices/dev1/telemetry", "/telemetry:latest", "/telemetry:subscribe", "/devices/-/commands",
		"/devices/-/commands/" + sent[0].ID, "/devices/dev1/commands/" + sent[0].ID + ":watch", "/tokens", "/sessions", "/presence:watch",
		"/devices/dev1/telemetry:points?measurement=canary",
	} {
		if code, got := b.code("/v1/tenants/a" + path); code != 403 || strings.Contains(got, "canary") {
			t.Errorf("b's token about a: %s is answered %d %s", path, code, got)
		}
		if strings.Contains(path, ":watch") || strings.Contains(path, ":subscribe") {
			continue // live
		}
		if code, got := b.code("/v1/tenants/b" + path); code != 200 && code != 404 || strings.Contains(got, "canary") {
			t.Errorf("%s of b itself is answered %d %s", path, code, got)
		}
	}
	if code, got := b.code("/v1/tenants/b/devices/-/commands/" + sent[0].ID); code != 404 {
		t.Errorf("a's command by its id alone is answered %d %s", code, got)
	}
	if code, got := b.code("/v1/tenants/b/devices/dev1/telemetry?pageSize=1&pageToken=" + first.NextPageToken); strings.Contains(got, "canary") {
		t.Errorf("a's page token is answered %d %s", code, got)
	}
	live := b.get(t.Context(), "/v1/tenants/b/telemetry:subscribe")
	sayA(`{"canary":3}`)
	sayB(`{"own":1}`)
	if line, err := bufio.NewReader(live.Body).ReadString('\n'); err != nil || !strings.Contains(line, `"own"`) {
		t.Errorf("b hears %q, %v", line, err)
	}
	if out, err := s.tryClient("query", "--device", "dev1@a", "--token-file", fileB); err == nil || !strings.Contains(out, `only`) {
		t.Errorf("the command line shows %q", out)
	}
	s.stop()
}

// TestARemovedTokenEndsWhatItOpened on the real server, over gRPC (the command
// line) and REST, and stays removed over a restart.
func TestARemovedTokenEndsWhatItOpened(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := serve(t, data)
	text, file := s.newToken("watcher", "viewer", "default")
	kept, _ := s.newToken("kept", "viewer", "default")
	events := restOf{t, "http://" + s.addresses["admin"], text}.get(t.Context(), "/v1/tenants/default/telemetry:subscribe", "Accept", "text/event-stream")
	if line, err := bufio.NewReader(events.Body).ReadString('\n'); err != nil || events.StatusCode != 200 || line != ": connected\n" {
		t.Fatalf("%d %q %v", events.StatusCode, line, err)
	}
	tail := program(t.Context(), "tail", "--data", data, "--token-file", file)
	ended := make(chan error, 1)
	running := s.metric("tributary_api_calls_running", `method="/tributary.v1.TelemetryService/Subscribe"`)
	if err := tail.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- tail.Wait() }()
	eventually(t, "tail", func() bool {
		return s.metric("tributary_api_calls_running", `method="/tributary.v1.TelemetryService/Subscribe"`) > running
	})
	removed := time.Now()
	s.client("token", "rm", "watcher")
	if got, _ := io.ReadAll(events.Body); !strings.Contains(string(got), `"UNAUTHENTICATED"`) {
		t.Errorf("the stream of events ended with %q", got)
	}
	if err := <-ended; err == nil {
		t.Error("tail ended as if all were well")
	}
	t.Logf("ended %v after `token rm` was begun", time.Since(removed))
	s.stop()
	s = serve(t, data)
	base := "http://" + s.addresses["admin"]
	if code, got := (restOf{t, base, text}).code("/v1/tenants/default/telemetry:latest"); code != 401 {
		t.Errorf("after a restart the removed one is answered %d %s", code, got)
	}
	if code, got := (restOf{t, base, kept}).code("/v1/tenants/default/telemetry:latest"); code != 200 {
		t.Errorf("after a restart the other is answered %d %s", code, got)
	}
	s.stop()
	if strings.Contains(s.log.String(), kept) || strings.Contains(s.log.String(), text) {
		t.Error("the log holds a token")
	}
}
