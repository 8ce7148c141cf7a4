package command_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/device"
)

// TestRestartAtEachState stops a service with a command in every state, without
// a word of goodbye, and opens another on the same streams.
func TestRestartAtEachState(t *testing.T) {
	for _, c := range []struct {
		name   string
		reach  func(t *testing.T, s *command.Service, d *door, id string)
		away   time.Duration
		after  string // right after the restart
		attend string // and after the device came, received and answered
	}{
		{"queued", func(*testing.T, *command.Service, *door, string) {}, 0,
			"QUEUED", "QUEUED SENT DELIVERED SUCCEEDED"},
		{"queued, overdue", func(*testing.T, *command.Service, *door, string) {}, 25 * time.Hour,
			"QUEUED EXPIRED", "QUEUED EXPIRED"},
		{"sent", func(_ *testing.T, _ *command.Service, d *door, _ string) { d.at.Request(1); d.next() }, 0,
			"QUEUED SENT QUEUED", "QUEUED SENT QUEUED SENT DELIVERED SUCCEEDED"},
		{"sent, overdue", func(_ *testing.T, _ *command.Service, d *door, _ string) { d.at.Request(1); d.next() }, 25 * time.Hour,
			"QUEUED SENT QUEUED EXPIRED", "QUEUED SENT QUEUED EXPIRED"},
		{"delivered", func(_ *testing.T, _ *command.Service, d *door, _ string) {
			d.at.Request(1)
			d.must(d.next(), device.Accepted)
		}, 0, "QUEUED SENT DELIVERED", "QUEUED SENT DELIVERED SUCCEEDED"},
		{"delivered, overdue", func(_ *testing.T, _ *command.Service, d *door, _ string) {
			d.at.Request(1)
			d.must(d.next(), device.Accepted)
		}, 2 * time.Minute, "QUEUED SENT DELIVERED FAILED", "QUEUED SENT DELIVERED FAILED"},
		{"ended", func(_ *testing.T, _ *command.Service, d *door, _ string) {
			d.at.Request(1)
			d.must(d.next(), device.Rejected)
		}, 0, "QUEUED SENT REJECTED", "QUEUED SENT REJECTED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBelt()
				s := open(t, b)
				d := attach(t, s, device.MQTT, 0)
				id := send(t, s, device.Command{}).ID
				c.reach(t, s, d, id)
				shut(t, s)
				b.leases.generation, b.leases.revision = 2, 0 // the memory bucket is made anew
				time.Sleep(c.away)
				s = open(t, b)
				synctest.Wait()
				is(t, states(t, s, id), c.after)
				d = attach(t, s, device.HTTP, 1)
				synctest.Wait()
				if len(d.got) > 0 {
					d.must(d.next(), device.Accepted)
				}
				if err := respond(s, id, 200, ""); err != nil {
					code(t, err, device.Precondition)
				}
				is(t, states(t, s, id), c.attend)
			})
		})
	}
}

// TestUnclearAppend: an append that failed, or succeeded and nobody was told,
// makes no difference to what happens.
func TestUnclearAppend(t *testing.T) {
	for _, fails := range [][]string{{"before"}, {"after"}, {"after", "", "after"}, {"before", "before", "before"}, {"", "before", "before", "before"}} {
		t.Run(fmt.Sprint(fails), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBelt()
				s := open(t, b)
				d := attach(t, s, device.MQTT, 1)
				b.log.fail(fails...)
				id := send(t, s, device.Command{}).ID
				v := d.next()
				for d.settle(v, device.Accepted) != nil { // unavailable: the adapter tries again
				}
				if err := respond(s, id, 200, ""); err != nil {
					t.Fatal(err)
				}
				is(t, states(t, s, id), "QUEUED SENT DELIVERED SUCCEEDED")
				if n := b.log.len(); n != 3 {
					t.Fatalf("%d events", n)
				}
			})
		})
	}
}

// TestUnclearOfferOvertaken: an offer whose append nobody was told of stood in the log
// long enough for another node to take the device over. What that node sends is its
// own session's, not that of the one that learns now that its offer was stored.
func TestUnclearOfferOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBelt()
		one, two := open(t, b), open(t, b, func(c *command.Config) { c.Node = "node-2" })
		before := attach(t, one, device.MQTT, 1)
		b.log.fail("late")
		id := send(t, one, device.Command{OneWay: true}).ID
		synctest.Wait()
		after := attach(t, two, device.MQTT, 1)
		v := after.next()
		time.Sleep(time.Minute)
		if len(before.got) > 0 {
			t.Errorf("the older session was given attempt %d", before.next().Attempt)
		}
		after.must(v, device.Accepted)
		synctest.Wait()
		is(t, states(t, one, id), "QUEUED SENT QUEUED SENT DELIVERED")
	})
}

