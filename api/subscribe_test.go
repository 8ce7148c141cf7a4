package api_test

import (
	"context"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// stream is a feed of these messages that goes on without any.
func stream(messages []device.Stored) func(context.Context, string, string, *device.Position, func(device.Stored) error) error {
	return func(ctx context.Context, _, _ string, after *device.Position, fn func(device.Stored) error) error {
		for _, m := range messages {
			if after != nil && after.Before(m.Position) {
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
	h := open(t)
	h.feed.follow = stream(several(1, 10, 10))
	if got, err := subscribe(t, h, dev1, at(5), 5); err != nil || !slices.Equal(got, upTo(6, 10)) {
		t.Errorf("got %v (%v)", got, err)
	}
}

func TestSubscribeRefuses(t *testing.T) {
	h := open(t)
	h.feed.follow = stream(several(100, 110, 10))
	_, err := subscribe(t, h, dev1, "not-a-position", 1)
	wantCode(t, err, codes.InvalidArgument)
	_, err = subscribe(t, h, "tenants", "", 1)
	wantCode(t, err, codes.InvalidArgument)
}
