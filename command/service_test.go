package command_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/device"
)

func TestOneLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newBelt())
		d := attach(t, s, device.MQTT, 1)
		c := send(t, s, device.Command{Payload: []byte("on")})
		v := d.next()
		if v.Attempt != 1 || v.Command.ID != c.ID || string(v.Command.Payload) != "on" {
			t.Fatalf("offered %+v", v)
		}
		is(t, states(t, s, c.ID), "QUEUED SENT")
		d.must(v, device.Accepted)
		d.must(v, device.Accepted) // a receipt again is harmless
		code(t, d.settle(v, device.Rejected), device.Conflict)
		if err := respond(s, c.ID, 200, "done"); err != nil {
			t.Fatal(err)
		}
		if err := respond(s, c.ID, 200, "done"); err != nil {
			t.Fatalf("the same answer again: %v", err)
		}
		code(t, respond(s, c.ID, 500, "no"), device.Precondition)
		is(t, states(t, s, c.ID), "QUEUED SENT DELIVERED SUCCEEDED")
		r, _ := s.Get(t.Context(), dev, c.ID)
		last := r.Last()
		if last.Status != 200 || string(last.Response) != "done" || last.Attempt != 1 || last.Node != "node-1" || last.Protocol != device.MQTT {
			t.Fatalf("the answer's event is %+v", last)
		}
		code(t, respond(s, "01ARZ3NDEKTSV4RRFFQ69G5FAV", 200, ""), device.NotFound)
		code(t, respond(s, c.ID, 7, ""), device.Invalid)
	})
}

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		kind   device.OutcomeKind
		oneWay bool
		want   string
	}{
		{device.Accepted, true, "QUEUED SENT DELIVERED"},
		{device.Unconfirmed, true, "QUEUED SENT DELIVERED"},
		{device.Rejected, false, "QUEUED SENT REJECTED"},
		{device.LockExpired, false, "QUEUED SENT QUEUED SENT"},
		{device.Released, false, "QUEUED SENT QUEUED SENT"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := open(t, newBelt())
			d := attach(t, s, device.HTTP, 2)
			id := send(t, s, device.Command{OneWay: c.oneWay}).ID
			v := d.next()
			d.must(v, c.kind)
			if strings.HasSuffix(c.want, "QUEUED SENT") {
				if again := d.next(); again.Attempt != 2 || again.Command.ID != id {
					t.Fatalf("offered again as %+v", again)
				}
				code(t, d.settle(v, device.Accepted), device.Conflict) // the first attempt is stale
			}
			is(t, states(t, s, id), c.want)
			r, _ := s.Get(t.Context(), dev, id)
			if r.Events[2].Unconfirmed != (c.kind == device.Unconfirmed) {
				t.Errorf("unconfirmed = %v", r.Events[2].Unconfirmed)
			}
		})
	}
}

func TestCreditAndOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newBelt())
		var ids []string
		for i := range 5 {
			ids = append(ids, send(t, s, device.Command{Name: fmt.Sprint(i)}).ID)
		}
		d := attach(t, s, device.AMQP, 3)
		var first device.Delivery
		for i := range 3 {
			v := d.next()
			if v.Command.ID != ids[i] {
				t.Fatalf("delivery %d is %s", i, v.Command.Name)
			}
			if i == 0 {
				first = v
			}
		}
		synctest.Wait()
		if len(d.got) != 0 {
			t.Fatal("more was offered than asked for")
		}
		d.must(first, device.Released)
		d.at.Request(3) // a released one comes last, and after a pause
		for _, want := range []string{ids[3], ids[4], ids[0]} {
			if v := d.next(); v.Command.ID != want {
				t.Fatalf("offered %s", v.Command.Name)
			}
		}
	})
}

func TestReleaseDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newBelt())
		d := attach(t, s, device.AMQP, 1000)
		send(t, s, device.Command{})
		start, n := time.Now(), 0
		for time.Since(start) < time.Minute {
			d.must(d.next(), device.Released)
			n++
		}
		if n > 20 {
			t.Fatalf("offered %d times within a minute", n)
		}
	})
}

func TestAnswerOvertakesReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newBelt())
		d := attach(t, s, device.MQTT, 1)
		c := send(t, s, device.Command{})
		v := d.next()
		if err := respond(s, c.ID, 404, "what?"); err != nil {
			t.Fatal(err)
		}
		d.must(v, device.Accepted)
		is(t, states(t, s, c.ID), "QUEUED SENT FAILED")
		d.at.Detach("bye")
		synctest.Wait()
		is(t, states(t, s, c.ID), "QUEUED SENT FAILED")
	})
}

func TestTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBelt()
		s := open(t, b)
		old := attach(t, s, device.MQTT, 2)
		c := send(t, s, device.Command{})
		v := old.next()
		young := attach(t, s, device.HTTP, 1)
		<-old.lost
		again := young.next()
		if again.Attempt != 2 {
			t.Fatalf("taken over as attempt %d", again.Attempt)
		}
		code(t, old.settle(v, device.Accepted), device.Conflict)
		old.at.Request(1)
		young.must(again, device.Accepted)
		is(t, states(t, s, c.ID), "QUEUED SENT QUEUED SENT DELIVERED")

		// The newer leaves: what it held goes to the one below, by itself.
		c2 := send(t, s, device.Command{})
		young.at.Request(1)
		young.next()
		young.at.Detach("bye")
		young.at.Detach("twice")
		back := old.next()
		if back.Command.ID != c2.ID || back.Attempt != 2 {
			t.Fatalf("back to the older: %+v", back)
		}
		old.must(back, device.Accepted)

		// A late detach of a displaced session hurts nobody.
		newest := attach(t, s, device.AMQP, 1)
		old.at.Detach("late")
		c3 := send(t, s, device.Command{})
		newest.must(newest.next(), device.Accepted)
		is(t, states(t, s, c3.ID), "QUEUED SENT DELIVERED")
		synctest.Wait()
		if len(b.leases.held) != 1 {
			t.Fatalf("leases held: %v", b.leases.held)
		}
		newest.at.Detach("bye")
		synctest.Wait()
		if len(b.leases.held) != 0 {
			t.Fatalf("leases held: %v", b.leases.held)
		}
	})
}

func TestDetachGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newBelt())
		d := attach(t, s, device.MQTT, 5)
		c := send(t, s, device.Command{})
		d.next()
		d.at.Detach("connection reset")
		synctest.Wait()
		is(t, states(t, s, c.ID), "QUEUED SENT QUEUED")
		r, _ := s.Get(t.Context(), dev, c.ID)
		is(t, r.Last().Reason, "connection reset")
		d.at.Request(9)
		synctest.Wait()
		if len(d.got) != 0 {
			t.Fatal("offered to a session that left")
		}
		if v := attach(t, s, device.HTTP, 1).next(); v.Attempt != 2 {
			t.Fatalf("offered again as attempt %d", v.Attempt)
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newBelt())
		queued := send(t, s, device.Command{Deadline: time.Now().Add(time.Minute)})
		late := send(t, s, device.Command{})
		time.Sleep(59 * time.Second)
		synctest.Wait()
		is(t, states(t, s, queued.ID), "QUEUED")
		time.Sleep(time.Second)
		synctest.Wait()
		is(t, states(t, s, queued.ID), "QUEUED EXPIRED")

		d := attach(t, s, device.MQTT, 9)
		d.must(d.next(), device.Accepted)
		sent := send(t, s, device.Command{Deadline: time.Now().Add(2 * time.Minute)})
		v := d.next()
		time.Sleep(59 * time.Second)
		synctest.Wait()
		is(t, states(t, s, late.ID), "QUEUED SENT DELIVERED")
		time.Sleep(time.Second)
		synctest.Wait()
		is(t, states(t, s, late.ID), "QUEUED SENT DELIVERED FAILED")
		r, _ := s.Get(t.Context(), dev, late.ID)
		is(t, r.Last().Reason, "no answer within 1m0s")
		code(t, respond(s, late.ID, 200, ""), device.Precondition)
		time.Sleep(time.Minute)
		synctest.Wait()
		is(t, states(t, s, sent.ID), "QUEUED SENT EXPIRED")
		code(t, d.settle(v, device.Accepted), device.Conflict)
	})
}

func TestManyDeadlinesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newBelt())
		at := time.Now().Add(time.Minute)
		var ids []string
		for range 900 {
			ids = append(ids, send(t, s, device.Command{Deadline: at}).ID)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, id := range ids {
			is(t, states(t, s, id), "QUEUED EXPIRED")
		}
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newBelt())
		c := send(t, s, device.Command{})
		for range 2 {
			r, err := s.Cancel(t.Context(), device.ID{Tenant: dev.Tenant}, c.ID)
			if err != nil {
				t.Fatal(err)
			}
			is(t, trail(r), "QUEUED CANCELLED")
		}
		d := attach(t, s, device.MQTT, 9)
		c = send(t, s, device.Command{})
		d.next()
		_, err := s.Cancel(t.Context(), dev, c.ID)
		code(t, err, device.Precondition)
		_, err = s.Cancel(t.Context(), device.ID{Tenant: "other"}, c.ID)
		code(t, err, device.NotFound)
	})
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newBelt())
		c := send(t, s, device.Command{})
		var seen []string
		done := make(chan error, 1)
		go func() {
			done <- s.Watch(t.Context(), device.ID{Tenant: dev.Tenant}, c.ID, func(r device.CommandRecord) error {
				seen = append(seen, trail(r))
				return nil
			})
		}()
		synctest.Wait()
		d := attach(t, s, device.MQTT, 2)
		d.must(d.next(), device.LockExpired)
		d.must(d.next(), device.Accepted)
		if err := respond(s, c.ID, 200, ""); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		is(t, strings.Join(seen, "\n"), strings.Join([]string{
			"QUEUED", "QUEUED SENT", "QUEUED SENT QUEUED", "QUEUED SENT QUEUED SENT",
			"QUEUED SENT QUEUED SENT DELIVERED", "QUEUED SENT QUEUED SENT DELIVERED SUCCEEDED",
		}, "\n"))
		code(t, s.Watch(t.Context(), dev, "01ARZ3NDEKTSV4RRFFQ69G5FAV", nil), device.NotFound)
		ended := ""
		if err := s.Watch(t.Context(), dev, c.ID, func(r device.CommandRecord) error { ended = trail(r); return nil }); err != nil {
			t.Fatal(err)
		}
		is(t, ended, seen[len(seen)-1])
	})
}

func TestSendOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBelt()
		s := open(t, b)
		first := send(t, s, device.Command{Key: "k", Payload: []byte("1")})
		results := make(chan string, 20)
		for range 20 {
			go func() {
				r, err := s.Send(t.Context(), device.Command{Tenant: dev.Tenant, Device: dev.Device, Name: "heat", Key: "k", Payload: []byte("1")})
				if err != nil {
					t.Error(err)
				}
				results <- r.Command.ID
			}()
		}
		for range 20 {
			is(t, <-results, first.ID)
		}
		_, err := s.Send(t.Context(), device.Command{Tenant: dev.Tenant, Device: dev.Device, Name: "heat", Key: "k", Payload: []byte("2")})
		code(t, err, device.Conflict)
		if _, err := s.Cancel(t.Context(), dev, first.ID); err != nil {
			t.Fatal(err)
		}
		b.persist()
		time.Sleep(5 * time.Second)
		if n := b.mailbox.len(); n != 0 {
			t.Fatalf("%d requests left", n)
		}
		r, err := s.Send(t.Context(), device.Command{Tenant: dev.Tenant, Device: dev.Device, Name: "heat", Key: "k", Payload: []byte("1")})
		if err != nil {
			t.Fatal(err)
		}
		is(t, r.Command.ID, first.ID)
		is(t, trail(r), "QUEUED CANCELLED")
	})
}

// TestSendNew looks for the key where a command that has not ended is, on another
// node, too, and needs no store.
func TestSendNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBelt()
		one, two := open(t, b), open(t, b, func(c *command.Config) { c.Node = "two" })
		c := device.Command{Tenant: dev.Tenant, Device: dev.Device, Name: "heat", Key: "k"}
		ids := make(chan string, 40)
		for i := range cap(ids) {
			s := []*command.Service{one, two}[i%2]
			go func() {
				r, err := s.SendNew(t.Context(), c)
				if err != nil {
					t.Error(err)
				}
				ids <- r.Command.ID
			}()
		}
		first := <-ids
		for range cap(ids) - 1 {
			is(t, <-ids, first)
		}
		if n := b.mailbox.len(); n != 1 {
			t.Errorf("%d were sent", n)
		}
		c.Payload = []byte("2")
		_, err := one.SendNew(t.Context(), c)
		code(t, err, device.Conflict)
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newBelt(), func(c *command.Config) { c.MaxPayload, c.MaxWaiting = 10, 3 })
		for _, c := range []struct {
			c    device.Command
			want device.Code
		}{
			{device.Command{Tenant: "t", Device: "a/b"}, device.Invalid},
			{device.Command{Tenant: "t", Device: "d", Payload: make([]byte, 11)}, device.TooLarge},
			{device.Command{Tenant: "t", Device: "d", Deadline: time.Now()}, device.Invalid},
			{device.Command{Tenant: "t", Device: "d", Deadline: time.Now().AddDate(5, 0, 0)}, device.Invalid},
			{device.Command{Tenant: "t", Device: "d", ResponseTimeout: -1}, device.Invalid},
			{device.Command{Tenant: "t", Device: "d", RetryPause: -1}, device.Invalid},
			{device.Command{Tenant: "t", Device: "d", MaxAttempts: -1}, device.Invalid},
			{device.Command{Tenant: "t", Device: "d", MaxAttempts: 1001}, device.Invalid},
			{device.Command{Tenant: "t", Device: "d", Order: 3}, device.Invalid},
		} {
			_, err := s.Send(t.Context(), c.c)
			code(t, err, c.want)
		}
		for range 3 {
			send(t, s, device.Command{})
		}
		_, err := s.Send(t.Context(), device.Command{Tenant: dev.Tenant, Device: dev.Device})
		code(t, err, device.Busy)
	})
}
