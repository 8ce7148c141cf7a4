package command_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// simSchedules is a small budget, or what TRIBUTARY_SIM_SCHEDULES says.
func simSchedules(t *testing.T) uint64 {
	text := os.Getenv("TRIBUTARY_SIM_SCHEDULES")
	if text == "" {
		return 40
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSimulation runs seeded schedules of what can happen to three devices on two
// nodes, or on one that is alone: commands sent and withdrawn, sessions of devices and of gateways that come,
// speak, leave late and take over, answers, faults of the log whose outcome is unclear,
// a network that is late, nodes that are killed, or cut off and back. Whatever the schedule: a delivery is made
// once and is SENT before, no older session's delivery follows a newer one's, every
// trail is one the table allows, and in the end every command has ended.
func TestSimulation(t *testing.T) {
	first := uint64(0)
	if text := os.Getenv("TRIBUTARY_SIM_FIRST"); text != "" { // to see one seed again
		var err error
		if first, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	for seed := first; seed < first+simSchedules(t); seed++ {
		synctest.Test(t, func(t *testing.T) { // which does not return when it fails
			simulate(t, seed)
			if t.Failed() {
				t.Logf("seed %d fails: TRIBUTARY_SIM_FIRST=%d TRIBUTARY_SIM_SCHEDULES=1 runs it alone", seed, seed)
			}
		})
	}
}

var simDevices = []device.ID{{Tenant: "t", Device: "a"}, {Tenant: "t", Device: "b"}, {Tenant: "t", Device: "c"}}

func simulate(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 77))
	s := &sim{t: t, rng: rng, b: newBelt(), offered: map[offer]int{}, lag: time.Duration(rng.IntN(4)) * 400 * time.Millisecond}
	names := []string{"one", "two"}
	if seed%4 == 3 {
		names = names[:1]
	}
	for _, name := range names {
		n := &simNode{sim: s, name: name, alone: len(names) == 1}
		s.nodes = append(s.nodes, n)
		n.start()
	}
	for range 60 {
		s.step(s.nodes[rng.IntN(len(names))])
		if rng.IntN(3) > 0 {
			synctest.Wait()
		}
	}
	s.b.log.fail()
	s.settleAll()
	s.judge()
	for _, n := range s.nodes {
		shut(t, n.s)
	}
}

// step has one thing happen at a node.
func (s *sim) step(n *simNode) {
	if n.s == nil {
		n.start()
		return
	}
	id := simDevices[s.rng.IntN(len(simDevices))]
	gateway := []string{"", "", "gw-1", "gw-2"}[s.rng.IntN(4)]
	switch s.rng.IntN(17) {
	case 0, 1, 2, 3:
		s.send(n, id)
	case 4, 5:
		n.come(id, gateway, s.rng.IntN(3)+1)
	case 6:
		if len(n.doors) > 0 {
			n.leave(s.rng.IntN(len(n.doors)))
		}
	case 7:
		faults := []string{"before", "after", ""}
		s.b.log.fail(faults[s.rng.IntN(3)], faults[s.rng.IntN(3)])
	case 8:
		if s.rng.IntN(4) == 0 {
			n.kill()
		}
	case 9:
		if s.rng.IntN(4) == 0 {
			n.cut(time.Duration(s.rng.IntN(20)) * time.Second)
		}
	case 10:
		time.Sleep(time.Duration(s.rng.IntN(20)) * time.Second)
	case 11:
		if len(s.ids) > 0 {
			_, _ = n.s.Cancel(s.t.Context(), device.ID{Tenant: "t"}, s.ids[s.rng.IntN(len(s.ids))])
		}
	case 12:
		s.b.persist()
	case 13:
		n.s.Spoke(id, gateway)
	default:
		for _, d := range n.doors {
			d.act(s.rng)
		}
	}
}

func (s *sim) send(n *simNode, id device.ID) {
	c := device.Command{
		Tenant: id.Tenant, Device: id.Device, Name: "heat", OneWay: s.rng.IntN(2) == 0,
		MaxAttempts: s.rng.IntN(4), Order: device.Order(s.rng.IntN(3)), Deadline: time.Now().Add(time.Duration(1+s.rng.IntN(600)) * time.Second),
	}
	if s.rng.IntN(4) == 0 {
		c.Key = fmt.Sprint("k", len(s.ids))
	}
	r, err := n.s.Send(s.t.Context(), c)
	if err != nil {
		return // the store of requests does not fail here: the node was cut off, or stops
	}
	s.ids = append(s.ids, r.Command.ID)
}

// settleAll brings every node back and lets time pass until all must have ended.
func (s *sim) settleAll() {
	for _, n := range s.nodes {
		if n.s == nil {
			n.start()
		}
	}
	for range 3 {
		for _, n := range s.nodes {
			for _, d := range n.doors {
				d.act(s.rng)
			}
		}
		time.Sleep(10 * time.Minute)
	}
	synctest.Wait()
}

// judge holds the whole log to the promises.
func (s *sim) judge() {
	for o, n := range s.offered {
		if n > 1 {
			s.t.Errorf("%s was offered %d times as attempt %d", o.id, n, o.attempt)
		}
	}
	newest := map[device.ID]device.Epoch{}
	for _, e := range s.b.all(s.b.log.stream) {
		if e.State != device.StateSent {
			continue
		}
		if e.Epoch.Before(newest[e.ID()]) {
			s.t.Errorf("%s was sent by an older session after a newer one", e.Command)
		}
		newest[e.ID()] = e.Epoch
	}
	for _, id := range s.ids {
		r, err := s.nodes[0].s.Get(s.t.Context(), device.ID{Tenant: "t"}, id)
		if err != nil {
			s.t.Errorf("%s: %v", id, err)
			continue
		}
		if max := r.Command.MaxAttempts; max > 0 && r.Last().Attempt > max {
			s.t.Errorf("%s was tried %d times of %d", id, r.Last().Attempt, max)
		}
		legal(s.t, &r)
	}
}
