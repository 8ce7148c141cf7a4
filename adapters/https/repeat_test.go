package https_test

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/https"
	"github.com/tributary-iot/tributary/device"
)

// TestRepeatsOutliveTheSession: the device asks again when its session, which
// held nothing else, is long gone.
func TestRepeatsOutliveTheSession(t *testing.T) {
	for _, verb := range []string{"accept", "reject", "release"} {
		bubble(t, https.Config{}, &adaptertest.Gate{}, func(h *house) {
			h.send("c1")
			o := h.poll("")
			path := commands + "/c1:" + verb + "?lock_token=" + o.LockToken
			if r := h.do("POST", path, ""); r.status != 204 {
				t.Fatalf("%s: %d %s", verb, r.status, r.body)
			}
			time.Sleep(4 * time.Minute)
			synctest.Wait()
			before := len(h.gate.SettledAll())
			if r := h.do("POST", path, ""); r.status != 204 {
				t.Errorf("%s again: %d %s", verb, r.status, r.body)
			}
			if n := len(h.gate.SettledAll()); n != before {
				t.Errorf("%s again settled something", verb)
			}
		})
	}
}

// TestRepeatsAreForgotten: the memory has an end, and so the token is stale.
func TestRepeatsAreForgotten(t *testing.T) {
	bubble(t, https.Config{}, &adaptertest.Gate{}, func(h *house) {
		var first string
		for i := range 3 {
			h.send("c" + strconv.Itoa(i))
			o := h.poll("")
			path := commands + "/" + o.ID + ":accept?lock_token=" + o.LockToken
			if r := h.do("POST", path, ""); r.status != 204 {
				t.Fatalf("%d %s", r.status, r.body)
			}
			if i == 0 {
				first = path
			}
			time.Sleep(5 * time.Minute)
		}
		if r := h.do("POST", first, ""); r.status != 409 {
			t.Errorf("%d after 15 minutes and newer settlements", r.status)
		}
	})
}

// TestRepeatWhileTheFirstIsUnderWay: a device that lost patience gets the
// outcome of its first request, whichever of the two ends first.
func TestRepeatWhileTheFirstIsUnderWay(t *testing.T) {
	gate := &slowGate{Gate: &adaptertest.Gate{}}
	bubbleOn(t, https.Config{}, gate.Gate, gate, func(h *house) {
		gate.settling = make(chan func(), 2)
		h.send("c1")
		o := h.poll("")
		path := commands + "/c1:accept?lock_token=" + o.LockToken
		ctx, leave := context.WithCancel(h.t.Context())
		gone := make(chan struct{})
		go func() { _, _ = h.try(ctx, "POST", path, ""); close(gone) }()
		first := <-gate.settling
		leave()
		<-gone
		synctest.Wait()
		again := make(chan reply, 1)
		go func() { r, _ := h.try(h.t.Context(), "POST", path, ""); again <- r }()
		second := <-gate.settling
		if r := h.do("POST", commands+"/c1:reject?lock_token="+o.LockToken, ""); r.status != 409 {
			t.Errorf("another outcome meanwhile: %d", r.status)
		}
		first()
		synctest.Wait()
		second() // the gate knows it as settled already
		if r := <-again; r.status != 204 {
			t.Errorf("%d %s", r.status, r.body)
		}
		h.wantSettled("c1/1=accepted")
	})
}

// slowGate settles when the test says so.
type slowGate struct {
	*adaptertest.Gate
	settling chan func()
}

func (g *slowGate) Attach(ctx context.Context, s device.Session, offer func(device.Delivery), lost func()) (adapters.Attachment, error) {
	a, err := g.Gate.Attach(ctx, s, offer, lost)
	return &slowAttachment{a, g}, err
}

type slowAttachment struct {
	adapters.Attachment
	gate *slowGate
}

func (a *slowAttachment) Settle(id string, attempt int, o device.Outcome, done func(error)) {
	a.gate.settling <- func() { a.Attachment.Settle(id, attempt, o, done) }
}
