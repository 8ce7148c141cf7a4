package pipeline

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// sharer is one reader of a group.
type sharer struct {
	adapters.Feed
	mu     sync.Mutex
	got    []string
	settle []func(device.OutcomeKind)
	lost   error
}

var groupG = device.Group{Tenant: "default", Name: "g", Filter: "a/#"}

func share(t testing.TB, b *Belt, src device.Source, g device.Group, after uint64, credit int) *sharer {
	t.Helper()
	r := &sharer{}
	f, err := b.Topics().Share(t.Context(), src, g, after, func(a device.Arrival, settle func(device.OutcomeKind)) {
		p, err := a.Open()
		if err != nil {
			t.Error(err)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got, r.settle = append(r.got, string(p.Payload)), append(r.settle, settle)
	}, func(err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lost = err
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Feed = f
	t.Cleanup(func() { f.Detach("the test is over") })
	if credit > 0 {
		f.Request(credit)
	}
	return r
}

// all is what came so far.
func (r *sharer) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *sharer) settleAll(kind device.OutcomeKind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, settle := range r.settle {
		settle(kind)
	}
	r.settle = nil
}

// TestSharedByReaders: of two belts on one server each message of a group comes to
// one; what a reader gave back, or held when it left, comes to the other.
func TestSharedByReaders(t *testing.T) {
	_, url := externalServer(t, true)
	one, two := openOn(t, Options{URL: url, NodeName: "one"}), openOn(t, Options{URL: url, NodeName: "two"})
	appendAll(t, one, publication1("a/b", "before"))
	r1, r2 := share(t, one, device.SourceTopics, groupG, 0, 10), share(t, two, device.SourceTopics, groupG, 0, 10)
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprintf("%02d", i))
		appendAll(t, one, publication1("a/b", want[i]), publication1("b", "elsewhere"))
	}
	eventually(t, "each has what it asked for", func() bool { return len(r1.all()) == 10 && len(r2.all()) == 10 })
	if got := append(r1.all(), r2.all()...); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
		t.Errorf("they got %q", got)
	}
	r2.settleAll(device.Accepted)
	r2.Request(10)
	held := r1.all()
	r1.Detach("the test says so")
	eventually(t, "what one held comes to two", func() bool { return len(r2.all()) == 20 })
	if got := r2.all()[10:]; !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(held))) {
		t.Errorf("one held %q, two got %q", held, got)
	}
}

// TestShareOutlivesItsReaders, as long as it was told to, and no longer than its
// last reader when it is ended.
func TestShareOutlivesItsReaders(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	topics := b.Topics()
	r := share(t, b, device.SourceTopics, groupG, 0, 0)
	for range 2 {
		if err := topics.KeepShare(t.Context(), groupG, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if err := topics.KeepShare(t.Context(), groupG, time.Minute); err != nil {
		t.Fatal(err)
	}
	c, err := b.rjs.Consumer(t.Context(), TopicStream, shareConsumerName(groupG))
	if err != nil || c.CachedInfo().Config.InactiveThreshold != time.Hour {
		t.Fatalf("%+v, %v", c, err)
	}
	if err := topics.EndShare(t.Context(), groupG); err != nil {
		t.Fatal(err)
	}
	appendAll(t, b, publication1("a/1", "1"))
	r.Detach("the test says so")
	again := share(t, b, device.SourceTopics, groupG, 0, 1)
	eventually(t, "the group goes on", func() bool { return slices.Equal(again.all(), []string{"1"}) })
	again.Detach("the test says so")
	eventually(t, "it ends", func() bool {
		if err := topics.EndShare(t.Context(), groupG); err != nil {
			t.Fatal(err)
		}
		_, err := b.rjs.Consumer(t.Context(), TopicStream, shareConsumerName(groupG))
		return gone(err)
	})
	if err := topics.EndShare(t.Context(), groupG); err != nil {
		t.Errorf("ended twice: %v", err)
	}
}

// TestShareOverARestart: what came while all its readers were away is there after
// the server was restarted.
func TestShareOverARestart(t *testing.T) {
	dir := t.TempDir()
	t.Run("before", func(t *testing.T) {
		b := inside(t, dir, Options{})
		r := share(t, b, device.SourceTopics, groupG, 0, 0)
		if err := b.Topics().KeepShare(t.Context(), groupG, time.Hour); err != nil {
			t.Fatal(err)
		}
		r.Detach("the test says so")
		appendAll(t, b, publication1("a", "1"), publication1("b", "no"), publication1("a", "2"))
	})
	b := inside(t, dir, Options{})
	r := share(t, b, device.SourceTopics, groupG, 0, 10)
	eventually(t, "both are there", func() bool { return slices.Equal(r.all(), []string{"1", "2"}) })
	r.settleAll(device.Accepted)
}

// TestShareLost: who reads for a group that is taken away is told, and begins
// another after what it knows.
func TestShareLost(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	r := share(t, b, device.SourceTopics, groupG, 0, 10)
	appendAll(t, b, publication1("a", "1"), publication1("a", "2"))
	eventually(t, "both came", func() bool { return len(r.all()) == 2 })
	if err := b.rjs.DeleteConsumer(t.Context(), TopicStream, shareConsumerName(groupG)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the reader is told", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return device.CodeOf(r.lost) == device.Unavailable && r.lost != nil
	})
	appendAll(t, b, publication1("a", "3"))
	again := share(t, b, device.SourceTopics, groupG, lastAt(device.SourceTopics, 2), 10)
	eventually(t, "the rest comes", func() bool { return slices.Equal(again.all(), []string{"3"}) })
}

func TestSharesOfATenantAreBounded(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range maxShares {
		g := device.Group{Tenant: "default", Name: fmt.Sprint(i), Filter: "a"}
		if _, err := b.Topics().shareConsumer(ctx, device.SourceTopics, g, 0); err != nil {
			t.Fatal(err)
		}
	}
	one := func(g device.Group) error {
		f, err := b.Topics().Share(t.Context(), device.SourceTopics, g, 0, nil, func(error) {})
		if err == nil {
			f.Detach("the test says so")
		}
		return err
	}
	if err := one(groupG); device.CodeOf(err) != device.Busy {
		t.Errorf("one too many: %v", err)
	}
	if err := one(device.Group{Tenant: "default", Name: "7", Filter: "a"}); err != nil {
		t.Errorf("one that is there: %v", err)
	}
	if err := one(device.Group{Tenant: "other", Name: "g", Filter: "a"}); err != nil {
		t.Errorf("of another tenant: %v", err)
	}
}

// TestSharedTelemetry: a group over telemetry reads it as topics.
func TestSharedTelemetry(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	g := device.Group{Tenant: "default", Name: "g", Filter: "+/telemetry/#"}
	r := share(t, b, device.SourceTelemetry, g, 0, 10)
	done := make(chan error, 1)
	if err := b.Submit(testMessage("d", 7), func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	eventually(t, "the reading comes", func() bool { return slices.Equal(r.all(), []string{`{"n":7}`}) })
}
