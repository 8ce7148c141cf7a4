package pipeline

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
)

// numbered is n messages as a store has them, in stream order from 1 on.
func numbered(n int) (all []device.Stored) {
	for i := range n {
		seq := uint64(i + 1)
		all = append(all, device.Stored{
			Message:  device.Message{Tenant: "default", Device: "d", Channel: []string{"room", "room/1", "hall"}[i%3], Payload: fmt.Append(nil, seq)},
			Position: device.Position{Epoch: 1, Seq: seq}, StoredAt: time.Unix(int64(seq), 0),
		})
	}
	return all
}

func TestHistoryInTheOrderOfTheStream(t *testing.T) {
	for _, c := range []struct {
		name    string
		after   uint64
		first   uint64 // that the stream keeps
		stored  int
		shuffle bool // the order of arrival differs from the stream's
	}{
		{"a seam", 5, 900, 2000, false},
		{"out of order", 5, 2500, 3000, true},
		{"the store is just as far", 0, 501, 500, false},
		{"one message", 0, 2, 1, false},
		{"nothing is stored", 3, 10, 0, false},
		{"nothing that the stream has not", 899, 900, 2000, false},
	} {
		for _, q := range []FeedQuery{
			{Tenant: "default"}, {Tenant: "default", Device: "d"}, {Tenant: "default", Channel: "room", Below: true},
			{Tenant: "default", Device: "d", Channel: "room", Below: true}, {Tenant: "default", Device: "d", Channel: "hall"}, {Tenant: "default", Device: "e"},
		} {
			s := newMemStore(t)
			s.messages = numbered(c.stored)
			var want []uint64
			for _, m := range s.messages {
				if m.Position.Seq > c.after && m.Position.Seq < c.first && q.takes(&m.Message) {
					want = append(want, m.Position.Seq)
				}
			}
			if c.shuffle && q.Device != "" {
				random := rand.New(rand.NewPCG(1, 2))
				for part := range slices.Chunk(s.messages, 50) {
					random.Shuffle(len(part), func(a, b int) { part[a], part[b] = part[b], part[a] })
				}
			}
			var got []uint64
			h := history{store: s, q: q, after: &device.Position{Epoch: 1, Seq: c.after}, fn: func(m device.Stored) error {
				got = append(got, m.Position.Seq)
				return nil
			}}
			if err := h.catchUp(t.Context(), device.Position{Epoch: 1, Seq: c.first}); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, %+v: got %d messages (%v), want %d", c.name, q, len(got), err, len(want))
			}
			if h.after.Seq != c.first-1 {
				t.Errorf("%s, %+v: it goes on after %d", c.name, q, h.after.Seq)
			}
		}
	}
}

func TestHistorySinceATime(t *testing.T) {
	s := newMemStore(t)
	s.messages = numbered(300)
	for i := range 100 { // an earlier life of the stream
		s.messages[i].Position = device.Position{Epoch: 1, Seq: uint64(i + 1000)}
	}
	for i := 100; i < 300; i++ {
		s.messages[i].Position.Epoch = 1_700_000_000_000
	}
	end := device.Position{Epoch: 1_700_000_000_000, Seq: 250}
	for stored, want := range map[int]int{0: 1, 1: 1, 50: 50, 100: 100, 101: 101, 200: 200, 249: 249, 250: 0, 1000: 0} {
		at, err := since(t.Context(), s, "default", time.Unix(int64(stored), 0), end)
		if err != nil {
			t.Fatal(err)
		}
		next, first := s.messages[0], false
		for _, m := range s.messages {
			if first = at.Before(m.Position); first {
				next = m
				break
			}
		}
		if want == 0 && (at.Epoch != end.Epoch || at.Seq != end.Seq-1) || want > 0 && (!first || string(next.Payload) != fmt.Sprint(want)) {
			t.Errorf("after %v comes %s, want what was stored at %d", at, next.Payload, stored)
		}
	}
	s.unread = errOutage
	if _, err := since(t.Context(), s, "default", time.Unix(7, 0), end); err == nil {
		t.Error("a store that fails is one without messages")
	}
}

func purgeBefore(t testing.TB, b *Belt, seq uint64) {
	t.Helper()
	s, err := b.js.Stream(t.Context(), TelemetryStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(seq)); err != nil {
		t.Fatal(err)
	}
}

// TestFollowGoesOnFromTheStore: what left the stream comes from the store, once and
// in order, also when it left it under a reader's feet, and more than once.
func TestFollowGoesOnFromTheStore(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Relaxed})
	s := newMemStore(t)
	p := persist(t, b, s, PersistOptions{})
	submitAll(t, b, "a", 3000)
	submitAll(t, b, "b", 20)
	waitStored(t, p)
	purgeBefore(t, b, 100)
	for _, q := range []FeedQuery{{Tenant: "default"}, {Tenant: "default", Device: "a"}} {
		n, want := 0, uint64(1)
		err := b.Follow(t.Context(), s, q, &device.Position{}, func(m device.Stored) error {
			if m.Position.Seq != want {
				t.Fatalf("%+v: message %d comes where %d should", q, m.Position.Seq, want)
			}
			want++
			switch n++; n {
			case 50: // while the store is read
				purgeBefore(t, b, 300)
			case 500: // while the stream is
				purgeBefore(t, b, 2900)
			case 3000:
				return errEnough
			}
			return nil
		})
		if err != errEnough {
			t.Errorf("%+v: %v", q, err)
		}
	}
	s.unread = errOutage
	if err := b.Follow(t.Context(), s, FeedQuery{Tenant: "default"}, &device.Position{}, func(device.Stored) error { return nil }); err != errOutage {
		t.Errorf("a store that cannot be read: %v", err)
	}
}

// subjects of a channel and what takes says of it agree.
func TestFeedQueryTakesWhatItsFilterDoes(t *testing.T) {
	for _, q := range []FeedQuery{{}, {Device: "d"}, {Channel: "room"}, {Channel: "room", Below: true}, {Device: "d", Channel: "room", Below: true}} {
		for _, m := range []device.Message{{Device: "d"}, {Device: "e"}, {Device: "d", Channel: "room"}, {Device: "e", Channel: "room/1"}, {Device: "d", Channel: "room/1/2"}, {Device: "d", Channel: "roomy"}} {
			q.Tenant, m.Tenant = "default", "default"
			subject := TelemetrySubject(m.ID(), m.Channel)
			through := slices.ContainsFunc(q.filter(), func(f string) bool { return natsMatch(f, subject) })
			if through != q.takes(&m) {
				t.Errorf("%+v: %s is let through: %v", q, subject, through)
			}
		}
	}
}

// natsMatch is whether a filter takes a subject.
func natsMatch(filter, subject string) bool {
	f, s := strings.Split(filter, "."), strings.Split(subject, ".")
	for i, level := range f {
		if level == ">" {
			return len(s) > i
		}
		if i >= len(s) || level != "*" && level != s[i] {
			return false
		}
	}
	return len(f) == len(s)
}
