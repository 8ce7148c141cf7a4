package topic

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/topic/topictest"
)

// house is some nodes on one log.
type house struct {
	t       testing.TB
	log     topictest.Log
	records topictest.Records
}

func (h *house) node(name string) *Service { return h.nodeOn(h.records.Node(name)) }

func (h *house) nodeOn(records Sessions) *Service {
	s, err := New(Config{TendEvery: 5 * time.Millisecond, AskTimeout: patience, TakenFor: time.Hour}, &h.log, records, &topictest.Commands{})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, sync.OnceFunc(func() { close(ready) })) }()
	<-ready
	h.t.Cleanup(func() {
		cancel()
		<-ended
		stop, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(stop); err != nil {
			h.t.Error(err)
		}
	})
	return s
}

// stay is one connection of a client.
type stay struct {
	reader
	joined adapters.Joined
	mu     sync.Mutex
	state  device.SessionState
	ended  chan device.Leaving
}

var clientKey = device.SessionKey{Principal: device.ID{Tenant: "default", Device: "d"}, Client: "c"}

func (h *house) join(s *Service, change func(*adapters.Joining)) *stay {
	h.t.Helper()
	st := &stay{ended: make(chan device.Leaving, 1)}
	st.more = make(chan struct{}, 1)
	j := adapters.Joining{
		Key: clientKey, Expiry: time.Hour,
		Offer: func(d device.TopicDelivery) {
			st.mu.Lock()
			st.state.Outgoing = append(st.state.Outgoing, device.Outgoing{ID: uint16(d.Ref.Seq), Ref: d.Ref, QoS: d.Granted, Shared: d.Settle != nil})
			st.mu.Unlock()
			st.take(d)
		},
		Room: func(context.Context) error { return nil },
		State: func() device.SessionState {
			st.mu.Lock()
			defer st.mu.Unlock()
			return device.SessionState{Outgoing: slices.Clone(st.state.Outgoing), Incoming: st.state.Incoming}
		},
		End: func(why device.Leaving) { st.ended <- why },
	}
	if change != nil {
		change(&j)
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	m, joined, err := s.Join(ctx, j)
	if err != nil {
		h.t.Fatal(err)
	}
	st.Member, st.joined = m, joined
	st.mu.Lock()
	st.state = joined.State
	st.mu.Unlock()
	return st
}

// save writes the session down, and waits.
func (st *stay) save(t testing.TB) {
	t.Helper()
	done := make(chan error, 1)
	st.Save(func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func (h *house) until(what string, ok func() bool) {
	h.t.Helper()
	for limit := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			h.t.Fatalf("never happened: %s", what)
		}
	}
}

// TestSessionGoesOn: with its subscriptions, what was not finished and what it
// missed, in order, on the same node and on another, after it left and after
// its node died.
func TestSessionGoesOn(t *testing.T) {
	for name, where := range map[string]string{"same node": "a", "another node": "b"} {
		for _, end := range []string{"left", "killed"} {
			t.Run(name+", "+end, func(t *testing.T) {
				h := &house{t: t}
				nodes := map[string]*Service{"a": h.node("a"), "b": h.node("b")}
				one := h.join(nodes["a"], nil)
				if one.joined.Present {
					t.Error("a session was there before")
				}
				one.subscribe(t, "t/#", 1)
				one.subscribe(t, "+/telemetry/#", 1)
				one.Request(2)
				for i := range 5 {
					h.log.Put(device.SourceTopics, text("t/x", 1, fmt.Sprint(i)))
				}
				one.wait(t, 2)
				one.save(t)
				if end == "left" {
					one.Leave(time.Hour, true)
				} else {
					h.records.Kill("a")
					if where == "a" {
						nodes["a"] = h.node("a2")
					}
				}
				for i := range 3 {
					h.log.Put(device.SourceTopics, text("t/y", 2, fmt.Sprint(5+i)))
					h.log.Put(device.SourceTopics, text("other", 1, "no"))
				}
				h.log.Put(device.SourceTelemetry, text("d/telemetry/z", 1, "8"))
				two := h.join(nodes[where], nil)
				if !two.joined.Present || len(two.joined.Subscriptions) != 2 {
					t.Fatalf("%+v", two.joined)
				}
				if out := two.joined.State.Outgoing; len(out) != 2 || out[0].Ref.Seq != 1 || out[1].Ref.Seq != 2 {
					t.Errorf("unfinished: %+v", out)
				}
				p, err := two.Read(t.Context(), two.joined.State.Outgoing[1].Ref)
				if err != nil || string(p.Payload) != "1" {
					t.Errorf("%+v, %v", p, err)
				}
				two.Request(100)
				got := two.wait(t, 7)
				own := slices.DeleteFunc(slices.Clone(got), func(s string) bool { return s == "8" })
				if len(got) != 7 || !slices.Equal(own, []string{"2", "3", "4", "5", "6", "7"}) {
					t.Errorf("missed: %q", got)
				}
				h.log.Put(device.SourceTopics, text("t/x", 1, "live"))
				if got := two.wait(t, 8); got[7] != "live" {
					t.Errorf("then: %q", got)
				}
				two.Leave(0, true)
				if r := h.records.Get(clientKey); r != nil {
					t.Errorf("a record is left: %+v", r)
				}
			})
		}
	}
}

// TestSessionEnds: a clean start, the end of its time, and Forget.
func TestSessionEnds(t *testing.T) {
	h := &house{t: t}
	s := h.node("a")
	begin := func() {
		st := h.join(s, func(j *adapters.Joining) { j.Clean = true })
		st.subscribe(t, "t", 1)
		st.Leave(time.Hour, true)
		h.until("it is heard of", func() bool { return s.index.has(clientKey) })
	}
	begin()
	clean := h.join(s, func(j *adapters.Joining) { j.Clean, j.Expiry = true, 0 })
	if clean.joined.Present || h.records.Get(clientKey) != nil {
		t.Errorf("after a clean start: %+v", clean.joined)
	}
	clean.Leave(0, true)
	begin()
	if err := s.Forget(t.Context(), clientKey); err != nil || h.records.Get(clientKey) != nil {
		t.Errorf("forgotten: %v", err)
	}
	st := h.join(s, func(j *adapters.Joining) { j.Clean = true })
	st.Leave(time.Millisecond, true)
	h.until("its time is over", func() bool { return ended(h.records.Get(clientKey), time.Now()) })
	if st := h.join(s, nil); st.joined.Present {
		t.Error("a session that was over goes on")
	}
}

// TestGoesOnWithWhatTheDoorKnows: what the door has begun since it came in is
// written down, though it has not asked for anything yet: an identifier that is
// given to a message left over from before must not be forgotten again.
func TestGoesOnWithWhatTheDoorKnows(t *testing.T) {
	h := &house{t: t}
	s := h.node("a")
	one := h.join(s, nil)
	one.subscribe(t, "t", 2)
	one.state.Outgoing = []device.Outgoing{{Ref: device.Ref{Source: device.SourceTopics, Seq: 1}, QoS: 2}}
	one.Leave(time.Hour, true)
	two := h.join(s, nil)
	two.mu.Lock()
	two.state.Outgoing = []device.Outgoing{{ID: 7, Ref: two.state.Outgoing[0].Ref, QoS: 2}}
	two.mu.Unlock()
	two.save(t)
	h.records.Kill("a")
	three := h.join(h.node("b"), nil)
	if out := three.joined.State.Outgoing; len(out) != 1 || out[0].ID != 7 {
		t.Errorf("%+v", out)
	}
}

// contested is records somebody else writes first, once.
type contested struct {
	Sessions
	lost bool
}

func (c *contested) Save(ctx context.Context, r *device.SessionRecord, rev uint64) (uint64, error) {
	if !c.lost {
		c.lost = true
		return 0, device.Errorf(device.Conflict, "somebody else was first")
	}
	return c.Sessions.Save(ctx, r, rev)
}

// TestJoinContested: a session whose record changes while it comes in has each
// subscription once.
func TestJoinContested(t *testing.T) {
	h := &house{t: t}
	one := h.join(h.node("a"), nil)
	one.subscribe(t, "t", 1)
	one.Leave(time.Hour, true)
	s := h.nodeOn(&contested{Sessions: h.records.Node("b")})
	two := h.join(s, nil)
	tree := &s.tenantIf("default").tree
	if n := len(tree.match("t", nil)); n != 1 {
		t.Errorf("the tree has the subscription %d times", n)
	}
	two.Leave(0, true)
	if n := len(tree.match("t", nil)); n != 0 {
		t.Errorf("the tree has the subscription %d times after it is gone", n)
	}
}

// TestTakenOver: the connection before ends, and what it knew goes on, on one
// node and across two.
func TestTakenOver(t *testing.T) {
	for _, where := range []string{"a", "b"} {
		h := &house{t: t}
		nodes := map[string]*Service{"a": h.node("a"), "b": h.node("b")}
		one := h.join(nodes["a"], nil)
		one.subscribe(t, "t", 1)
		one.Request(1)
		h.log.Put(device.SourceTopics, text("t", 1, "0"))
		one.wait(t, 1)
		go func() {
			if why := <-one.ended; why != device.LeftTakenOver {
				t.Errorf("ended: %s", why)
			}
			one.Leave(time.Hour, false)
		}()
		two := h.join(nodes[where], nil)
		if !two.joined.Present || len(two.joined.State.Outgoing) != 1 {
			t.Errorf("on %s: %+v", where, two.joined)
		}
		if r := h.records.Get(clientKey); r.Node != where {
			t.Errorf("held by %q", r.Node)
		}
	}
}

// TestLostRecordEndsTheSession: when another node has taken the session without
// this one being asked, the first write says so.
func TestLostRecordEndsTheSession(t *testing.T) {
	h := &house{t: t}
	s := h.node("a")
	one := h.join(s, nil)
	r := *h.records.Get(clientKey)
	_, rev, _ := s.sessions.Load(t.Context(), clientKey)
	if _, err := s.sessions.Save(t.Context(), &r, rev); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	one.Save(func(err error) { done <- err })
	if err := <-done; device.CodeOf(err) != device.Conflict {
		t.Errorf("%v", err)
	}
	if why := <-one.ended; why != device.LeftTakenOver {
		t.Errorf("ended: %s", why)
	}
}

// TestSavesAreShared: whoever asks while a write is under way shares the next.
func TestSavesAreShared(t *testing.T) {
	h := &house{t: t}
	one := h.join(h.node("a"), nil)
	before := h.records.Saves()
	done := make(chan error, 1000)
	for range 1000 {
		one.Save(func(err error) { done <- err })
	}
	for range 1000 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if n := h.records.Saves() - before; n > 900 {
		t.Errorf("%d writes for 1000 calls", n)
	}
}

func withWill(delay time.Duration) func(*adapters.Joining) {
	return func(j *adapters.Joining) {
		j.Clean, j.Will = true, &device.Will{Publication: *text("d/gone", 1, "will"), Delay: delay}
	}
}

// TestWills: published when the session is lost, when its node is, and when its
// delay is over or its session ends; not when its client says goodbye or comes
// back in time (3.1.2.5, 3.1.3.2.2).
func TestWills(t *testing.T) {
	h := &house{t: t}
	a, b := h.node("a"), h.node("b")
	watch := join(t, b, "watch")
	watch.Request(100)
	watch.subscribe(t, "d/gone", 1)
	told := 0
	more := func(what string) {
		t.Helper()
		told++
		if n := len(watch.wait(t, told)); n != told {
			t.Errorf("%s: %d wills", what, n)
		}
		// Who comes back before it is written down that the will was published, publishes it again.
		h.until("the record says so", func() bool { r := h.records.Get(clientKey); return r == nil || r.Will == nil })
	}
	h.join(a, withWill(0)).Leave(0, false)
	more("lost")
	h.join(a, withWill(0)).Leave(0, true)
	h.join(a, withWill(0)).Leave(time.Hour, false)
	more("lost, and the session goes on")
	h.join(a, withWill(time.Hour)).Leave(time.Hour, false)
	if st := h.join(a, func(j *adapters.Joining) { j.Clean = false }); !st.joined.Present {
		t.Error("the session did not go on")
	} else {
		st.Leave(time.Hour, true)
	}
	h.join(a, withWill(time.Hour)).Leave(time.Hour, false)
	h.join(a, func(j *adapters.Joining) { j.Clean = true }).Leave(0, true)
	more("the session ended before the delay")
	h.join(a, withWill(20*time.Millisecond)).Leave(time.Hour, false)
	more("the delay is over")
	h.join(a, withWill(time.Hour)).Leave(10*time.Millisecond, false)
	more("the session's time was over before the delay")
	h.join(a, withWill(0))
	h.records.Kill("a")
	more("its node died")
	h.until("the record says so", func() bool { r := h.records.Get(clientKey); return r != nil && r.Node == "" && r.Will == nil })
}

// TestJoinFails: a session that cannot be written down is not let in, and does
// not stay in the way.
func TestJoinFails(t *testing.T) {
	h := &house{t: t}
	s := h.node("a")
	h.records.Kill("a")
	j := adapters.Joining{Key: clientKey, Expiry: time.Hour, End: func(device.Leaving) {}}
	for range 2 {
		if _, _, err := s.Join(t.Context(), j); device.CodeOf(err) != device.Unavailable {
			t.Fatalf("%v", err)
		}
	}
	if len(s.members) != 0 {
		t.Errorf("%d members", len(s.members))
	}
}

// TestNothingBeforeTheFirstRequest: until then the peer has not heard that its
// session goes on, so it is offered nothing, with QoS 0 neither.
func TestNothingBeforeTheFirstRequest(t *testing.T) {
	h := &house{t: t}
	s := h.node("a")
	first := h.join(s, nil)
	first.subscribe(t, "a", 1)
	first.Request(1)
	first.Leave(time.Hour, true)
	back := h.join(s, nil)
	defer back.Leave(0, true)
	publish(t, s, text("a", 0, "too early"))
	back.Request(1)
	publish(t, s, text("a", 1, "now"))
	if got := back.wait(t, 1); !slices.Equal(got, []string{"now"}) {
		t.Errorf("it got %q", got)
	}
}
