package https_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/https"
)

const commands = "/v1/devices/dev1/commands"

func TestPollShowsTheCommand(t *testing.T) {
	bubble(t, https.Config{}, &adaptertest.Gate{}, func(h *house) {
		h.send("c1")
		start := time.Now()
		r := h.do("GET", commands+"?wait=30s", "")
		if h.gate.Sessions(dev1) != 1 {
			t.Errorf("%d sessions", h.gate.Sessions(dev1))
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(r.body), &got); err != nil || r.status != 200 {
			t.Fatalf("%d %q", r.status, r.body)
		}
		token, _ := got["lock_token"].(string)
		if len(token) < 26 {
			t.Errorf("lock_token %q can be guessed", token)
		}
		want := map[string]any{"id": "c1", "name": "heat", "payload": "eyJvbiI6dHJ1ZX0=", "content_type": "application/json",
			"deadline": start.Add(time.Hour).UTC().Format(time.RFC3339Nano), "attempt": 1.0, "lock_token": token,
			"lock_until": start.Add(30 * time.Second).UTC().Format(time.RFC3339Nano)}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s is %v, want %v", k, got[k], v)
			}
		}
		if len(got) != len(want) || r.header.Get("Content-Type") != "application/json" || r.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v %v", got, r.header)
		}
		h.wantSettled("")
	})
}

func TestPollWaits(t *testing.T) {
	bubble(t, https.Config{MaxWait: 50 * time.Second}, &adaptertest.Gate{}, func(h *house) {
		for query, wait := range map[string]time.Duration{
			"": 300 * time.Millisecond, "?wait=0": 300 * time.Millisecond, "?wait=30s": 30 * time.Second,
			"?wait=20": 20 * time.Second, "?wait=10m": 50 * time.Second,
		} {
			start := time.Now()
			if r := h.do("GET", commands+query, ""); r.status != 204 || r.body != "" || time.Since(start) != wait {
				t.Errorf("%q: %d after %v, want 204 after %v", query, r.status, time.Since(start), wait)
			}
		}
		answer := h.begin(context.Background(), "GET", commands+"?wait=30s", "")
		time.Sleep(29 * time.Second)
		h.send("c1")
		if o := one(t, <-answer); o.ID != "c1" {
			t.Errorf("%+v", o)
		}
	})
}

func TestPollRefusesNonsense(t *testing.T) {
	h := open(t, https.Config{}, &adaptertest.Gate{})
	for _, query := range []string{"?wait=soon", "?wait=-1s", "?lock=x", "?max=0", "?max=x", "?ack=maybe", "?a;b"} {
		if p := h.do("GET", commands+query, "").problem(t); p.Status != 400 {
			t.Errorf("%q: %+v", query, p)
		}
	}
}

func TestAckAuto(t *testing.T) {
	bubble(t, https.Config{}, &adaptertest.Gate{}, func(h *house) {
		h.send("c1", "c2")
		for range 2 {
			if o := h.poll("?ack=auto"); o.LockToken != "" || !o.LockUntil.IsZero() {
				t.Errorf("%+v has a lock", o)
			}
			synctest.Wait()
		}
		h.wantSettled("c1/1=unconfirmed c2/1=unconfirmed")
	})
}

func TestPollForSeveral(t *testing.T) {
	bubble(t, https.Config{}, &adaptertest.Gate{}, func(h *house) {
		many := func(query string) (ids string) {
			t.Helper()
			var list []offer
			r := h.do("GET", commands+query, "")
			if err := json.Unmarshal([]byte(r.body), &list); r.status != 200 || err != nil {
				t.Fatalf("%d %q", r.status, r.body)
			}
			for _, o := range list {
				ids += o.ID
			}
			return ids
		}
		h.send("a", "b", "c", "d")
		if got := many("?max=3&wait=9s"); got != "abc" {
			t.Errorf("first %q", got)
		}
		if got := many("?max=3&wait=9s"); got != "d" {
			t.Errorf("second %q", got)
		}
		if r := h.do("GET", commands+"?max=3", ""); r.status != 204 {
			t.Errorf("%d %q", r.status, r.body)
		}
	})
}
