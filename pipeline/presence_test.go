package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/pipeline/embedded"
)

// presenceOn is a node of its own on a NATS server, with its presence.
func presenceOn(t *testing.T, url, name string) (*Presence, *Node) {
	t.Helper()
	b := openOn(t, Options{URL: url, NodeName: name})
	node, err := b.Join(t.Context(), NodeOptions{Identity: name})
	must(t, err)
	t.Cleanup(func() { stopWithin(t, node.Leave) })
	p, err := b.Presence(t.Context(), node)
	must(t, err)
	t.Cleanup(func() { stopWithin(t, p.Close) })
	return p, node
}

func stay(n int) (begin, end device.PresenceEvent) {
	begin = device.PresenceEvent{Session: device.Session{Device: dev(0), Protocol: device.MQTT}, ID: fmt.Sprintf("s%d", n), Node: "a", Connected: true, Since: time.Now().UTC(), At: time.Now().UTC()}
	end = begin
	end.Connected, end.Reason = false, device.LeftClosed
	return begin, end
}

// told is the last that was told of each session.
func told(t *testing.T, p *Presence) map[string]device.PresenceEvent {
	t.Helper()
	last := map[string]device.PresenceEvent{}
	err := p.b.readSubject(t.Context(), PresenceLogStream, presenceLogRoot+everything, func(r raw) {
		events, err := devicepb.UnmarshalPresences(r.body)
		must(t, err)
		for _, e := range events {
			last[e.ID] = e
		}
	})
	must(t, err)
	return last
}

// TestAnEndIsToldWhereverItsNodeDies: a node that dies before it told of an end,
// or before it told of a beginning it had entered, leaves on the list what
// another needs to tell it; the reason that was known is kept.
func TestAnEndIsToldWhereverItsNodeDies(t *testing.T) {
	_, url := externalServer(t, true)
	a, nodeA := presenceOn(t, url, "a")
	b, _ := presenceOn(t, url, "b")
	open1, end1 := stay(1)
	open2, _ := stay(2)
	open3, end3 := stay(3)
	open4, end4 := stay(4)
	must(t, a.Write(t.Context(), []device.PresenceEvent{open1, open2, open4, end4}))

	// From here the log takes nothing more from a, as if it died in between.
	must(t, a.events.close(t.Context()))
	if err := a.Write(t.Context(), []device.PresenceEvent{end1, open3, end3}); err == nil {
		t.Fatal("an end that was not told was taken for written")
	}
	if listed := idsOf(t, b); listed != "s1 s2" {
		t.Errorf("the list says %q are open, want s1 s2: s3 was over when it was entered", listed)
	}
	must(t, nodeA.Leave(t.Context()))
	eventually(t, "the ends of what a left", func() bool {
		must(t, b.Restore(t.Context(), func() []device.PresenceEvent { return nil }))
		last := told(t, b)
		return len(last) == 4 && !last["s1"].Connected && !last["s2"].Connected && !last["s3"].Connected && !last["s4"].Connected
	})
	last := told(t, b)
	for id, why := range map[string]device.Leaving{"s1": device.LeftNodeLost, "s2": device.LeftNodeLost, "s3": device.LeftClosed, "s4": device.LeftClosed} {
		if last[id].Reason != why {
			t.Errorf("session %s ended %q, want %q", id, last[id].Reason, why)
		}
	}
	if listed := idsOf(t, b); listed != "" {
		t.Errorf("the list still says %q are open", listed)
	}
}

// TestWhatADeadNodeWroteLastIsFound: an entry that reaches the list after its
// node's death was looked at is found at the next look.
func TestWhatADeadNodeWroteLastIsFound(t *testing.T) {
	_, url := externalServer(t, true)
	a, nodeA := presenceOn(t, url, "a")
	b, nodeB := presenceOn(t, url, "b")
	info := nodeA.Info()
	must(t, nodeA.Leave(t.Context()))
	eventually(t, "the end of node a", func() bool { return !nodeB.Lives(info.Incarnation) })
	look := func() { must(t, b.Restore(t.Context(), func() []device.PresenceEvent { return nil })) }
	look()
	late, _ := stay(1)
	must(t, a.Write(t.Context(), []device.PresenceEvent{late}))
	look()
	if last := told(t, b); !last["s1"].Connected {
		t.Error("a session ended at the first look at it")
	}
	look()
	if last := told(t, b); last["s1"].Connected || last["s1"].Reason != device.LeftNodeLost {
		t.Errorf("what a wrote last was not ended: %+v", last["s1"])
	}
}

func idsOf(t *testing.T, p *Presence) (ids string) {
	t.Helper()
	all, _, err := p.Sessions(t.Context(), dev(0).Tenant, "", 0, 10)
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for i, e := range all {
		if i > 0 {
			ids += " "
		}
		ids += e.ID
	}
	return ids
}