// TestDeadlineSurvivesFailure: what must be done is tried again.
func TestDeadlineSurvivesFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBelt()
		s := open(t, b)
		id := send(t, s, device.Command{Deadline: time.Now().Add(time.Second)}).ID
		b.log.fail("before", "before", "before", "before", "before")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		is(t, states(t, s, id), "QUEUED EXPIRED")
	})
}

// TestDetachSurvivesFailure: so is giving back what a lost session held.
func TestDetachSurvivesFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBelt()
		s := open(t, b)
		d := attach(t, s, device.MQTT, 1)
		id := send(t, s, device.Command{}).ID
		d.next()
		b.log.fail("before", "before", "before", "before", "before")
		d.at.Detach("reset")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		is(t, states(t, s, id), "QUEUED SENT QUEUED")
	})
}

// TestTwoServices has two nodes act for one device on one belt: every append of
// the one is a conflict or news for the other.
func TestTwoServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBelt()
		one := open(t, b)
		two := open(t, b, func(c *command.Config) { c.Node = "node-2" })
		d := attach(t, one, device.MQTT, 1000)
		var wg sync.WaitGroup
		var mu sync.Mutex
		cancelled, refused := 0, 0
		for i := range 200 {
			c := send(t, []*command.Service{one, two}[i%2], device.Command{OneWay: true})
			wg.Go(func() {
				_, err := two.Cancel(t.Context(), dev, c.ID)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					cancelled++
				} else {
					code(t, err, device.Precondition)
					refused++
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		for n := len(d.got); n > 0; n-- {
			d.must(d.next(), device.Accepted)
			refused--
		}
		if refused != 0 {
			t.Fatalf("%d cancelled, %d refused without being delivered", cancelled, refused)
		}
		t.Logf("%d cancelled", cancelled)
		synctest.Wait() // what one settled is news for two
		for _, r := range b.all(b.mailbox.stream) {
			is(t, states(t, one, r.Command), states(t, two, r.Command))
		}
	})
}

// TestSweep: what has ended goes, but only when the store has it, and what has
// not ended stays with all its events.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBelt()
		s := open(t, b)
		d := attach(t, s, device.MQTT, 1)
		id1 := send(t, s, device.Command{OneWay: true}).ID
		d.must(d.next(), device.Accepted)
		d.at.Request(1)
		kept := send(t, s, device.Command{ResponseTimeout: time.Hour}).ID
		d.must(d.next(), device.Accepted)
		d.at.Request(1)
		id3 := send(t, s, device.Command{OneWay: true}).ID
		d.must(d.next(), device.Accepted)
		time.Sleep(10 * time.Minute)
		if b.mailbox.len() != 3 || b.log.len() != 6 {
			t.Fatalf("before the store had them, %d requests and %d events are left", b.mailbox.len(), b.log.len())
		}
		b.persist()
		time.Sleep(10 * time.Minute)
		if b.mailbox.len() != 1 || b.log.len() != 4 {
			t.Fatalf("%d requests and %d events are left", b.mailbox.len(), b.log.len())
		}
		for _, id := range []string{id1, id3} {
			is(t, states(t, s, id), "QUEUED SENT DELIVERED")
			code(t, respond(s, id, 200, ""), device.Precondition)
			_, err := s.Cancel(t.Context(), dev, id)
			code(t, err, device.Precondition)
		}
		shut(t, s)
		s = open(t, b) // the events of id3 are there, its request is not
		time.Sleep(10 * time.Minute)
		if err := respond(s, kept, 200, ""); err != nil {
			t.Fatal(err)
		}
		b.persist()
		time.Sleep(10 * time.Minute)
		if b.mailbox.len() != 0 || b.log.len() != 0 {
			t.Fatalf("%d requests and %d events are left", b.mailbox.len(), b.log.len())
		}
		is(t, states(t, s, kept), "QUEUED SENT DELIVERED SUCCEEDED")
		next := send(t, s, device.Command{}) // the streams begin anew for the device
		attach(t, s, device.MQTT, 1).next()
		is(t, states(t, s, next.ID), "QUEUED SENT")
	})
}

