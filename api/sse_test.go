package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
)

// event is one server-sent event; a comment has only text.
type event struct{ name, id, data, comment string }

// events reads server-sent events as a browser does.
type events struct {
	t    *testing.T
	body *bufio.Reader
}

func (r *rest) events(ctx context.Context, path string, headers ...string) *events {
	r.t.Helper()
	resp := r.request(ctx, "GET", path, "", append([]string{"Accept", "text/event-stream"}, headers...)...)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store" {
		raw, _ := io.ReadAll(resp.Body)
		r.t.Fatalf("%s answered %d %v %s", path, resp.StatusCode, resp.Header, raw)
	}
	return &events{r.t, bufio.NewReader(resp.Body)}
}

// next answers the next event or comment; io.EOF at the end.
func (e *events) next() (got event, err error) {
	for {
		line, err := e.body.ReadString('\n')
		if err != nil {
			return got, err
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "event":
			got.name = value
		case "id":
			got.id = value
		case "data":
			got.data = value
		case "": // the end of one, or a comment
			if got.comment = value; value != "" {
				_, err = e.body.ReadString('\n')
			}
			return got, err
		default:
			e.t.Fatalf("%q is no field", line)
		}
	}
}

// must answers the next event that is no comment.
func (e *events) must() event {
	e.t.Helper()
	for {
		got, err := e.next()
		if err != nil {
			e.t.Fatal(err)
		}
		if got.comment == "" {
			return got
		}
	}
}

func TestEventsResume(t *testing.T) {
	r := openREST(t)
	r.feed.follow = stream(several(1, 9, 10))
	const path = "/v1/tenants/default/telemetry:subscribe"
	ctx, cancel := context.WithCancel(t.Context())
	first := r.events(ctx, path+"?position="+at(3))
	var last event
	for n := int64(4); n <= 6; n++ {
		var m struct {
			Device       string
			Position     string
			Measurements []struct{ IntValue string }
		}
		last = first.must()
		if err := json.Unmarshal([]byte(last.data), &m); err != nil || m.Device != "dev1" || last.name != "" || last.id != at(uint64(n)) || m.Position != last.id {
			t.Fatalf("event %d is %+v, %v", n, last, err)
		}
	}
	cancel()
	// Last-Event-ID says more than the position the address still holds.
	again := r.events(t.Context(), path+"?position="+at(3), "Last-Event-ID", last.id)
	if got := again.must(); got.id != at(7) {
		t.Errorf("resumed with %+v", got)
	}
}

func TestEventsBeginAtOnceAndBeat(t *testing.T) {
	r := openREST(t, func(c *api.Config, _ *api.Needs) { c.Heartbeat = time.Millisecond })
	r.feed.follow = stream(nil)
	e := r.events(t.Context(), "/v1/tenants/default/devices/dev1/telemetry:subscribe")
	for _, want := range []string{"connected", "keep-alive", "keep-alive"} {
		if got, err := e.next(); err != nil || got.comment != want {
			t.Fatalf("got %+v, %v, want the comment %q", got, err, want)
		}
	}
	r.server.EndStreams()
	if got := e.must(); got.name != "error" || !strings.Contains(got.data, `"UNAVAILABLE"`) {
		t.Errorf("a stream ended by our stopping is told %+v", got)
	}
	for {
		got, err := e.next()
		if err == io.EOF {
			return
		}
		if err != nil || got.comment != "keep-alive" { // one may have been under way
			t.Fatalf("then %+v, %v", got, err)
		}
	}
}

// keptFrom is a trail of presence that begins at a position.
type keptFrom struct {
	api.Presence
	first uint64
}

func (k keptFrom) Follow(ctx context.Context, _, _ string, after *device.Position, fn func(device.StoredPresence) error) error {
	if after.Seq+1 < k.first {
		return purged{device.Position{Epoch: 1, Seq: k.first}}
	}
	err := fn(device.StoredPresence{Position: device.Position{Epoch: 1, Seq: after.Seq + 1}})
	<-ctx.Done()
	return errors.Join(err, ctx.Err())
}

func TestEventsTellOfAGap(t *testing.T) {
	r := openREST(t, func(_ *api.Config, n *api.Needs) { n.Presence = keptFrom{first: 100} })
	const path = "/v1/tenants/default/presence:watch"
	e := r.events(t.Context(), path, "Last-Event-ID", at(5))
	gap := e.must()
	if gap.name != "gap" || gap.id != at(99) || !strings.Contains(gap.data, `"OUT_OF_RANGE"`) {
		t.Fatalf("told %+v", gap)
	}
	if _, err := e.next(); err != io.EOF {
		t.Errorf("then %v", err)
	}
	if got := r.events(t.Context(), path, "Last-Event-ID", gap.id).must(); got.id != at(100) {
		t.Errorf("connected again: %+v", got)
	}
}

