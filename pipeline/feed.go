package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// FeedQuery says whose messages to follow.
type FeedQuery struct {
	Tenant  string
	Device  string // "": all of the tenant's
	Channel string // "": all channels
	Below   bool   // the channels below Channel, too
}

// filter is the subjects of what is followed.
func (q *FeedQuery) filter() []string {
	if q.Channel == "" {
		return telemetryFilter(q.Tenant, q.Device)
	}
	return channelFilter(q.Tenant, q.Device, q.Channel, q.Below)
}

// takes reports whether a message of the tenant is one to follow.
func (q *FeedQuery) takes(m *device.Message) bool {
	return (q.Device == "" || m.Device == q.Device) &&
		(q.Channel == "" || m.Channel == q.Channel || q.Below && strings.HasPrefix(m.Channel, q.Channel+"/"))
}

// live calls fn for every message the stream holds after a position, in order, and
// for those to come until ctx ends or fn answers an error, which live answers. With
// after nil it starts with the next message to be stored. A position the stream does
// not reach back to is a *TooOldError, also when it came to be that while fn was slow.
func (b *Belt) live(ctx context.Context, q FeedQuery, after *device.Position, fn func(device.Stored) error) error {
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
	behind := true // the stream had more for us when it sent the message before
	sound := 0     // messages that had come when it still held what was passed over
	err = b.read(ctx, TelemetryStream, next, q.filter(), func(r raw) error {
		if sound--; r.fresh {
			sound = -1
		}
		if sound < 0 && (r.fresh || behind) && r.seq > next && after != nil {
			if err := b.stillKept(ctx, epoch, next); err != nil {
				return err
			}
			sound = r.waiting
		}
		next, after, behind = r.seq+1, &device.Position{Epoch: epoch, Seq: r.seq}, r.pending > 0
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
