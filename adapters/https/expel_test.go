package https_test

import (
	"testing"
	"testing/synctest"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/https"
	"github.com/tributary-iot/tributary/device"
)

// TestTheHouseEndsASession: the poll that waits is told why, its locks are worth
// nothing any more, and the next poll begins a new session.
func TestTheHouseEndsASession(t *testing.T) {
	for why, status := range map[device.Leaving]int{device.LeftTakenOver: 409, device.LeftDisabled: 401, device.LeftNodeLost: 503} {
		bubble(t, https.Config{}, &adaptertest.Gate{}, func(h *house) {
			answered := make(chan int, 1)
			go func() { answered <- h.do("GET", commands+"?wait=30s", "").status }()
			synctest.Wait()
			h.gate.Entered()[0].End(why)
			if got := <-answered; got != status {
				t.Errorf("%s: the poll was answered %d", why, got)
			}
			synctest.Wait()
			if e := h.gate.Entered()[0]; e.Left != why {
				t.Errorf("%s: left as %q", why, e.Left)
			}
			h.send("c1")
			if o := h.poll("?wait=9s"); o.ID != "c1" {
				t.Errorf("the next poll: %+v", o)
			}
		})
	}
}
