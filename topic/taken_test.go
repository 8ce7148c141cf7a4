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
