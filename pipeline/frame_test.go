package pipeline

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// by is a publication of somebody.
func by(client, topic, payload string) *device.Publication {
	p := publication1(topic, payload)
	p.Sender = device.SessionKey{Principal: device.ID{Tenant: "default", Device: client}, Client: client}
	return p
}

// queueOf is a publisher that nothing leaves by itself.
func queueOf() *publisher {
	p := &publisher{b: &Belt{opts: Options{QueueMessages: 1e6, QueueBytes: 1 << 30}}, wake: make(chan struct{}, 1)}
	p.frames.init()
	return p
}

// TestFramesKeepOrder: whatever is put together, each publisher's messages stand in the
// order in which it published them, and what is counted of the queue is what is in it.
func TestFramesKeepOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		p := queueOf()
		var out []item
		sent, framed := map[uint64]int{}, 0
		for range 300 {
			if rnd.IntN(20) == 0 {
				p.mu.Lock()
				out = append(out, p.takeLocked(nil, 1+rnd.IntN(60), 1+rnd.IntN(1<<16))...)
				if len(p.frames.newest) > len(p.queue) {
					t.Fatalf("seed %d: %d senders are remembered of %d items", seed, len(p.frames.newest), len(p.queue))
				}
				p.mu.Unlock()
			}
			who := uint64(rnd.IntN(4)) // 0 is nobody in particular
			it := item{sender: who, subject: fmt.Sprint("topic.t.", rnd.IntN(2)), body: fmt.Appendf(nil, "%d %d", who, sent[who])}
			sent[who]++
			if _, err := p.enqueue(&it); err != nil {
				t.Fatal(err)
			}
		}
		out = append(out, p.takeLocked(nil, 1000, 1<<30)...)
		if len(p.queue) != 0 || p.count != 0 || p.bytes != 0 || len(p.frames.newest) != 0 {
			t.Fatalf("seed %d: the empty queue has %d items, %d messages, %d bytes, %d senders", seed, len(p.queue), p.count, p.bytes, len(p.frames.newest))
		}
		got := map[uint64]int{}
		for i := range out {
			it := &out[i]
			n := 0
			err := devicepb.EachPublication(it.wire(), func(one []byte) bool {
				if want := fmt.Sprintf("%d %d", it.sender, got[it.sender]); string(one) != want {
					t.Fatalf("seed %d: %q, not %q", seed, one, want)
				}
				got[it.sender]++
				n++
				return true
			})
			if err != nil || n != it.count() || n > 1 && it.sender == 0 || len(it.wire()) != it.length() {
				t.Fatalf("seed %d: %d of %d messages, %d of %d bytes, %v", seed, n, it.count(), len(it.wire()), it.length(), err)
			}
			framed += n - 1
		}
		if framed == 0 || fmt.Sprint(got) != fmt.Sprint(sent) {
			t.Fatalf("seed %d: %d put together; sent %v, got %v", seed, framed, sent, got)
		}
	}
}

func TestFramesAreBounded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name              string
		messages, size    int
		items, inTheFirst int
	}{
		{"messages", frameMost + 10, 10, 2, frameMost},
		{"bytes", 10, frameBytes / 4, 4, 3},
		{"one that is larger by itself", 3, frameBytes, 3, 1},
	} {
		p := queueOf()
		for range c.messages {
			if _, err := p.enqueue(&item{sender: 1, subject: "s", body: make([]byte, c.size)}); err != nil {
				t.Fatal(err)
			}
		}
		if len(p.queue) != c.items || p.queue[0].count() != c.inTheFirst || p.queue[0].count() > 1 && len(p.queue[0].wire()) > frameBytes {
			t.Errorf("%s: %d items, the first of %d messages and %d bytes", c.name, len(p.queue), p.queue[0].count(), len(p.queue[0].wire()))
		}
	}
}

