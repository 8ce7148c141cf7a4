package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/pipeline/embedded"
)

func nobody() []device.PresenceEvent { return nil }

// life is one life of a node with an embedded server; kill ends it without a word.
func life(t *testing.T, dir string) (p *Presence, kill func()) {
	t.Helper()
	server, err := embedded.Start(embedded.Options{Dir: dir, Durability: embedded.Strict})
	must(t, err)
	b, err := Open(t.Context(), Options{Server: server})
	must(t, err)
	node, err := b.Join(t.Context(), NodeOptions{Identity: "a"})
	must(t, err)
	p, err = b.Presence(t.Context(), node)
	must(t, err)
	ended := false
	kill = func() {
		if !ended {
			ended = true
			stopWithin(t, p.Close)
			stopWithin(t, b.Close)
			stopWithin(t, server.Shutdown)
		}
	}
	t.Cleanup(kill)
	return p, kill
}

func journaled(t *testing.T, p *Presence) jetstream.StreamState {
	t.Helper()
	s, err := p.b.js.Stream(t.Context(), PresenceStream)
	must(t, err)
	return s.CachedInfo().State
}

// TestTheNextLifeTellsWhatThisOneLeft: of the sessions that were open when a node died it
// tells the end, once, and of no others; a reason that was known is kept.
func TestTheNextLifeTellsWhatThisOneLeft(t *testing.T) {
	dir := storeDir(t)
	first, kill := life(t, dir)
	must(t, first.Restore(t.Context(), nobody))
	open1, end1 := stay(1)
	open2, _ := stay(2)
	open3, end3 := stay(3)
	open4, end4 := stay(4)
	open2.Device.Tenant = "another"
	must(t, first.Write(t.Context(), []device.PresenceEvent{open1, open2, open4}))
	must(t, first.Write(t.Context(), []device.PresenceEvent{end1}))
	// From here the log takes nothing more, as if the node died in between.
	must(t, first.events.close(t.Context()))
	if err := first.Write(t.Context(), []device.PresenceEvent{open3, end3, end4}); err == nil {
		t.Fatal("an end that was not told was taken for written")
	}
	kill()

	second, kill := life(t, dir)
	open5, end5 := stay(5)
	must(t, second.Write(t.Context(), []device.PresenceEvent{open5})) // before it has looked
	must(t, second.Restore(t.Context(), nobody))
	want := map[string]device.Leaving{"s1": device.LeftClosed, "s2": device.LeftNodeLost, "s3": device.LeftClosed, "s4": device.LeftClosed, "s5": ""}
	reasons := func(p *Presence) map[string]device.Leaving {
		got := map[string]device.Leaving{}
		for id, e := range told(t, p) {
			if got[id] = e.Reason; e.Connected != (e.Reason == "") {
				t.Errorf("told of %+v", e)
			}
		}
		return got
	}
	if got := reasons(second); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the sessions ended %v, want %v", got, want)
	}
	seq := logged(t, second)
	must(t, second.Restore(t.Context(), nobody))
	if now := logged(t, second); now != seq {
		t.Errorf("the ends were told again: %d, then %d messages", seq, now)
	}
	must(t, second.Write(t.Context(), []device.PresenceEvent{end5}))
	kill()

	third, _ := life(t, dir)
	must(t, third.Restore(t.Context(), nobody))
	if want["s5"] = device.LeftClosed; fmt.Sprint(reasons(third)) != fmt.Sprint(want) {
		t.Errorf("a life later the sessions ended %v, want %v", reasons(third), want)
	}
	if s := journaled(t, third); s.Msgs != 0 {
		t.Errorf("%d messages are left of earlier lives", s.Msgs)
	}
}

func logged(t *testing.T, p *Presence) uint64 {
	t.Helper()
	s, err := p.b.js.Stream(t.Context(), PresenceLogStream)
	must(t, err)
	return s.CachedInfo().State.LastSeq
}

