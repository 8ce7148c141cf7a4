package https_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/https"
)

// events is an open event stream.
type events struct {
	*http.Response
	lines *bufio.Scanner
}

func (h *house) stream(ctx context.Context, query string) *events {
	h.t.Helper()
	request, err := http.NewRequestWithContext(ctx, "GET", h.base+commands+query, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	request.Header.Set("Accept", "text/event-stream")
	response, err := h.client.Do(request)
	if err != nil {
		h.t.Fatal(err)
	}
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "text/event-stream" {
		h.t.Fatalf("%d %v", response.StatusCode, response.Header)
	}
	return &events{response, bufio.NewScanner(response.Body)}
}

// next is the lines of the next event or comment; "" at the end.
func (e *events) next() string {
	var lines []string
	for e.lines.Scan() && e.lines.Text() != "" {
		lines = append(lines, e.lines.Text())
	}
	return strings.Join(lines, "|")
}

func (e *events) offer(t *testing.T) (o offer) {
	t.Helper()
	event := e.next()
	head, data, _ := strings.Cut(event, "|data: ")
	if err := json.Unmarshal([]byte(data), &o); err != nil || head != "id: "+o.ID+"|event: command" {
		t.Fatalf("event %q: %v", event, err)
	}
	return o
}

func TestEventStream(t *testing.T) {
	bubble(t, https.Config{Heartbeat: 15 * time.Second}, &adaptertest.Gate{}, func(h *house) {
		e := h.stream(context.Background(), "?max=2")
		if got := e.next(); got != ": ready" {
			t.Errorf("%q", got)
		}
		start := time.Now()
		for range 20 { // well beyond every timeout of an ordinary request
			if got := e.next(); got != ": keep-alive" {
				t.Fatalf("%q", got)
			}
		}
		if since := time.Since(start); since != 300*time.Second {
			t.Errorf("20 heartbeats took %v", since)
		}
		h.send("c1", "c2", "c3")
		c1, c2 := e.offer(t), e.offer(t)
		if c1.ID != "c1" || c2.ID != "c2" || h.gate.Queued(dev1) != 1 {
			t.Errorf("%+v %+v, %d queued: the window is two", c1, c2, h.gate.Queued(dev1))
		}
		if r := h.do("POST", commands+"/c1:accept", "lock_token="+c1.LockToken); r.status != 204 {
			t.Errorf("%d %q", r.status, r.body)
		}
		if c3 := e.offer(t); c3.ID != "c3" {
			t.Errorf("%+v", c3)
		}
		for e.next() == ": keep-alive" && h.settled() == "c1/1=accepted" {
		}
		synctest.Wait()
		if got := h.settled(); !strings.Contains(got, "c2/1=expired") || !strings.Contains(got, "c3/1=expired") {
			t.Errorf("settled %q", got) // both at once, in either order
		}
		e.Body.Close()
	})
}

func TestEventStreamAckAuto(t *testing.T) {
	bubble(t, https.Config{}, &adaptertest.Gate{}, func(h *house) {
		ctx, cancel := context.WithCancel(context.Background())
		e := h.stream(ctx, "?ack=auto&max=1")
		e.next()
		h.send("c1", "c2", "c3")
		for _, id := range []string{"c1", "c2", "c3"} {
			if o := e.offer(t); o.ID != id || o.LockToken != "" {
				t.Errorf("%+v", o)
			}
		}
		synctest.Wait()
		h.wantSettled("c1/1=unconfirmed c2/1=unconfirmed c3/1=unconfirmed")
		cancel()
		e.Body.Close()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := h.gate.Sessions(dev1); n != 0 {
			t.Errorf("%d sessions after the client left", n)
		}
	})
}

func TestEventStreamEnds(t *testing.T) {
	bubble(t, https.Config{Heartbeat: 15 * time.Second}, &adaptertest.Gate{}, func(h *house) {
		e := h.stream(context.Background(), "?wait=40s")
		start := time.Now()
		var got []string
		for line := e.next(); line != ""; line = e.next() {
			got = append(got, line)
		}
		if err := e.lines.Err(); err != nil || time.Since(start) != 40*time.Second || strings.Join(got, "") != ": ready: keep-alive: keep-alive: end" {
			t.Errorf("%q after %v: %v", got, time.Since(start), err)
		}
		e = h.stream(context.Background(), "")
		e.next()
		stopped := make(chan struct{})
		go func() { h.stop(); close(stopped) }()
		if got, rest, err := e.next(), e.next(), e.lines.Err(); got != ": end" || rest != "" || err != nil {
			t.Errorf("at the drain: %q %q, %v", got, rest, err)
		}
		<-stopped
	})
}
