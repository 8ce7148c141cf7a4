package pipeline

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
)

var errEnough = errors.New("enough")

func contextFor(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(context.Background(), d)
}

// collect follows until n messages came.
func collect(t testing.TB, b *Belt, q FeedQuery, after *device.Position, n int) (got []device.Stored) {
	t.Helper()
	ctx, cancel := contextFor(t, 20*time.Second)
	defer cancel()
	err := b.live(ctx, q, after, func(s device.Stored) error {
		if got = append(got, s); len(got) == n {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("got %d of %d messages: %v", len(got), n, err)
	}
	return got
}

func TestFollow(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Relaxed})
	submitAll(t, b, "a", 5)
	submitAll(t, b, "b", 5)
	submitAll(t, b, "ab", 5)

	all := collect(t, b, FeedQuery{Tenant: "default"}, &device.Position{}, 15)
	if got := collect(t, b, FeedQuery{Tenant: "default", Device: "b"}, &device.Position{}, 5); got[0].Position.Seq != 6 || got[0].Device != "b" || got[0].StoredAt.IsZero() {
		t.Errorf("the first of b is %+v", got[0])
	}
	if got := collect(t, b, FeedQuery{Tenant: "default"}, &all[6].Position, 8); got[0].Position != all[7].Position {
		t.Errorf("after %v comes %v", all[6].Position, got[0].Position)
	}

	// Live: nothing of before, everything from now on, here of another tenant too.
	ctx, cancel := contextFor(t, 20*time.Second)
	defer cancel()
	live, began := make(chan device.Stored, 10), make(chan error, 1)
	go func() {
		began <- b.live(ctx, FeedQuery{Tenant: "default", Device: "live"}, nil, func(s device.Stored) error { live <- s; return nil })
	}()
	eventually(t, "a live reader", func() bool { // it may attach after some are stored
		submitAll(t, b, "live", 1)
		return len(live) > 0
	})
	cancel()
	if err := <-began; !errors.Is(err, context.Canceled) {
		t.Errorf("a feed that is left answers %v", err)
	}
}

func TestFollowFromBeforeTheStream(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Relaxed})
	submitAll(t, b, "a", 10)
	end, err := b.TelemetryPosition(t.Context())
	if err != nil || end.Seq != 10 {
		t.Fatalf("%v, %v", end, err)
	}
	s, _ := b.js.Stream(t.Context(), TelemetryStream)
	if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(5)); err != nil {
		t.Fatal(err)
	}
	follow := func(p device.Position) error {
		return b.live(t.Context(), FeedQuery{Tenant: "default"}, &p, func(device.Stored) error { return errEnough })
	}
	for _, p := range []device.Position{{}, {Epoch: end.Epoch, Seq: 3}, {Epoch: end.Epoch - 1, Seq: 7}} {
		var old *TooOldError
		if err := follow(p); !errors.As(err, &old) || old.First != (device.Position{Epoch: end.Epoch, Seq: 5}) {
			t.Errorf("%v gave %v", p, err)
		}
	}
	if err := follow(device.Position{Epoch: end.Epoch, Seq: 4}); !errors.Is(err, errEnough) {
		t.Errorf("the oldest position kept gave %v", err)
	}
	for _, p := range []device.Position{{Epoch: end.Epoch, Seq: 11}, {Epoch: end.Epoch + 1, Seq: 1}} {
		if err := follow(p); device.CodeOf(err) != device.Invalid {
			t.Errorf("%v gave %v", p, err)
		}
	}
}
