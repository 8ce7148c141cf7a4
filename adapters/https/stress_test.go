package https_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/https"
	"github.com/tributary-iot/tributary/device"
)

// TestEveryCommandEndsOnce lets one device poll from many connections at once,
// impatiently: polls are cut at any moment, commands released or answered with
// or without being settled first. Every command must end, and end once.
func TestEveryCommandEndsOnce(t *testing.T) {
	const total, pollers = 300, 8
	h := open(t, https.Config{Linger: 20 * time.Millisecond}, &adaptertest.Gate{})
	ended := func() int {
		n := 0
		for _, s := range h.gate.SettledAll() {
			if s.Outcome.Kind == device.Accepted || s.Outcome.Kind == device.Unconfirmed {
				n++
			}
		}
		return n
	}
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for i := range pollers {
		work.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for ctx.Err() == nil {
				h.impatient(ctx, random)
			}
		})
	}
	for i := range total {
		h.send(fmt.Sprintf("c%d", i))
	}
	if !h.gate.Until(4*patience, func() bool { return ended() >= total }) {
		t.Errorf("%d of %d commands ended", ended(), total)
	}
	stop()
	work.Wait()
	h.stop()
	seen := map[string]int{}
	for _, s := range h.gate.SettledAll() {
		if s.Outcome.Kind == device.Accepted || s.Outcome.Kind == device.Unconfirmed {
			seen[s.Command]++
		}
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("command %s ended %d times", id, n)
		}
	}
	if len(seen) != total || h.gate.Queued(dev1) != 0 || h.gate.Sessions(dev1) != 0 {
		t.Errorf("%d of %d ended, %d queued, %d sessions", len(seen), total, h.gate.Queued(dev1), h.gate.Sessions(dev1))
	}
}

// impatient polls once and does something with what it gets.
func (h *house) impatient(ctx context.Context, random *rand.Rand) {
	query := []string{"?wait=1s&max=4&lock=1s", "?wait=1s&max=2&ack=auto"}[random.IntN(2)]
	pollCtx, cancel := context.WithTimeout(ctx, time.Duration(random.IntN(60))*time.Millisecond)
	defer cancel()
	r, err := h.try(pollCtx, "GET", commands+query, "")
	if err != nil || r.status != 200 {
		return
	}
	var offers []offer
	if err := json.Unmarshal([]byte(r.body), &offers); err != nil {
		h.t.Errorf("%q: %v", r.body, err)
	}
	for _, o := range offers {
		if o.LockToken == "" {
			continue
		}
		path, body := commands+"/"+o.ID+":accept", "lock_token="+o.LockToken
		switch random.IntN(4) {
		case 0:
			path = commands + "/" + o.ID + ":release"
		case 1:
			path = commands + "/" + o.ID + "/response"
		}
		if r, err := h.try(ctx, "POST", path, body); err == nil && r.status != 204 && r.status != 409 {
			h.t.Errorf("%s: %d %q", path, r.status, r.body)
		}
	}
}
