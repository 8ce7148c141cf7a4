package pipeline

import (
	"context"
	"errors"
	"strings"

	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// Sessions answers at most limit open sessions of a tenant, or of one device,
// on any of several nodes, that were entered after a sequence of the list, in its order, and the
// sequence to go on after; 0 when there are no more. What a dead node left and
// nobody has taken away yet is left out, and what ended before it was entered.
func (p *Presence) Sessions(ctx context.Context, tenant, devicename string, after uint64, limit int) (all []device.PresenceEvent, next uint64, err error) {
	filter := presenceFilter(tenant, devicename)
	for len(all) < limit {
		msgs, err := jetstreamext.GetBatch(ctx, p.b.rjs, PresenceStream, limit-len(all), jetstreamext.GetBatchSubject(filter), jetstreamext.GetBatchSeq(after+1))
		if err != nil {
			return nil, 0, device.Wrap(device.Unavailable, "the list of sessions cannot be read now, try again", err)
		}
		n := 0
		for m, err := range msgs {
			if errors.Is(err, jetstreamext.ErrNoMessages) {
				break
			}
			if err != nil {
				return nil, 0, device.Wrap(device.Unavailable, "the list of sessions cannot be read now, try again", err)
			}
			n, after = n+1, m.Sequence
			if e, err := devicepb.UnmarshalPresence(m.Data); err == nil && e.Connected && p.node.Lives(incarnationOf(m.Subject)) {
				all = append(all, *e)
			}
		}
		if n == 0 {
			return all, 0, nil
		}
	}
	return all, after, nil
}

func incarnationOf(subject string) string {
	incarnation, _, _ := strings.Cut(strings.TrimPrefix(subject, presenceRoot+"."), ".")
	return incarnation
}

// FollowList calls fn with every session entered on the list from now on, by
// any node, in its order, until ctx ends. With an embedded server there is no other
// node, and nothing to tell.
func (p *Presence) FollowList(ctx context.Context, ready func(), fn func(e device.PresenceEvent, elsewhere bool)) error {
	if p.b.opts.Server != nil {
		return idle(ctx, ready)
	}
	s, err := p.b.rjs.Stream(ctx, PresenceStream)
	if err != nil {
		return err
	}
	next := s.CachedInfo().State.LastSeq + 1
	ready()
	return p.b.read(ctx, PresenceStream, next, nil, func(r raw) error {
		if e, err := devicepb.UnmarshalPresence(r.body); err == nil {
			fn(*e, incarnationOf(r.subject) != p.node.Info().Incarnation)
		}
		return nil
	})
}

// Follow calls fn with the beginnings and ends of a tenant's sessions, or of
// one device's, after a position (nil: from now on), until ctx ends or fn
// answers an error, which Follow answers. A position older than what is kept is
// a *TooOldError.
func (p *Presence) Follow(ctx context.Context, tenant, devicename string, after *device.Position, fn func(device.StoredPresence) error) error {
	s, err := p.b.rjs.Stream(ctx, PresenceLogStream)
	if err != nil {
		return device.Wrap(device.Unavailable, "presence cannot be read now, try again", err)
	}
	info := s.CachedInfo()
	epoch, next := streamEpoch(info), info.State.LastSeq+1
	seen := 0
	if after != nil {
		var before device.Position
		before, seen = parcelAfter(*after)
		if next, err = feedStart(before, epoch, info.State.FirstSeq, info.State.LastSeq); err != nil {
			return inParcels(err)
		}
	}
	first := next
	err = p.b.read(ctx, PresenceLogStream, next, []string{presenceLogSubject(tenant)}, func(r raw) error {
		events, err := devicepb.UnmarshalPresences(r.body)
		if err != nil {
			return nil // not written by us
		}
		for i := range events {
			e := &events[i]
			if r.seq == first && i < seen || e.Device.Tenant != tenant || devicename != "" && e.Device.Device != devicename {
				continue
			}
			if err := fn(device.StoredPresence{PresenceEvent: *e, Position: placeOf(epoch, r.seq, i, len(events))}); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// inParcels is an error about places in the stream as one about places in its parcels.
func inParcels(err error) error {
	var old *TooOldError
	if errors.As(err, &old) {
		return &TooOldError{First: placeOf(old.First.Epoch, old.First.Seq, 0, 2)}
	}
	return err
}
