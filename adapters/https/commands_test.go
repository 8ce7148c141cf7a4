package https_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/https"
	"github.com/tributary-iot/tributary/device"
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

func TestSettle(t *testing.T) {
	bubble(t, https.Config{}, &adaptertest.Gate{}, func(h *house) {
		settle := func(o offer, verb, query, body string) reply {
			return h.do("POST", commands+"/"+o.ID+":"+verb+query, body)
		}
		h.send("c1", "c2", "c3")
		c1 := h.poll("")
		for what, r := range map[string]reply{
			"a token of nothing":     settle(c1, "accept", "?lock_token=guess", ""),
			"another command":        settle(offer{ID: "c9"}, "accept", "?lock_token="+c1.LockToken, ""),
			"another device's token": h.do("POST", "/v1/devices/dev2/commands/c1:accept?lock_token="+c1.LockToken, ""),
		} {
			if p := r.problem(t); p.Status != 409 || p.Type != "urn:tributary:problem:conflict" {
				t.Errorf("%s: %+v", what, p)
			}
		}
		for _, body := range []string{"", "{", `{"lock_token":""}`, `{"lock_token":7}`, "lock_token=x&reason=" + strings.Repeat("r", 257)} {
			if p := settle(c1, "accept", "", body).problem(t); p.Status != 400 {
				t.Errorf("body %q: %+v", body, p)
			}
		}
		if r := settle(c1, "accept", "", `{"lock_token":"`+c1.LockToken+`"}`); r.status != 204 {
			t.Errorf("accept: %d %q", r.status, r.body)
		}
		if r := settle(c1, "accept", "?lock_token="+c1.LockToken, ""); r.status != 409 {
			t.Errorf("a second accept: %d", r.status)
		}
		c2 := h.poll("")
		if r := settle(c2, "reject", "?lock_token="+c2.LockToken, "reason=too+hot"); r.status != 204 {
			t.Errorf("reject: %d %q", r.status, r.body)
		}
		c3 := h.poll("")
		if r := settle(c3, "release", "", "lock_token="+c3.LockToken); r.status != 204 {
			t.Errorf("release: %d %q", r.status, r.body)
		}
		if again := h.poll(""); again.ID != "c3" || again.Attempt != 2 || again.LockToken == c3.LockToken {
			t.Errorf("%+v", again)
		}
		if r := settle(c3, "accept", "", "lock_token="+c3.LockToken); r.status != 409 {
			t.Errorf("the token of the first attempt: %d", r.status)
		}
		h.wantSettled("c1/1=accepted c2/1=rejected c3/1=released")
		if reason := h.gate.SettledAll()[1].Outcome.Reason; reason != "too hot" {
			t.Errorf("reason %q", reason)
		}
	})
}

func TestLockExpires(t *testing.T) {
	bubble(t, https.Config{}, &adaptertest.Gate{}, func(h *house) {
		h.send("c1")
		first := h.poll("?lock=5s")
		time.Sleep(5*time.Second - 1)
		synctest.Wait()
		h.wantSettled("")
		time.Sleep(1)
		synctest.Wait()
		h.wantSettled("c1/1=expired")
		if r := h.do("POST", commands+"/c1:accept?lock_token="+first.LockToken, ""); r.status != 409 {
			t.Errorf("%d", r.status)
		}
		if again := h.poll(""); again.Attempt != 2 {
			t.Errorf("%+v", again)
		}
	})
}

func TestSettleFailuresKeepTheLock(t *testing.T) {
	gate := &failingGate{Gate: &adaptertest.Gate{}}
	bubbleOn(t, https.Config{}, gate.Gate, gate, func(h *house) {
		h.send("c1")
		o := h.poll("?lock=1m")
		gate.settleErr = device.Errorf(device.Unavailable, "not now")
		if r := h.do("POST", commands+"/c1:accept?lock_token="+o.LockToken, ""); r.status != 503 {
			t.Errorf("%d", r.status)
		}
		gate.settleErr = nil
		if r := h.do("POST", commands+"/c1:accept?lock_token="+o.LockToken, ""); r.status != 204 {
			t.Errorf("%d %q", r.status, r.body)
		}
		h.wantSettled("c1/1=accepted")
	})
}

// failingGate can fail to attach and to settle.
type failingGate struct {
	*adaptertest.Gate
	attachErr, settleErr error
}

func (g *failingGate) Attach(ctx context.Context, s device.Session, offer func(device.Delivery), lost func()) (adapters.Attachment, error) {
	if g.attachErr != nil {
		return nil, g.attachErr
	}
	a, err := g.Gate.Attach(ctx, s, offer, lost)
	return &failingAttachment{a, g}, err
}

