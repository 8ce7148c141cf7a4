package topic

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

var groupG = device.Group{Tenant: "default", Name: "g", Filter: "a/#"}

const sharedA = "$share/g/a/#"

// one changes a stay to be of a client of that name.
func one(client string, expiry time.Duration) func(*adapters.Joining) {
	return func(j *adapters.Joining) {
		j.Key.Client, j.Expiry, j.Clean = client, expiry, expiry == 0
	}
}

// payloads is what was offered so far.
func (r *reader) payloads() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.got {
		all = append(all, string(d.Payload))
	}
	return all
}

// settle settles what was offered, from one on.
func (r *reader) settle(from int, kind device.OutcomeKind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.got[from:] {
		d.Settle(kind)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("never happened: %s", what)
		}
	}
}

// TestSharedByMembers: of sessions on two nodes, with any QoS, one gets each
// message, of whatever QoS and source; a subscription of its own brings it besides.
func TestSharedByMembers(t *testing.T) {
	h := &house{t: t}
	a, b := h.node("a"), h.node("b")
	var all []*stay
	for i := range 6 {
		st := h.join([]*Service{a, b}[i%2], one(fmt.Sprint("c", i), 0))
		defer st.Leave(0, true)
		st.subscribe(t, "$share/g/#", i%3)
		st.Request(1000)
		all = append(all, st)
	}
	alone := h.join(a, one("alone", 0))
	defer alone.Leave(0, true)
	alone.subscribe(t, "a", 1)
	alone.Request(1000)
	const rounds = 100
	for i := range rounds {
		for qos := range 3 {
			publish(t, a, text("a", qos, fmt.Sprintf("%d of QoS %d", i, qos)))
		}
		h.log.Put(device.SourceTelemetry, text("d/telemetry", 1, fmt.Sprintf("reading %d", i)))
		publish(t, a, &device.Publication{Tenant: "other", Topic: "a", QoS: 1, Payload: []byte("another tenant's")})
	}
	count := func() (n int) {
		for _, st := range all {
			n += len(st.payloads())
		}
		return n
	}
	eventually(t, "all arrive", func() bool { return count() >= 4*rounds })
	seen := map[string]bool{}
	for i, st := range all {
		st.reader.mu.Lock()
		if len(st.got) == 0 {
			t.Errorf("member %d got nothing", i)
		}
		for _, d := range st.got {
			if seen[string(d.Payload)] || d.Granted != min(d.QoS, i%3) || (d.Settle != nil) != (d.Granted > 0) || d.Tenant != "default" {
				t.Errorf("member %d: %q with QoS %d of %d, seen %v", i, d.Payload, d.Granted, d.QoS, seen[string(d.Payload)])
			}
			seen[string(d.Payload)] = true
		}
		st.reader.mu.Unlock()
	}
	if len(seen) != 4*rounds {
		t.Errorf("%d of %d messages", len(seen), 4*rounds)
	}
	if got := alone.wait(t, 3*rounds); len(got) != 3*rounds {
		t.Errorf("the one beside them got %d", len(got))
	}
}

// TestSharedByCredit: a member is given no more than it asked for, and the others
// get the rest meanwhile.
func TestSharedByCredit(t *testing.T) {
	h := &house{t: t}
	s := h.node("a")
	slow, quick, none := h.join(s, one("slow", 0)), h.join(s, one("quick", 0)), h.join(s, one("none", 0))
	for _, st := range []*stay{slow, quick, none} {
		defer st.Leave(0, true)
		st.subscribe(t, sharedA, 2)
	}
	slow.Request(1)
	quick.Request(2)
	const messages = 500
	for i := range messages {
		publish(t, s, text("a/b", 1, fmt.Sprint(i)))
	}
	for n := 1; n < messages; n++ {
		quick.wait(t, n)
		quick.settle(n-1, device.Accepted)
		quick.Request(1)
	}
	if got := slow.wait(t, 1); len(got) != 1 || len(none.payloads()) > 0 {
		t.Errorf("the slow one got %q, who asked for nothing %q", got, none.payloads())
	}
	slow.Request(1)
	publish(t, s, text("a/b", 1, "more"))
	eventually(t, "one of them gets it", func() bool {
		return slices.Contains(slow.payloads(), "more") || slices.Contains(quick.payloads(), "more")
	})
}