// TestATornListDoesNotKeepTheServerDown: the list is written without syncing, so
// a power cut may tear it. The server starts all the same, and the list is used.
func TestATornListDoesNotKeepTheServerDown(t *testing.T) {
	dir := storeDir(t)
	first := startEmbedded(t, dir, Strict)
	b := openOn(t, Options{Server: first})
	node, err := b.Join(t.Context(), NodeOptions{Identity: "a"})
	must(t, err)
	p, err := b.Presence(t.Context(), node)
	must(t, err)
	var open []device.PresenceEvent
	for i := range 20 {
		begin, _ := stay(i)
		open = append(open, begin)
	}
	must(t, p.Write(t.Context(), open))
	stopWithin(t, p.Close)
	stopWithin(t, b.Close)
	stopWithin(t, first.Shutdown)
	tear(t, filepath.Join(dir, "jetstream", "$G", "streams", PresenceStream, "msgs"))

	second := make(chan error, 1)
	go func() {
		s, err := embedded.Start(embedded.Options{Dir: dir, Durability: embedded.Strict})
		if err == nil {
			t.Cleanup(func() { stopWithin(t, s.Shutdown) })
			b, err = Open(t.Context(), Options{Server: s})
		}
		second <- err
	}()
	select {
	case err := <-second:
		must(t, err)
	case <-time.After(time.Minute):
		t.Fatal("the server does not come up")
	}
	t.Cleanup(func() { stopWithin(t, b.Close) })
	node, err = b.Join(t.Context(), NodeOptions{Identity: "a"})
	must(t, err)
	p, err = b.Presence(t.Context(), node)
	must(t, err)
	t.Cleanup(func() { stopWithin(t, p.Close) })
	begin, end := stay(99)
	must(t, p.Write(t.Context(), []device.PresenceEvent{begin}))
	must(t, p.Write(t.Context(), []device.PresenceEvent{end}))
}

// tear makes the beginning of every block of a stream zeros.
func tear(t *testing.T, dir string) {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(dir, "*.blk"))
	must(t, err)
	torn := 0
	for _, path := range blocks {
		raw, err := os.ReadFile(path)
		must(t, err)
		if len(raw) > 0 {
			torn++
			clear(raw[:min(len(raw), 64)])
			must(t, os.WriteFile(path, raw, 0o600))
		}
	}
	if torn == 0 {
		t.Fatalf("%s has no block to tear", dir)
	}
}

// TestAnAnswerThatWasLostHoldsNobody: the look after the list gives up by itself,
// so that what happens meanwhile is told.
func TestAnAnswerThatWasLostHoldsNobody(t *testing.T) {
	_, url := externalServer(t, true)
	w := openWire(t, strings.TrimPrefix(url, "nats://"))
	b := openOn(t, Options{URL: "nats://" + w.Addr().String(), NodeName: "a", AckTimeout: 100 * time.Millisecond})
	node, err := b.Join(t.Context(), NodeOptions{Identity: "a"})
	must(t, err)
	t.Cleanup(func() { stopWithin(t, node.Leave) })
	p, err := b.Presence(t.Context(), node)
	must(t, err)
	t.Cleanup(func() { stopWithin(t, p.Close) })
	w.silence()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := p.Restore(ctx, func() []device.PresenceEvent { return nil }); err == nil || ctx.Err() != nil {
		t.Errorf("answered %v after %v", err, ctx.Err())
	}
	w.heal()
	eventually(t, "the list is looked after again", func() bool {
		return p.Restore(t.Context(), func() []device.PresenceEvent { return nil }) == nil
	})
}

// TestWhatIsStruckVanishes: a session taken off the list leaves nothing there, also on
// a list that an earlier release made.
func TestWhatIsStruckVanishes(t *testing.T) {
	_, url := externalServer(t, true)
	b := openOn(t, Options{URL: url, NodeName: "a"})
	_, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: PresenceStream, Subjects: []string{presenceRoot + everything}, MaxMsgsPerSubject: 1, AllowDirect: true,
		PersistMode: jetstream.AsyncPersistMode,
	})
	must(t, err)
	node, err := b.Join(t.Context(), NodeOptions{Identity: "a"})
	must(t, err)
	t.Cleanup(func() { stopWithin(t, node.Leave) })
	a, err := b.Presence(t.Context(), node)
	must(t, err)
	t.Cleanup(func() { stopWithin(t, a.Close) })

	var begins, ends []device.PresenceEvent
	for i := range 3 * listFlight / 2 {
		begin, end := stay(i)
		begins, ends = append(begins, begin), append(ends, end)
	}
	must(t, a.Write(t.Context(), begins))
	stays := len(begins) - 1
	must(t, a.Write(t.Context(), ends[:stays]))
	if listed := idsOf(t, a); listed != begins[stays].ID {
		t.Errorf("the list says %q are open, want the last", listed)
	}
	eventually(t, "nothing but the open session on the list", func() bool {
		s, err := b.js.Stream(t.Context(), PresenceStream)
		must(t, err)
		return s.CachedInfo().State.Msgs == 1
	})
}
