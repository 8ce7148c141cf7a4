package api_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// stream is a feed that keeps messages from first on, and ends after the last.
func stream(messages []device.Stored, first uint64) func(context.Context, string, string, *device.Position, func(device.Stored) error) error {
	return func(ctx context.Context, _, _ string, after *device.Position, fn func(device.Stored) error) error {
		if after != nil && after.Seq+1 < first {
			return purged{device.Position{Epoch: 1, Seq: first}}
		}
		for _, m := range messages {
			if after != nil && after.Before(m.Position) && m.Position.Seq >= first {
				if err := fn(m); err != nil {
					return err
				}
			}
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

// subscribe reads n messages.
func subscribe(t *testing.T, h *house, parent, position string, n int) ([]int64, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(authorized(t))
	defer cancel()
	sub, err := pb.NewTelemetryServiceClient(h.conn).Subscribe(ctx, &pb.SubscribeRequest{Parent: parent, Position: position})
	if err != nil {
		return nil, err
	}
	var got []*pb.Message
	for len(got) < n {
		m, err := sub.Recv()
		if err != nil {
			return numbers(got), err
		}
		got = append(got, m)
	}
	return numbers(got), nil
}

func at(n uint64) string { return devicepb.EncodePosition(device.Position{Epoch: 1, Seq: n}) }

func TestSubscribeFromNow(t *testing.T) {
	h := open(t)
	h.feed.follow = func(ctx context.Context, tenant, name string, after *device.Position, fn func(device.Stored) error) error {
		if tenant != "acme" || name != "" || after != nil {
			t.Errorf("asked to follow %q %q after %v", tenant, name, after)
		}
		for _, m := range several(1, 3, 10) {
			if err := fn(m); err != nil {
				return err
			}
		}
		<-ctx.Done()
		return ctx.Err()
	}
	if got, err := subscribe(t, h, "tenants/acme/devices/-", "", 3); err != nil || !slices.Equal(got, upTo(1, 3)) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestSubscribeFromAPosition(t *testing.T) {
	for _, c := range []struct {
		name         string
		after, first uint64 // the caller's position; the first message the stream keeps
		inStore      int    // of the device
		last         int
		shuffle      bool // the store's order of arrival differs from the stream's
	}{
		{"in the stream", 5, 3, 10, 10, false},
		{"from the very beginning", 0, 1, 10, 10, false},
		{"older than the stream", 5, 900, 2000, 2000, false},
		{"older, out of order", 5, 2500, 3000, 3000, true},
		{"older, everything purged", 7, 500, 499, 499, false},
		{"older, one message", 0, 2, 1, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := open(t)
			all := several(1, c.last, 10)
			h.feed.follow = stream(all, c.first)
			h.store.messages = several(1, c.inStore, 10)
			if c.shuffle {
				random := rand.New(rand.NewPCG(1, 2))
				for i := 0; i+50 < len(h.store.messages); i += 50 {
					part := h.store.messages[i : i+50]
					random.Shuffle(len(part), func(a, b int) { part[a], part[b] = part[b], part[a] })
				}
			}
			want := upTo(int64(c.after)+1, int64(c.last))
			if got, err := subscribe(t, h, dev1, at(c.after), len(want)); err != nil || !slices.Equal(got, want) {
				t.Errorf("got %d messages (%v), want %d", len(got), err, len(want))
			}
		})
	}
}

// TestSubscribeToAllFromThePast: messages of all devices come from the store up
// to where the stream begins, and from the stream from there on, also when the
// stream has lost more of its beginning meanwhile.
func TestSubscribeToAllFromThePast(t *testing.T) {
	for _, c := range []struct {
		name         string
		after, first uint64
		inStore      int
		again        uint64 // when first was caught up with, the stream begins here; 0: as before
	}{
		{"a seam", 5, 900, 2000, 0},
		{"the store is just as far", 0, 501, 500, 0},
		{"purged once more", 5, 900, 2000, 1500},
		{"everything purged", 0, 2001, 2000, 0},
		{"in the stream", 950, 900, 2000, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := open(t)
			all := several(1, 2000, 10)
			h.store.messages = several(1, c.inStore, 10)
			h.feed.follow = stream(all, c.first)
			if c.again > 0 {
				h.feed.follow = func(ctx context.Context, tenant, name string, after *device.Position, fn func(device.Stored) error) error {
					if after.Seq+1 >= c.first {
						return stream(all, c.again)(ctx, tenant, name, after, fn)
					}
					return stream(all, c.first)(ctx, tenant, name, after, fn)
				}
			}
			want := upTo(int64(c.after)+1, 2000)
			if got, err := subscribe(t, h, "tenants/default/devices/-", at(c.after), len(want)); err != nil || !slices.Equal(got, want) {
				t.Errorf("got %d messages (%v), want %d", len(got), err, len(want))
			}
		})
	}
}

func TestSubscribeToNothingStoredEnds(t *testing.T) {
	h := open(t)
	calls := 0
	h.feed.follow = func(ctx context.Context, tenant, name string, after *device.Position, fn func(device.Stored) error) error {
		calls++
		return stream(several(10, 12, 10), 10)(ctx, tenant, name, after, fn)
	}
	got, err := subscribe(t, h, dev1, at(2), 3)
	if err != nil || !slices.Equal(got, upTo(10, 12)) || calls != 2 {
		t.Errorf("got %v, %v after %d calls", got, err, calls)
	}
}

func TestSubscribeRefuses(t *testing.T) {
	h := open(t)
	h.feed.follow = stream(several(100, 110, 10), 100)
	_, err := subscribe(t, h, dev1, "not-a-position", 1)
	wantCode(t, err, codes.InvalidArgument)
	_, err = subscribe(t, h, "tenants", "", 1)
	wantCode(t, err, codes.InvalidArgument)
}