func TestEventsFromThePast(t *testing.T) {
	r := openREST(t)
	r.feed.follow = stream(several(1, 110, 10))
	e := r.events(t.Context(), "/v1/tenants/default/telemetry:subscribe", "Last-Event-ID", at(5))
	for n := uint64(6); n <= 110; n++ {
		if got := e.must(); got.id != at(n) {
			t.Fatalf("event %d is %+v", n, got)
		}
	}
}

func TestEventsOfACommand(t *testing.T) {
	r := openREST(t)
	cmd := device.Command{ID: "c1", Tenant: "default", Device: "dev1", Name: "heat"}
	r.commands.watch = func(_ context.Context, id device.ID, command string, fn func(device.CommandRecord) error) error {
		if id.Tenant != "default" || command != "c1" {
			return device.Errorf(device.NotFound, "no such command")
		}
		record := device.CommandRecord{Command: cmd}
		for _, s := range []device.CommandState{device.StateQueued, device.StateSent, device.StateDelivered, device.StateSucceeded} {
			record.Events = append(slices.Clone(record.Events), device.CommandEvent{Command: "c1", State: s, At: time.Unix(1, 0)})
			if err := fn(record); err != nil {
				return err
			}
		}
		return nil
	}
	e := r.events(t.Context(), "/v1/tenants/default/devices/-/commands/c1:watch")
	for _, want := range []string{"QUEUED", "SENT", "DELIVERED", "SUCCEEDED"} {
		if got := e.must(); got.name != "" || !strings.Contains(got.data, `"state":"COMMAND_STATE_`+want) {
			t.Fatalf("got %+v, want %s", got, want)
		}
	}
	if got := e.must(); got.name != "end" {
		t.Errorf("the end is told as %+v", got)
	}
	if code, p := r.call("GET", "/v1/tenants/default/devices/-/commands/c2:watch", "", "Accept", "text/event-stream"); code != 404 || p["code"] != "NOT_FOUND" {
		t.Errorf("another command is answered %d %v", code, p)
	}
	resp := r.request(t.Context(), "GET", "/v1/tenants/default/devices/-/commands/c1:watch", "")
	raw, err := io.ReadAll(resp.Body)
	if lines := strings.Split(strings.TrimSpace(string(raw)), "\n"); err != nil || len(lines) != 4 || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("without events: %v %d lines: %s, %v", resp.Header, len(lines), raw, err)
	}
}

// TestSlowReadersAreCut has a reader that takes nothing while messages come.
func TestSlowReadersAreCut(t *testing.T) {
	h := open(t, func(c *api.Config, _ *api.Needs) { c.WriteTimeout = 50 * time.Millisecond })
	cut := make(chan struct{})
	h.feed.follow = func(ctx context.Context, _, _ string, _ *device.Position, fn func(device.Stored) error) error {
		defer close(cut)
		for n := 1; ; n++ {
			if err := fn(stored(n, 100_000)); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	front := httptest.NewServer(h.server.Handler())
	defer front.Close()
	conn, err := net.Dial("tcp", front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v1/tenants/default/telemetry:subscribe HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nAuthorization: Bearer "+token+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-cut:
	case <-time.After(30 * time.Second):
		t.Fatal("a reader that takes nothing is still served")
	}
}

func TestStreamsAreBounded(t *testing.T) {
	r := openREST(t, func(c *api.Config, _ *api.Needs) { c.MaxRESTStreams = 2 })
	r.feed.follow = stream(nil)
	const path = "/v1/tenants/default/telemetry:subscribe"
	ctx, cancel := context.WithCancel(t.Context())
	r.events(ctx, path)
	r.events(t.Context(), path)
	resp := r.request(t.Context(), "GET", path, "", "Accept", "text/event-stream")
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the third is answered %d %v", resp.StatusCode, resp.Header)
	}
	cancel()
	deadline := time.Now().Add(10 * time.Second)
	for {
		resp := r.request(t.Context(), "GET", path, "", "Accept", "text/event-stream")
		if resp.StatusCode == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a place that became free is not given again")
		}
		time.Sleep(10 * time.Millisecond)
	}
}