// TestSharedHandedOn: what a member did not finish goes to another when it leaves,
// but for what its record has it finish (QoS 2).
func TestSharedHandedOn(t *testing.T) {
	h := &house{t: t}
	a, b := h.node("a"), h.node("b")
	first := h.join(a, one("first", time.Hour))
	first.subscribe(t, sharedA, 2)
	first.Request(4)
	for i, qos := range []int{1, 2, 1, 2} {
		publish(t, a, text("a", qos, fmt.Sprint(i)))
	}
	got := first.wait(t, 4)
	second := h.join(b, one("second", 0))
	second.subscribe(t, sharedA, 2)
	second.Request(10)
	first.settle(2, device.Accepted) // 2 and 3 are done
	first.stay(func() {              // as a door has it: those with QoS 1 are not its own
		first.state.Outgoing = slices.DeleteFunc(first.state.Outgoing, func(o device.Outgoing) bool { return o.QoS == 1 })
	})
	first.Leave(time.Hour, true)
	if want := second.wait(t, 1); !slices.Equal(want, []string{"0"}) {
		t.Errorf("the first had %q, the second got %q", got, want)
	}
	publish(t, a, text("a", 1, "next"))
	if want := second.wait(t, 2); !slices.Equal(want, []string{"0", "next"}) {
		t.Errorf("the second got %q", want)
	}
	second.settle(1, device.Accepted)
	third := h.join(a, one("third", 0)) // hears of a message that is refused by who leaves for good
	third.subscribe(t, sharedA, 1)
	second.Leave(0, true)
	third.Request(10)
	if want := third.wait(t, 1); !slices.Equal(want, []string{"0"}) {
		t.Errorf("the third got %q", want)
	}
	third.settle(0, device.Accepted)
	third.Leave(0, true)
}

func (st *stay) stay(change func()) {
	st.mu.Lock()
	defer st.mu.Unlock()
	change()
}

// TestSharedWhileAway: a session that is away swallows nothing, what comes while
// all are away waits for the first that is back, on any node, and a group lasts as
// long as a session that is in it.
func TestSharedWhileAway(t *testing.T) {
	h := &house{t: t}
	a, b := h.node("a"), h.node("b")
	away := h.join(a, one("away", time.Hour))
	away.subscribe(t, sharedA, 1)
	away.Request(10)
	here := h.join(a, one("here", time.Minute))
	here.subscribe(t, sharedA, 1)
	here.Request(10)
	away.Leave(time.Hour, true)
	publish(t, a, text("a", 1, "1"))
	here.wait(t, 1)
	here.settle(0, device.Accepted)
	here.Leave(time.Minute, true)
	publish(t, a, text("a", 1, "2"))
	publish(t, a, text("a", 0, "nobody"))
	back := h.join(b, one("away", time.Hour))
	if !back.joined.Present || len(back.joined.Subscriptions) != 1 {
		t.Fatalf("%+v", back.joined)
	}
	publish(t, a, text("a", 1, "3"))
	if got := back.payloads(); len(got) > 0 {
		t.Errorf("before it asked it got %q", got)
	}
	back.Request(10)
	if got := back.wait(t, 2); !slices.Equal(got, []string{"2", "3"}) {
		t.Errorf("back, it got %q", got)
	}
	back.settle(0, device.Accepted)
	if keep, there := h.log.Kept(groupG); keep != time.Hour || !there {
		t.Errorf("the group outlives its readers by %v", keep)
	}
	back.Leave(2*time.Hour, true)
	if keep, there := h.log.Kept(groupG); keep != 2*time.Hour || !there {
		t.Errorf("the group outlives its readers by %v", keep)
	}
}