// TestTheJournalIsTidied: it does not grow with those that come and go, and what is open
// stays on it: also what is over and not told of yet.
func TestTheJournalIsTidied(t *testing.T) {
	dir := storeDir(t)
	p, kill := life(t, dir)
	must(t, p.Restore(t.Context(), nobody))
	open, _ := stay(0)
	must(t, p.Write(t.Context(), []device.PresenceEvent{open}))
	var begins, ends []device.PresenceEvent
	for i := range tidyAt/2 + 1 {
		begin, end := stay(i + 1)
		begins, ends = append(begins, begin), append(ends, end)
	}
	must(t, p.Write(t.Context(), begins))
	must(t, p.Restore(t.Context(), func() []device.PresenceEvent { t.Error("tidied while most are open"); return nil }))
	must(t, p.Write(t.Context(), ends))
	before := journaled(t, p)
	must(t, p.Restore(t.Context(), func() []device.PresenceEvent { return []device.PresenceEvent{open} }))
	if s := journaled(t, p); s.Msgs != 1 || s.FirstSeq != before.LastSeq+1 {
		t.Errorf("the journal holds %d messages from %d on, want one after %d", s.Msgs, s.FirstSeq, before.LastSeq)
	}
	must(t, p.Restore(t.Context(), func() []device.PresenceEvent { t.Error("tidied twice"); return nil }))
	kill()
	p, _ = life(t, dir)
	must(t, p.Restore(t.Context(), nobody))
	if e := told(t, p)[open.ID]; e.Reason != device.LeftNodeLost {
		t.Errorf("what was open when the journal was tidied: %+v", e)
	}
}

// TestALostJournalIsWrittenAnew, and so is one that holds a message a session.
func TestALostJournalIsWrittenAnew(t *testing.T) {
	dir := storeDir(t)
	p, kill := life(t, dir)
	must(t, p.Restore(t.Context(), nobody))
	open, _ := stay(0)
	must(t, p.Write(t.Context(), []device.PresenceEvent{open}))
	for _, old := range []bool{false, true} {
		must(t, p.b.js.DeleteStream(t.Context(), PresenceStream))
		if old {
			_, err := p.b.js.CreateStream(t.Context(), jetstream.StreamConfig{
				Name: PresenceStream, Subjects: []string{presenceRoot + everything}, MaxMsgsPerSubject: 1, AllowDirect: true, AllowMsgTTL: true,
			})
			must(t, err)
		}
		must(t, p.Restore(t.Context(), func() []device.PresenceEvent { return []device.PresenceEvent{open} }))
		if s := journaled(t, p); s.Msgs != 1 {
			t.Errorf("an old one: %t: the journal holds %d messages", old, s.Msgs)
		}
	}
	kill()
	p, _ = life(t, dir)
	must(t, p.Restore(t.Context(), nobody))
	if e := told(t, p)[open.ID]; e.Reason != device.LeftNodeLost {
		t.Errorf("what was open when the journal was lost: %+v", e)
	}
}

// TestPresenceIsFollowedFromAnyEvent: whoever stopped after an event, also in the middle
// of those that were written together, goes on with the next one for it.
func TestPresenceIsFollowedFromAnyEvent(t *testing.T) {
	p, _ := life(t, storeDir(t))
	must(t, p.Restore(t.Context(), nobody))
	var ids []string
	for write := range 4 {
		var events []device.PresenceEvent
		for i := range []int{1, 3, 1, parcelEvents + 2}[write] {
			e, _ := stay(len(ids))
			e.Device = dev(i % 2)
			other := e
			other.Device.Tenant = "another"
			events, ids = append(events, e, other), append(ids, e.ID)
		}
		must(t, p.Write(t.Context(), events))
	}
	follow := func(name string, after *device.Position, n int) (found []string, places []device.Position) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := p.Follow(ctx, dev(0).Tenant, name, after, func(e device.StoredPresence) error {
			found, places = append(found, e.ID), append(places, e.Position)
			if len(found) == n {
				return errSeen
			}
			return nil
		})
		if n > 0 && !errors.Is(err, errSeen) {
			t.Fatalf("after %v: %v", after, err)
		}
		return found, places
	}
	found, places := follow("", &device.Position{}, len(ids))
	if !slices.Equal(found, ids) {
		t.Fatalf("told of %d sessions, want %d in their order", len(found), len(ids))
	}
	for i := range places[:len(places)-1] {
		if i > 8 && i < len(places)-4 && i%100 != 0 {
			continue
		}
		if next, _ := follow("", &places[i], 1); next[0] != ids[i+1] {
			t.Errorf("after event %d comes %s, want %s", i, next[0], ids[i+1])
		}
	}
	theirs, _ := follow(dev(1).Device, &places[0], 2)
	if !slices.Equal(theirs, []string{ids[2], ids[6]}) {
		t.Errorf("told of %v, want the sessions of one device", theirs)
	}
}

var errSeen = errors.New("seen enough")
