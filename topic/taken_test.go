package topic

import (
	"slices"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// TestSharedTakenOnce: a server that was killed offers a group again what it was
// acknowledged. What a session's record says it took with QoS 2 is nobody else's,
// finished or not; the rest comes again. A second kill changes nothing.
func TestSharedTakenOnce(t *testing.T) {
	h := &house{t: t}
	a := h.node("a")
	first := h.join(a, one("first", time.Hour))
	first.subscribe(t, sharedA, 2)
	first.Request(5)
	names := []string{"finished", "begun", "not acknowledged yet", "not begun", "once at least"}
	for i, name := range names {
		publish(t, a, text("a", []int{2, 2, 2, 2, 1}[i], name))
	}
	if got := first.wait(t, len(names)); !slices.Equal(got, names) {
		t.Fatalf("the first got %q", got)
	}
	for _, i := range []int{0, 1, 4} {
		first.got[i].Settle(device.Accepted)
	}
	first.stay(func() { first.state.Outgoing = first.state.Outgoing[1:3] })
	first.save(t)
	h.records.Kill("a")
	h.log.Rewind()

	b := h.node("b")
	second := h.join(b, one("second", time.Hour))
	second.subscribe(t, sharedA, 1)
	second.Request(3)
	publish(t, b, text("a", 1, "next"))
	if got, want := second.wait(t, 3), []string{"not begun", "once at least", "next"}; !slices.Equal(got, want) {
		t.Errorf("after the kill the second got %q", got)
	}
	again := h.join(b, one("first", time.Hour))
	if len(again.joined.State.Outgoing) != 2 {
		t.Errorf("the first has %+v to finish", again.joined.State.Outgoing)
	}
	again.save(t) // all of that is finished
	h.records.Kill("b")
	h.log.Rewind()

	c := h.node("c")
	third := h.join(c, one("third", time.Hour))
	third.subscribe(t, sharedA, 2)
	third.Request(4)
	publish(t, c, text("a", 2, "last"))
	if got, want := third.wait(t, 4), []string{"not begun", "once at least", "next", "last"}; !slices.Equal(got, want) {
		t.Errorf("after the second kill the third got %q", got)
	}
	third.settle(0, device.Accepted)
}

// TestTakenAgainIsNamedOnce: what is offered again in every life of a server takes one
// place in the record, and does not push out what it is to name besides.
func TestTakenAgainIsNamedOnce(t *testing.T) {
	m := &member{s: &Service{cfg: Config{TakenFor: time.Hour}}}
	sh := &share{group: device.Group{Tenant: "acme", Name: "g", Filter: "a"}}
	var all []device.Taken
	for seq := range uint64(takenMost) {
		all = append(all, device.Taken{Filter: sh.filter(), Ref: device.Ref{Source: device.SourceTopics, Seq: seq}})
	}
	m.took(all)
	for range 3 {
		for i := range 10 {
			m.tookAgain(sh, all[i].Ref)
		}
	}
	if got, want := m.takenNow(nil), slices.Concat(all[10:], all[:10]); !slices.Equal(got, want) {
		t.Errorf("%d are named, %d were taken; the last is %+v", len(got), len(want), got[len(got)-1])
	}
}

// TestLostWithItsStream: what a record names of a stream that was lost and made anew is
// not taken for a new message in the same place: neither what was taken in the place of a
// group, nor what was sent and is not finished, whose identifier stays in use. What an
// older release wrote down, without the stream's life, is believed.
func TestLostWithItsStream(t *testing.T) {
	h := &house{t: t}
	a := h.node("a")
	first := h.join(a, one("first", time.Hour))
	first.subscribe(t, sharedA, 2)
	first.subscribe(t, "own", 2)
	kept := text("own", 2, "kept")
	kept.Retain = true
	retain(t, a, kept)
	first.Request(10)
	first.subscribe(t, "own", 2)
	publish(t, a, text("a", 2, "taken"))
	first.wait(t, 2)
	publishOnly(t, a, text("own", 2, "sent"))
	first.wait(t, 3)
	first.stay(func() { first.state.Outgoing[0].ID = 9 })
	for i := range first.got {
		if settle := first.got[i].Settle; settle != nil {
			settle(device.Accepted)
		}
	}
	first.Leave(time.Hour, true)
	h.until("the group is not read any more", func() bool {
		here := a.tenantIf("default")
		here.sharing.Lock()
		defer here.sharing.Unlock()
		return len(here.shares) == 0
	})
	old := *h.records.Get(device.SessionKey{Principal: clientKey.Principal, Client: "first"})
	if len(old.Taken) != 1 || len(old.State.Outgoing) != 3 {
		t.Fatalf("%+v", old)
	}
	h.log.Renew()

	b := h.node("b")
	second := h.join(b, one("second", time.Hour))
	second.subscribe(t, sharedA, 2)
	second.Request(10)
	names := []string{"new 1", "new 2", "new 3"}
	for _, name := range names {
		publish(t, b, text("a", 2, name))
	}
	if got := second.wait(t, 3); !slices.Equal(got, names) {
		t.Errorf("of the new stream came %q", got)
	}
	retain(t, b, kept)
	again := h.join(b, one("first", time.Hour))
	for i, o := range again.joined.State.Outgoing {
		if _, err := again.Read(t.Context(), o.Ref); device.CodeOf(err) != device.NotFound || i == 0 && o.ID != 9 {
			t.Errorf("%+v: %v", o, err)
		}
	}
	ends := map[device.Source]device.Position{device.SourceTopics: {Epoch: 2}, device.SourceTelemetry: {Epoch: 2}, device.SourceRetained: {Epoch: 2}}
	older := device.SessionRecord{State: device.SessionState{Outgoing: []device.Outgoing{{Ref: device.Ref{Source: 1, Seq: 7}}}},
		Taken: []device.Taken{{Ref: device.Ref{Source: 1, Seq: 8}}, {Ref: device.Ref{Source: 1, Epoch: 2, Seq: 8}}, {Ref: device.Ref{Source: 1, Epoch: 1, Seq: 8}}}}
	if forgetLost(&older, ends); older.State.Outgoing[0].Ref.Seq != 7 || len(older.Taken) != 2 {
		t.Errorf("of an older release is left %+v", older)
	}
	sh := share{taken: map[device.Ref]device.SessionKey{older.Taken[0].Ref: clientKey}}
	if owner, taken := sh.wasTaken(device.Ref{Source: 1, Epoch: 2, Seq: 8}); !taken || owner != clientKey || len(sh.taken) > 0 {
		t.Error("what an older release wrote down of a group is forgotten")
	}
}

// TestMarksOfAnotherLife: a message is looked for after its place, unless that is of
// another life of the stream, or where the stream does not reach any more.
func TestMarksOfAnotherLife(t *testing.T) {
	s, log := serve(t, Config{})
	other, marked := text("t", 1, "other"), text("t", 2, "marked")
	marked.Mark = "m"
	log.Renew()
	for _, p := range []*device.Publication{other, marked, other} {
		log.Put(device.SourceTopics, p)
	}
	for after, want := range map[device.Position]bool{
		{Epoch: 2, Seq: 1}: true, {Epoch: 2, Seq: 2}: false, {Epoch: 2, Seq: 3}: false, {Epoch: 2, Seq: 4}: true,
		{Epoch: 1, Seq: 3}: true, {Epoch: 3, Seq: 2}: true, {Seq: 2}: true, {}: true,
	} {
		if got, err := s.Published(t.Context(), device.SourceTopics, "default", "t", "m", after); got != want || err != nil {
			t.Errorf("after %+v: %v, %v", after, got, err)
		}
	}
}

// TestTakenIsBounded: a record names the newest of what was taken, and no more than so many.
func TestTakenIsBounded(t *testing.T) {
	var m member
	for i := range takenMost + 10 {
		m.taken.note(device.Taken{Ref: device.Ref{Seq: uint64(i)}}, time.Now().Add(time.Hour))
	}
	m.taken.note(device.Taken{}, time.Now()) // its time is over
	if all := m.takenNow(nil); len(all) != takenMost-1 || all[0].Ref.Seq != 11 {
		t.Errorf("%d, from %+v", len(all), all[0])
	}
}
