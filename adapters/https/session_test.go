package https_test

import (
	"context"
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
