package command_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/device"
)

// TestAttemptsAreUsedUp: whatever ends an attempt, the last one ends the command.
func TestAttemptsAreUsedUp(t *testing.T) {
	fails := map[string]func(s *command.Service, d *door, v device.Delivery) *door{
		"released": func(_ *command.Service, d *door, v device.Delivery) *door { d.must(v, device.Released); return d },
		"lock expired": func(_ *command.Service, d *door, v device.Delivery) *door {
			d.must(v, device.LockExpired)
			return d
		},
		"session lost": func(s *command.Service, d *door, _ device.Delivery) *door {
			d.at.Detach("reset")
			return attach(d.t, s, device.MQTT, 10)
		},
		"taken over": func(s *command.Service, d *door, _ device.Delivery) *door { return attach(d.t, s, device.HTTP, 10) },
	}
	for name, fail := range fails {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, newBelt())
				d := attach(t, s, device.MQTT, 10)
				id := send(t, s, device.Command{MaxAttempts: 3}).ID
				for n := range 3 {
					v := d.next()
					if v.Attempt != n+1 {
						t.Fatalf("attempt %d, want %d", v.Attempt, n+1)
					}
					d = fail(s, d, v)
				}
				synctest.Wait()
				is(t, states(t, s, id), "QUEUED SENT QUEUED SENT QUEUED SENT EXPIRED")
				r, err := s.Get(t.Context(), dev, id)
				if err != nil || !strings.HasSuffix(r.Last().Reason, "; 3 of 3 attempts") {
					t.Errorf("the reason is %q, %v", r.Last().Reason, err)
				}
			})
		})
	}
}

// TestRetryPause: a released command rests from the first time on, one that was
// lost from the second, twice as long each time; and over a restart, because
// the trail says until when.
func TestRetryPause(t *testing.T) {
	for _, c := range []struct {
		kind  device.OutcomeKind
		rests []time.Duration
	}{
		{device.Released, []time.Duration{1, 2, 4, 8, 16, 32, 64, 64}},
		{device.LockExpired, []time.Duration{0, 1, 2, 4, 8, 16, 32, 64, 64}},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBelt()
			s := open(t, b)
			d := attach(t, s, device.HTTP, 100)
			send(t, s, device.Command{RetryPause: 500 * time.Millisecond})
			v := d.next()
			for i, want := range c.rests {
				began := time.Now()
				d.must(v, c.kind)
				if i == 2 {
					shut(t, s)
					s = open(t, b)
					d = attach(t, s, device.HTTP, 100)
				}
				v = d.next()
				if rest := time.Since(began); rest != want*500*time.Millisecond {
					t.Errorf("outcome %d, rest %d was %v, want %v", c.kind, i, rest, want*500*time.Millisecond)
				}
			}
		})
	}
}

// TestLine: those that are one at a time wait for one another as they say, those
// in a burst for nobody, and nobody for them.
func TestLine(t *testing.T) {
	for _, c := range []struct {
		name  string
		order device.Order
		until func(d *door, s *command.Service, v device.Delivery)
	}{
		{"delivered", device.UntilDelivered, func(d *door, _ *command.Service, v device.Delivery) { d.must(v, device.Accepted) }},
		{"rejected", device.UntilDelivered, func(d *door, _ *command.Service, v device.Delivery) { d.must(v, device.Rejected) }},
		{"answered", device.UntilResponse, func(d *door, s *command.Service, v device.Delivery) {
			d.must(v, device.Accepted)
			d.nothing()
			if err := respond(s, v.Command.ID, 500, ""); err != nil {
				d.t.Fatal(err)
			}
		}},
		{"never answered", device.UntilResponse, func(d *door, _ *command.Service, v device.Delivery) {
			d.must(v, device.Accepted)
			d.nothing()
			time.Sleep(time.Minute)
		}},
		{"expired", device.UntilDelivered, func(d *door, _ *command.Service, v device.Delivery) { time.Sleep(25 * time.Hour) }},
		{"released, then taken", device.UntilDelivered, func(d *door, _ *command.Service, v device.Delivery) {
			d.must(v, device.Released)
			d.nothing()
			d.must(d.next(), device.Accepted)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, newBelt())
				d := attach(t, s, device.MQTT, 100)
				first := send(t, s, device.Command{Order: c.order})
				second := send(t, s, device.Command{Order: c.order, Deadline: time.Now().Add(48 * time.Hour)})
				passes := send(t, s, device.Command{})
				v := d.next()
				is(t, v.Command.ID, first.ID)
				is(t, d.next().Command.ID, passes.ID)
				d.nothing()
				c.until(d, s, v)
				is(t, d.next().Command.ID, second.ID)
			})
		})
	}
}

// TestLineFollowsACancelledOne: who waits behind one that is withdrawn is next.
func TestLineFollowsACancelledOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newBelt())
		d := attach(t, s, device.MQTT, 100)
		send(t, s, device.Command{Order: device.UntilDelivered})
		v := d.next()
		middle := send(t, s, device.Command{Order: device.UntilResponse})
		last := send(t, s, device.Command{Order: device.UntilDelivered})
		d.nothing()
		if _, err := s.Cancel(t.Context(), dev, middle.ID); err != nil {
			t.Fatal(err)
		}
		d.nothing()
		d.must(v, device.Accepted)
		is(t, d.next().Command.ID, last.ID)
	})
}

func (d *door) nothing() {
	d.t.Helper()
	synctest.Wait()
	if len(d.got) != 0 {
		d.t.Fatalf("%s was offered out of turn", (<-d.got).Command.ID)
	}
}