// TestThePastIsNotRead: what a device did before its commands that are left began is
// in the log for a while, and no reason to read it when the device comes back.
func TestThePastIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBelt()
		s := open(t, b, func(c *command.Config) { c.PurgeDelay = time.Hour })
		d := attach(t, s, device.MQTT, 100)
		for range 50 {
			send(t, s, device.Command{OneWay: true})
			d.must(d.next(), device.Accepted)
		}
		b.persist()
		time.Sleep(10 * time.Second)
		kept := send(t, s, device.Command{ResponseTimeout: 24 * time.Hour}).ID
		d.must(d.next(), device.Accepted)
		d.at.Detach("gone")
		time.Sleep(10 * time.Minute) // nobody uses the actor
		if b.mailbox.len() != 1 || b.log.len() != 102 {
			t.Fatalf("%d requests and %d events are left", b.mailbox.len(), b.log.len())
		}
		b.log.read = 0
		if err := respond(s, kept, 200, ""); err != nil {
			t.Fatal(err)
		}
		if b.log.read != 2 {
			t.Errorf("%d events were read to answer a command that has two", b.log.read)
		}
		is(t, states(t, s, kept), "QUEUED SENT DELIVERED SUCCEEDED")
	})
}

// TestManyLives drives random devices, doors, faults and restarts, and holds
// the log to the promises: every trail is one the table allows, ends once, and
// no command is left behind.
func TestManyLives(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 3))
			b := newBelt()
			s := open(t, b)
			var doors []*door
			var ids []string
			for range 400 {
				switch rng.IntN(12) {
				case 0, 1, 2:
					ids = append(ids, send(t, s, device.Command{OneWay: rng.IntN(2) == 0}).ID)
				case 3:
					doors = append(doors, attach(t, s, device.MQTT, rng.IntN(3)+1))
				case 4:
					if len(doors) > 0 {
						i := rng.IntN(len(doors))
						doors[i].at.Detach("gone")
						doors = append(doors[:i], doors[i+1:]...)
					}
				case 5:
					b.log.fail([]string{"before", "after", ""}[rng.IntN(3)], []string{"before", "after", ""}[rng.IntN(3)])
				case 6:
					if rng.IntN(4) == 0 {
						shut(t, s)
						b.leases.generation, b.leases.revision, doors = b.leases.generation+1, 0, nil
						s = open(t, b)
					}
				case 7:
					time.Sleep(time.Duration(rng.IntN(30)) * time.Second)
				case 8:
					b.persist()
				case 9:
					if len(ids) > 0 {
						_, _ = s.Cancel(t.Context(), dev, ids[rng.IntN(len(ids))])
					}
				default:
					for _, d := range doors {
						if len(d.got) > 0 {
							v := d.next()
							_ = d.settle(v, device.OutcomeKind(rng.IntN(5)+1))
							d.at.Request(1)
							if rng.IntN(2) == 0 {
								_ = respond(s, v.Command.ID, 200+rng.IntN(2)*300, "")
							}
						}
					}
				}
			}
			b.log.fail()
			for _, d := range doors {
				d.at.Detach("end")
			}
			last := attach(t, s, device.HTTP, 1)
			time.Sleep(10 * time.Minute) // answers time out, what was lost is back
			for range ids {
				select {
				case v := <-last.got:
					last.must(v, device.Rejected)
					last.at.Request(1)
				case <-time.After(time.Minute):
				}
			}
			time.Sleep(10 * time.Minute)
			b.persist()
			time.Sleep(10 * time.Minute)
			if b.mailbox.len() != 0 || b.log.len() != 0 {
				t.Errorf("seed %d: %d requests and %d events are left", seed, b.mailbox.len(), b.log.len())
			}
			for _, id := range ids {
				r, err := s.Get(t.Context(), dev, id)
				if err != nil {
					t.Fatal(err)
				}
				legal(t, &r)
			}
		})
	}
}

// legal holds a trail to the frozen table.
func legal(t *testing.T, r *device.CommandRecord) {
	t.Helper()
	follows := map[string]bool{}
	for _, p := range []string{
		"QUEUED SENT", "QUEUED EXPIRED", "QUEUED CANCELLED", "SENT DELIVERED", "SENT REJECTED", "SENT QUEUED",
		"SENT EXPIRED", "SENT SUCCEEDED", "SENT FAILED", "DELIVERED SUCCEEDED", "DELIVERED FAILED",
	} {
		follows[p] = true
	}
	attempt := 0
	for i, e := range r.Events[1:] {
		before := r.Events[i].State
		if !follows[before.String()+" "+e.State.String()] || before.Terminal(r.Command.OneWay) {
			t.Errorf("%s: illegal trail %s", r.Command.ID, trail(*r))
			return
		}
		if e.State == device.StateSent {
			attempt++
		}
		if e.Attempt != attempt {
			t.Errorf("%s: attempt %d, want %d", r.Command.ID, e.Attempt, attempt)
		}
	}
	if !r.Last().State.Terminal(r.Command.OneWay) {
		t.Errorf("%s was left behind: %s", r.Command.ID, trail(*r))
	}
}