// TestSharedGroupEnds with the last of its sessions: one that leaves, unsubscribes,
// is forgotten, or is away for too long; and not before.
func TestSharedGroupEnds(t *testing.T) {
	for name, end := range map[string]func(h *house, s *Service, st *stay){
		"left":         func(_ *house, _ *Service, st *stay) { st.Leave(0, true) },
		"unsubscribed": func(_ *house, _ *Service, st *stay) { st.Unsubscribe(sharedA); st.Save(nil) },
		"forgotten": func(h *house, s *Service, st *stay) {
			st.Leave(time.Hour, true)
			h.join(s, one("last", 0)).Leave(0, true)
		},
		"away": func(_ *house, _ *Service, st *stay) { st.Leave(time.Millisecond, true) },
	} {
		t.Run(name, func(t *testing.T) {
			h := &house{t: t}
			a, b := h.node("a"), h.node("b")
			other := h.join(a, one("other", 0))
			other.subscribe(t, sharedA, 1)
			last := h.join(b, one("last", time.Hour))
			defer last.Leave(0, true)
			last.subscribe(t, sharedA, 1)
			saved := make(chan error, 1)
			last.Save(func(err error) { saved <- err })
			if err := <-saved; err != nil {
				t.Fatal(err)
			}
			other.Leave(0, true)
			publish(t, a, text("a", 1, "old"))
			last.Request(1)
			last.wait(t, 1)
			if _, there := h.log.Kept(groupG); !there {
				t.Error("the group ended before its last session")
			}
			last.settle(0, device.Accepted)
			end(h, b, last)
			eventually(t, "the group ends", func() bool { _, there := h.log.Kept(groupG); return !there })
		})
	}
}

// TestSharedUnsubscribed: what a session was given before it unsubscribed it may
// finish, and nothing more comes.
func TestSharedUnsubscribed(t *testing.T) {
	h := &house{t: t}
	s := h.node("a")
	st, other := h.join(s, one("st", 0)), h.join(s, one("other", 0))
	defer st.Leave(0, true)
	defer other.Leave(0, true)
	st.subscribe(t, sharedA, 1)
	st.Request(10)
	publish(t, s, text("a", 1, "given"))
	st.wait(t, 1)
	if !st.Unsubscribe(sharedA) || st.Unsubscribe(sharedA) {
		t.Error("it was subscribed once")
	}
	other.subscribe(t, sharedA, 1)
	other.Request(10)
	st.settle(0, device.Accepted)
	publish(t, s, text("a", 1, "next"))
	if got := other.wait(t, 1); !slices.Equal(got, []string{"next"}) || len(st.payloads()) != 1 {
		t.Errorf("the other got %q, it %q", got, st.payloads())
	}
	other.settle(0, device.Accepted)
}

// TestSharedOptions: no retained messages, no No Local, and the subscription's
// identifier and Retain As Published.
func TestSharedOptions(t *testing.T) {
	h := &house{t: t}
	s := h.node("a")
	st := h.join(s, one("st", 0))
	defer st.Leave(0, true)
	kept := text("a", 1, "kept")
	kept.Retain = true
	publish(t, s, kept)
	if _, err := st.Subscribe(t.Context(), device.Subscription{Filter: sharedA, QoS: 1, NoLocal: true}); device.CodeOf(err) != device.Invalid {
		t.Errorf("with No Local: %v", err)
	}
	for range 2 { // the second replaces the first
		replay, err := st.Subscribe(t.Context(), device.Subscription{Filter: sharedA, QoS: 1, ID: 7, RetainAsPublished: true})
		if err != nil {
			t.Fatal(err)
		}
		replay()
	}
	st.Request(10)
	publish(t, s, kept)
	publish(t, s, text("a", 1, "last"))
	if got := st.wait(t, 2); !slices.Equal(got, []string{"kept", "last"}) {
		t.Errorf("it got %q", got)
	}
	if d := st.got[0]; !d.Retained || !slices.Equal(d.IDs, []uint32{7}) || d.Ref.Seq != 2 {
		t.Errorf("%+v", d)
	}
	st.settle(0, device.Accepted)
}