type failingAttachment struct {
	adapters.Attachment
	gate *failingGate
}

func (a *failingAttachment) Settle(id string, attempt int, o device.Outcome, done func(error)) {
	if err := a.gate.settleErr; err != nil {
		go done(err)
		return
	}
	a.Attachment.Settle(id, attempt, o, done)
}

func TestAttachFails(t *testing.T) {
	gate := &failingGate{Gate: &adaptertest.Gate{}, attachErr: device.Errorf(device.Unavailable, "no leases")}
	bubbleOn(t, https.Config{}, gate.Gate, gate, func(h *house) {
		if r := h.do("GET", commands, ""); r.status != 503 {
			t.Errorf("%d", r.status)
		}
		gate.attachErr = errors.New("secret cause")
		if r := h.do("GET", commands, ""); r.status != 500 || strings.Contains(r.body, "secret") {
			t.Errorf("%d %q", r.status, r.body)
		}
		gate.attachErr = nil
		h.send("c1")
		h.poll("")
	})
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

func TestTwoPollsShareOneSession(t *testing.T) {
	bubble(t, https.Config{}, &adaptertest.Gate{}, func(h *house) {
		first := h.begin(context.Background(), "GET", commands+"?wait=30s", "")
		second := h.begin(context.Background(), "GET", commands+"?wait=30s", "")
		synctest.Wait()
		if n := h.gate.Sessions(dev1); n != 1 {
			t.Errorf("%d sessions", n)
		}
		h.send("c1", "c2")
		one1, one2 := one(t, <-first), one(t, <-second)
		if one1.ID == one2.ID || one1.Attempt != 1 || one2.Attempt != 1 {
			t.Errorf("%+v %+v", one1, one2)
		}
	})
}

func TestTooManyPolls(t *testing.T) {
	bubble(t, https.Config{MaxPolls: 2}, &adaptertest.Gate{}, func(h *house) {
		first := h.begin(context.Background(), "GET", commands+"?wait=30s", "")
		second := h.begin(context.Background(), "GET", commands+"?wait=30s", "")
		synctest.Wait()
		if r := h.do("GET", commands, ""); r.status != 503 || r.header.Get("Retry-After") == "" {
			t.Errorf("%d", r.status)
		}
		<-first
		<-second
	})
}

// A poll that ends leaves credit behind: what comes by it waits a moment for
// the next poll, then goes back.
func TestCommandBetweenPolls(t *testing.T) {
	bubble(t, https.Config{Linger: 2 * time.Second}, &adaptertest.Gate{}, func(h *house) {
		h.do("GET", commands, "")
		h.send("c1")
		time.Sleep(time.Second)
		if o := h.poll(""); o.ID != "c1" || o.Attempt != 1 {
			t.Errorf("within the linger: %+v", o)
		}
		h.do("GET", commands, "") // leaves credit; c1 is still locked
		h.send("c2")
		synctest.Wait()
		h.wantSettled("")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		h.wantSettled("c2/1=released")
	})
}

func TestSessionEnds(t *testing.T) {
	bubble(t, https.Config{Linger: 2 * time.Second}, &adaptertest.Gate{}, func(h *house) {
		wantSessions := func(when string, want int) {
			t.Helper()
			synctest.Wait()
			if n := h.gate.Sessions(dev1); n != want {
				t.Errorf("%s: %d sessions, want %d", when, n, want)
			}
		}
		h.do("GET", commands, "")
		wantSessions("after the poll", 1)
		time.Sleep(2 * time.Second)
		wantSessions("after the linger", 0)
		h.send("c1")
		h.poll("?lock=20s")
		time.Sleep(19 * time.Second)
		wantSessions("while a lock is held", 1)
		time.Sleep(3 * time.Second)
		wantSessions("after the lock", 0)
		if n := h.gate.Queued(dev1); n != 1 {
			t.Errorf("%d commands queued, want the one whose lock ran out", n)
		}
	})
}

func TestClientLeavesItsPoll(t *testing.T) {
	bubble(t, https.Config{}, &adaptertest.Gate{}, func(h *house) {
		ctx, cancel := context.WithCancel(context.Background())
		gone := h.begin(ctx, "GET", commands+"?wait=30s", "")
		synctest.Wait()
		cancel()
		<-gone
		synctest.Wait()
		h.send("c1")
		if o := h.poll(""); o.ID != "c1" || o.Attempt != 1 {
			t.Errorf("%+v", o)
		}
		h.wantSettled("")
	})
}

func TestNewerSessionTakesOver(t *testing.T) {
	bubble(t, https.Config{}, &adaptertest.Gate{}, func(h *house) {
		h.send("c1")
		o := h.poll("?lock=1m")
		offered := make(chan device.Delivery, 1)
		mqtt, err := h.gate.Attach(context.Background(), device.Session{Device: dev1, Protocol: device.MQTT},
			func(d device.Delivery) { offered <- d }, func() {})
		if err != nil {
			t.Fatal(err)
		}
		mqtt.Request(1)
		if d := <-offered; d.Command.ID != "c1" || d.Attempt != 2 {
			t.Errorf("%+v", d)
		}
		synctest.Wait()
		if r := h.do("POST", commands+"/c1:accept?lock_token="+o.LockToken, ""); r.status != 409 {
			t.Errorf("the lock of the older session: %d", r.status)
		}
		mqtt.Settle("c1", 2, device.Outcome{Kind: device.Accepted}, nil)

		// A poll is the device saying that it now stands here.
		h.send("c2")
		if o := h.poll("?wait=9s"); o.ID != "c2" {
			t.Errorf("%+v", o)
		}
		mqtt.Detach("bye")
	})
}

func TestLeaseComesBackToAWaitingPoll(t *testing.T) {
	bubble(t, https.Config{}, &adaptertest.Gate{}, func(h *house) {
		waiting := h.begin(context.Background(), "GET", commands+"?wait=50s", "")
		synctest.Wait()
		mqtt, err := h.gate.Attach(context.Background(), device.Session{Device: dev1, Protocol: device.MQTT}, func(device.Delivery) {}, func() {})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		mqtt.Detach("bye")
		h.send("c1")
		if o := one(t, <-waiting); o.ID != "c1" {
			t.Errorf("%+v", o)
		}
		if r := h.do("POST", commands+"/c1:accept", "lock_token="+one(t, h.do("GET", commands+"?wait=40s", "")).LockToken); r.status != 204 {
			t.Errorf("%d %q", r.status, r.body)
		}
	})
}

// A session is told once that it lost its lease; a poll must not trust that
// silence means it still has it.
func TestPollAfterTwoTakeovers(t *testing.T) {
	bubble(t, https.Config{}, &adaptertest.Gate{}, func(h *house) {
		waiting := h.begin(context.Background(), "GET", commands+"?wait=20s", "")
		synctest.Wait()
		var mqtt adapters.Attachment
		for range 2 {
			var err error
			if mqtt, err = h.gate.Attach(context.Background(), device.Session{Device: dev1, Protocol: device.MQTT}, func(device.Delivery) {}, func() {}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if len(h.gate.SettledAll()) == 0 { // the first leaves, and the lease comes back
				mqtt.Detach("bye")
				h.send("c1")
				o := one(t, <-waiting)
				if r := h.do("POST", commands+"/c1:accept", "lock_token="+o.LockToken); r.status != 204 {
					t.Fatalf("%d %q", r.status, r.body)
				}
			}
		}
		h.send("c2")
		if o := h.poll("?wait=9s"); o.ID != "c2" {
			t.Errorf("%+v", o)
		}
		mqtt.Detach("bye")
	})
}

func TestRespond(t *testing.T) {
	gate := &adaptertest.Gate{}
	gate.OnRespond = func(r device.Response) error {
		switch r.Command {
		case "none":
			return device.Errorf(device.NotFound, "no such command")
		case "over":
			return device.Errorf(device.Precondition, "the command has ended")
		}
		return nil
	}
	bubble(t, https.Config{MaxMessageBytes: 100}, gate, func(h *house) {
		f := func(want int, path, body string, headers ...string) {
			t.Helper()
			if r := h.do("POST", commands+path, body, headers...); r.status != want {
				t.Errorf("%s: %d %q, want %d", path, r.status, r.body, want)
			}
		}
		f(204, "/c0/response", "21", "Content-Type", "text/plain")
		f(404, "/none/response", "")
		f(409, "/over/response", "")
		f(400, "/c0/response?status=99", "")
		f(400, "/c0/response?status=ok", "")
		f(413, "/c0/response", strings.Repeat("x", 101))
		want := device.Response{Device: dev1, Command: "c0", Status: 200, Payload: []byte("21"), ContentType: "text/plain", Protocol: device.HTTP}
		if got := gate.Responses(); len(got) != 1 || string(got[0].Payload) != "21" || got[0].ContentType != want.ContentType || got[0].Status != 200 || got[0].Device != dev1 || got[0].Protocol != device.HTTP {
			t.Errorf("%+v", got)
		}
		// An answer without an accept settles the command too.
		h.send("c1")
		o := h.poll("")
		f(204, "/c1/response?status=500", "broken")
		synctest.Wait()
		h.wantSettled("c1/1=accepted")
		f(409, "/c1:accept?lock_token="+o.LockToken, "")
	})
}
