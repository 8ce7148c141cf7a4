package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// FeedQuery says whose messages to follow.
type FeedQuery struct {
	Tenant string
	Device string // "": all of the tenant's
}

// Follow calls fn for every message stored after a position, in stream order,
// and goes on with those to come until ctx ends or fn answers an error, which
// Follow answers. With after nil it starts with the next message to be stored.
// A position the stream does not reach back to is a *TooOldError, also when it
// came to be that while fn was slow; one of another stream's life is a
// *TooOldError or, when it lies in the future, Invalid. fn may block: that slows
// only this reader.
func (b *Belt) Follow(ctx context.Context, q FeedQuery, after *device.Position, fn func(device.Stored) error) error {
	s, err := b.rjs.Stream(ctx, TelemetryStream)
	if err != nil {
		return device.Wrap(device.Unavailable, "the telemetry stream cannot be read now", err)
	}
	info := s.CachedInfo()
	epoch, next := streamEpoch(info), info.State.LastSeq+1
	if after != nil {
		if next, err = feedStart(*after, epoch, info.State.FirstSeq, info.State.LastSeq); err != nil {
			return err
		}
	}
	err = b.read(ctx, TelemetryStream, next, telemetryFilter(q.Tenant, q.Device), func(r raw) error {
		if r.fresh && r.seq > next && after != nil {
			if err := b.stillKept(ctx, epoch, next); err != nil {
				return err
			}
		}
		next, after = r.seq+1, &device.Position{Epoch: epoch, Seq: r.seq}
		m, err := devicepb.UnmarshalMessage(r.body)
		if err != nil || m.Tenant != q.Tenant {
			return nil // the persister puts it with the dead letters
		}
		return fn(device.Stored{Message: *m, Position: device.Position{Epoch: epoch, Seq: r.seq}, StoredAt: r.stored})
	})
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// feedStart is the sequence to read from, for a reader that has seen after.
func feedStart(after device.Position, epoch, first, last uint64) (uint64, error) {
	tooOld := &TooOldError{First: device.Position{Epoch: epoch, Seq: max(first, 1)}}
	switch {
	case after.Epoch > epoch || after.Epoch == epoch && after.Seq > last:
		return 0, device.Errorf(device.Invalid, "position lies after the end of the stream; it is of another server, or of data that was restored")
	case after == device.Position{}:
		if first > 1 {
			return 0, tooOld
		}
		return 1, nil
	case after.Epoch < epoch || after.Seq+1 < first:
		return 0, tooOld
	}
	return after.Seq + 1, nil
}

// stillKept says whether the stream keeps a sequence that a reader passed over:
// then what it passed over was not for it, and else it may have been purged.
func (b *Belt) stillKept(ctx context.Context, epoch, seq uint64) error {
	s, err := b.rjs.Stream(ctx, TelemetryStream)
	if err != nil {
		return device.Wrap(device.Unavailable, "the telemetry stream cannot be read now", err)
	}
	if first := s.CachedInfo().State.FirstSeq; seq < first {
		return &TooOldError{First: device.Position{Epoch: epoch, Seq: first}}
	}
	return nil
}

// TelemetryPosition is where the stream ends now: the position of its newest
// message.
func (b *Belt) TelemetryPosition(ctx context.Context) (device.Position, error) {
	s, err := b.rjs.Stream(ctx, TelemetryStream)
	if err != nil {
		return device.Position{}, fmt.Errorf("pipeline: %w", err)
	}
	return device.Position{Epoch: streamEpoch(s.CachedInfo()), Seq: s.CachedInfo().State.LastSeq}, nil
}