// framed appends messages of one client so that they stand together, and one behind them.
func framed(t *testing.T, b *Belt, client, topic string, n int) {
	t.Helper()
	b.topics.mu.Lock() // nothing leaves meanwhile
	done := make(chan error, n)
	for i := range n {
		p := by(client, topic, fmt.Sprint(client, i))
		b.topics.push(&item{subject: topicSubject(topicRoot, p.Tenant, p.Topic), body: devicepb.MarshalPublication(p),
			sender: b.topics.frames.sender(p.Sender), done: func(_ uint64, err error) { done <- err }})
	}
	b.topics.poke()
	b.topics.mu.Unlock()
	for range n {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func payload(t *testing.T, a device.Arrival) string {
	t.Helper()
	p, err := a.Open()
	if err != nil {
		t.Error(err)
		return ""
	}
	return string(p.Payload)
}

// TestFramesAreReadAsMessages: what stands in one place of the stream is one message after
// the other to everybody who reads, from any of them on.
func TestFramesAreReadAsMessages(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	topics, src := b.Topics(), device.SourceTopics
	framed(t, b, "a", "x", 5)
	framed(t, b, "b", "y", 3)
	appendAll(t, b, by("a", "x", "last"))
	if last := lastSeq(t, b, TopicStream); last != 3 {
		t.Fatalf("the stream has %d places, not 3", last)
	}
	want := strings.Fields("a0 a1 a2 a3 a4 b0 b1 b2 last")
	var places []uint64
	read := func(after uint64, filter string) (got []string) {
		whole, err := topics.Read(t.Context(), src, "default", []string{filter}, after, func(a device.Arrival) bool {
			got, places = append(got, payload(t, a)), append(places, a.Seq)
			return true
		})
		if err != nil || !whole {
			t.Fatalf("after %d: %v, %v", after, whole, err)
		}
		return got
	}
	if got := read(0, "#"); !slices.Equal(got, want) || !slices.IsSorted(places) {
		t.Fatalf("%q at %v", got, places)
	}
	all := slices.Clone(places)
	for i, at := range all {
		if got := read(at, "#"); !slices.Equal(got, want[i+1:]) {
			t.Errorf("after message %d: %q", i, got)
		}
		if p, err := topics.Get(t.Context(), device.Ref{Source: src, Seq: at}); err != nil || string(p.Payload) != want[i] {
			t.Errorf("message %d: %+v, %v", i, p, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		err := topics.Follow(ctx, src, at-1, func(a device.Arrival) {
			if got = append(got, payload(t, a)); len(got) == len(want)-i {
				cancel()
			}
		})
		if !slices.Equal(got, want[i:]) {
			t.Errorf("from message %d: %q, %v", i, got, err)
		}
	}
	if got := read(all[1], "y"); !slices.Equal(got, want[5:8]) {
		t.Errorf("of one topic: %q", got)
	}
	end, err := topics.End(t.Context(), src)
	if known := topics.Known(src); err != nil || end != known || end.Seq != all[8] {
		t.Errorf("it ends at %v, known is %v, %v", end, known, err)
	}
	n := 0
	if whole, err := topics.Read(t.Context(), src, "default", []string{"#"}, 0, func(device.Arrival) bool { n++; return n < 3 }); n != 3 || whole || err != nil {
		t.Errorf("stopped in a frame: %d, %v, %v", n, whole, err)
	}
}

// TestAFrameIsSettledInParts: of a frame that a group meets, because it was stored while
// nobody knew of the group, what was settled does not come again with what was given back.
func TestAFrameIsSettledInParts(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	framed(t, b, "a", "x", 30)
	g := device.Group{Tenant: "default", Name: "g", Filter: "x"}
	r := share(t, b, device.SourceTopics, g, 1, 100)
	for n := 30; n > 0; n -= 10 {
		eventually(t, "what is not settled is offered", func() bool { return len(r.all()) == n })
		r.mu.Lock()
		settles := r.settle
		r.got, r.settle = nil, nil
		r.mu.Unlock()
		for i, settle := range settles {
			if i < 10 {
				settle(device.Accepted)
			} else {
				settle(device.Released)
			}
		}
	}
	appendAll(t, b, by("a", "x", "next"))
	eventually(t, "it goes on", func() bool { return slices.Equal(r.all(), []string{"next"}) })
	r.settleAll(device.Accepted)
	c, err := b.js.Consumer(t.Context(), TopicStream, shareConsumerName(g))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "all is acknowledged", func() bool {
		info, err := c.Info(t.Context())
		return err == nil && info.NumAckPending == 0 && info.NumPending == 0
	})
}

// TestAGroupThatDidNotBeginChangesNothing: its server was too slow, say.
func TestAGroupThatDidNotBeginChangesNothing(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	b.topics.frames.open.Add(1) // a frame that is not answered yet
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	g := device.Group{Tenant: "default", Name: "g", Filter: "x"}
	_, err := b.Topics().Share(ctx, device.SourceTopics, g, 0, func(device.Arrival, func(device.OutcomeKind)) {}, func(error) {})
	if device.CodeOf(err) != device.Unavailable {
		t.Errorf("the group began: %v", err)
	}
	b.topics.frames.open.Add(-1)
	if framed(t, b, "a", "x", 4); lastSeq(t, b, TopicStream) != 1 {
		t.Errorf("4 messages stand in %d places", lastSeq(t, b, TopicStream))
	}
}

// TestGroupsReadMessagesOneByOne: while a group of subscribers reads the topics, also
// after a restart, no messages stand together, and when it has ended they do again.
func TestGroupsReadMessagesOneByOne(t *testing.T) {
	stands := func(b *Belt, n int, want uint64) {
		t.Helper()
		before := lastSeq(t, b, TopicStream)
		framed(t, b, "a", "x", n)
		if got := lastSeq(t, b, TopicStream) - before; got != want {
			t.Errorf("%d messages stand in %d places, not %d", n, got, want)
		}
	}
	g := device.Group{Tenant: "default", Name: "g", Filter: "x"}
	dir := t.TempDir()
	t.Run("before a restart", func(t *testing.T) {
		b := inside(t, dir, Options{})
		stands(b, 4, 1)
		r := share(t, b, device.SourceTopics, g, 0, 100)
		stands(b, 4, 4)
		eventually(t, "the group has them", func() bool { return len(r.all()) == 4 })
		r.settleAll(device.Accepted)
		r.Detach("test")
		if err := b.Topics().EndShare(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		stands(b, 4, 1)
		r = share(t, b, device.SourceTopics, g, firstAt(device.SourceTopics, lastSeq(t, b, TopicStream))-1, 100)
		eventually(t, "a group made again after a place has what stands behind it", func() bool { return len(r.all()) == 4 })
		r.settleAll(device.Accepted)
		r.Detach("test")
		again := share(t, b, device.SourceTopics, g, 0, 100)
		stands(b, 2, 2)
		eventually(t, "what was settled does not come again", func() bool { return len(again.all()) == 2 })
		again.settleAll(device.Accepted)
		if err := b.Topics().KeepShare(t.Context(), g, time.Hour); err != nil {
			t.Fatal(err)
		}
		again.Detach("test")
	})
	b := inside(t, dir, Options{})
	stands(b, 2, 2)
	if err := b.Topics().EndShare(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	stands(b, 2, 1)
}
