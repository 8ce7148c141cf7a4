package pipeline

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// TestWhoeverHoldsMostMakesRoom: a tenant that says more than the stream holds
// loses its own oldest messages, and no other tenant any.
func TestWhoeverHoldsMostMakesRoom(t *testing.T) {
	const most = 4 << 20
	b := inside(t, t.TempDir(), Options{TopicBytes: most, Durability: Relaxed})
	room := &topicRoom{b: b}
	of := func(tenant, payload string, size int) *device.Publication {
		p := publication1("a/b", payload)
		p.Tenant, p.Payload = tenant, append([]byte(payload), bytes.Repeat([]byte(" "), size)...)
		return p
	}
	kept := func(tenant string) (n int, last string) {
		if _, err := b.Topics().Read(t.Context(), device.SourceTopics, tenant, []string{"#"}, 0, func(a device.Arrival) bool {
			p, err := a.Open()
			if err != nil {
				t.Fatal(err)
			}
			n++
			last = string(bytes.TrimSpace(p.Payload))
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return n, last
	}
	for i := range 50 {
		appendAll(t, b, of("quiet", fmt.Sprint(i), 1000), of("calm", fmt.Sprint(i), 5000))
	}
	said := 0
	for range 100 { // 10 MiB
		var some []*device.Publication
		for range 10 {
			said++
			some = append(some, of("loud", fmt.Sprint(said), 10_000))
		}
		appendAll(t, b, some...)
		if err := room.look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, tenant := range []string{"quiet", "calm"} {
		if n, last := kept(tenant); n != 50 || last != "49" {
			t.Errorf("%s has %d messages, the last %q", tenant, n, last)
		}
	}
	if n, last := kept("loud"); n < 150 || n > 400 || last != "1000" {
		t.Errorf("the loud one has %d messages, the last %q", n, last)
	}
}

// TestOneTenantHasTheStreamAlone: then nothing is taken from it before the stream
// is full.
func TestOneTenantHasTheStreamAlone(t *testing.T) {
	b := inside(t, t.TempDir(), Options{TopicBytes: 1 << 20, Durability: Relaxed})
	room := &topicRoom{b: b}
	for range 200 {
		appendAll(t, b, &device.Publication{Tenant: "default", Topic: "a", QoS: 1, Payload: make([]byte, 10_000)})
		if err := room.look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.js.Stream(t.Context(), TopicStream)
	if err != nil {
		t.Fatal(err)
	}
	if state := s.CachedInfo().State; state.Bytes < 15<<16 || state.NumDeleted > 0 {
		t.Errorf("the stream holds %d bytes, %d messages are missing in between", state.Bytes, state.NumDeleted)
	}
}

// TestWhatIsNotedIsWhatIsStored: what this process published is counted as what is
// read from the stream, which others write to as well.
func TestWhatIsNotedIsWhatIsStored(t *testing.T) {
	b := inside(t, t.TempDir(), Options{TopicBytes: 1 << 20, Durability: Relaxed})
	room := &topicRoom{b: b}
	seen := 0
	for i := range 400 {
		p := publication1("a/b", strings.Repeat("x", 3000+i))
		p.Tenant = []string{"one", "an other"}[i%2]
		switch {
		case i%97 == 96: // not by this publisher
			if _, err := b.js.Publish(t.Context(), topicSubject(topicRoot, p.Tenant, p.Topic), devicepb.MarshalPublication(p)); err != nil {
				t.Fatal(err)
			}
		default:
			appendAll(t, b, p)
		}
		if i%10 != 5 { // not right after one that is not noted, which may be on its way yet
			continue
		}
		if err := room.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if room.held == nil {
			continue
		}
		seen++
		info, err := b.js.Stream(t.Context(), TopicStream)
		if err != nil {
			t.Fatal(err)
		}
		state := info.CachedInfo().State
		read := &topicRoom{b: b, held: &holdings{next: state.FirstSeq, grain: 1, of: map[string]*holding{}}}
		if err := read.read(t.Context(), state.LastSeq); err != nil {
			t.Fatal(err)
		}
		for tenant, h := range read.held.of {
			if got := room.held.of[tenant].bytes - h.bytes; got < 0 || got > room.held.grain {
				t.Fatalf("of %s there are %d bytes, %d more are counted", tenant, h.bytes, got)
			}
		}
		if len(room.held.of) != len(read.held.of) || room.held.next != state.LastSeq+1 {
			t.Fatalf("%d tenants to %d are counted, %d to %d are there", len(room.held.of), room.held.next, len(read.held.of), state.LastSeq+1)
		}
	}
	if seen < 20 {
		t.Fatalf("only %d looks", seen)
	}
}

// TestNotes: what follows is counted, once, up to a gap.
func TestNotes(t *testing.T) {
	var notes topicNotes
	note := func(seqs ...uint64) []topicNote {
		for _, seq := range seqs {
			notes.push(seq, []item{{subject: "topic.t.a.!", body: []byte("x")}})
		}
		return notes.take()
	}
	if got := note(1); got != nil {
		t.Errorf("nobody wanted to know, and %v is noted", got)
	}
	notes.open()
	h := &holdings{next: 5, grain: 1, of: map[string]*holding{}}
	if rest := h.follow(note(0, 3, 5, 6, 6)); rest != nil || h.next != 7 {
		t.Errorf("next is %d, the rest %v", h.next, rest)
	}
	if rest := h.follow(note(7, 9, 10)); len(rest) != 2 || h.next != 8 || len(h.of["topic.t"].parts) != 3 {
		t.Errorf("next is %d, the rest %v", h.next, rest)
	}
	for range maxTopicNotes + 1 {
		notes.push(8, make([]item, 1))
	}
	if n := len(notes.take()); n != maxTopicNotes {
		t.Errorf("%d are noted", n)
	}
	notes.close()
	if got := note(8); got != nil {
		t.Errorf("%v is noted after it was closed", got)
	}
}

// TestEvictions: who holds most goes first, until it holds no more than others.
func TestEvictions(t *testing.T) {
	h := &holdings{next: 1, grain: 10, of: map[string]*holding{}}
	seq := uint64(0)
	say := func(tenant string, n int, bytes int64) {
		for range n {
			seq++
			h.add(tenant, seq, bytes)
		}
	}
	say("a", 10, 4)  // 40
	say("b", 100, 1) // 100
	say("c", 1, 60)  // one message above the grain
	if all := h.evict(200, 180); len(all) != 1 || all[0].tenant != "b" || all[0].through != 30 || h.of["b"].bytes != 80 {
		t.Errorf("%+v, b holds %d", all, h.of["b"].bytes)
	}
	for _, e := range h.evict(180, 100) {
		if e.tenant == "a" {
			t.Error("who held least had to go")
		}
	}
	h.forget(seq)
	if len(h.of) > 1 || h.next != seq+1 {
		t.Errorf("%d tenants are left", len(h.of))
	}
	if all := h.evict(1000, 0); len(all) > 0 {
		t.Errorf("of one tenant alone: %+v", all)
	}
}
