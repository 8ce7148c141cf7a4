package https_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/https"
	"github.com/tributary-iot/tributary/device"
)

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
		if r := settle(c1, "accept", "?lock_token="+c1.LockToken, ""); r.status != 204 {
			t.Errorf("the same accept again: %d", r.status)
		}
		for what, r := range map[string]reply{
			"another outcome":        settle(c1, "reject", "?lock_token="+c1.LockToken, ""),
			"another token":          settle(c1, "accept", "?lock_token=guess", ""),
			"another command":        settle(offer{ID: "c2"}, "accept", "?lock_token="+c1.LockToken, ""),
			"another device's token": h.do("POST", "/v1/devices/dev2/commands/c1:accept?lock_token="+c1.LockToken, ""),
		} {
			if r.status != 409 {
				t.Errorf("after the accept, %s: %d", what, r.status)
			}
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
		time.Sleep(time.Nanosecond)
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
		f(204, "/c1:accept?lock_token="+o.LockToken, "") // says again what the answer said
		f(409, "/c1:reject?lock_token="+o.LockToken, "")
	})
}
