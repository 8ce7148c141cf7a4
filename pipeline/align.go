package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
)

// align compares the stream with the store's position and decides where to go
// on. A stream can be younger than the store thinks: made anew (another
// epoch), or, after a power cut of a server that does not sync, without its
// tail, so that the next messages would get numbers the store has seen, and
// pass for stored. The first begins a new epoch in the store; the second is
// mended by moving the stream past the store's position.
func (l *line) align(ctx context.Context) error {
	pos, err := l.p.store.Position(ctx, l.stream)
	if err != nil {
		return err
	}
	s, err := l.p.b.js.Stream(ctx, l.stream)
	if err != nil {
		return err
	}
	info := s.CachedInfo()
	epoch, log := streamEpoch(info), l.p.b.log.With("stream", l.stream)
	if pos != (device.Position{}) && (pos.Epoch != epoch || info.State.LastSeq < pos.Seq) {
		l.p.b.metrics.epochGuard.WithLabelValues(l.stream).Inc()
		l.guarded.Store(true)
	}
	switch {
	case pos == device.Position{}:
		pos = device.Position{Epoch: epoch}
	case pos.Epoch > epoch:
		log.Error("stream is older than the store's position: it was made anew or restored; a new epoch begins", "stored", pos, "epoch", epoch)
		if err := l.p.b.raiseEpoch(ctx, info, pos.Epoch+1); err != nil {
			return err
		}
		pos = device.Position{Epoch: pos.Epoch + 1}
	case pos.Epoch < epoch:
		log.Warn("stream was made anew; a new epoch begins", "stored", pos, "epoch", epoch)
		pos = device.Position{Epoch: epoch}
	case info.State.LastSeq < pos.Seq:
		log.Error("stream has lost its tail, which the store holds; its numbers are not used again", "last", info.State.LastSeq, "stored", pos.Seq)
		if err := l.p.b.skipTo(ctx, s, pos.Seq+1); err != nil {
			return err
		}
	}
	if first := info.State.FirstSeq; pos.Seq != 0 && first > pos.Seq+1 {
		log.Error("messages were removed from the stream before they were stored", "from", pos.Seq+1, "to", first-1)
		l.p.b.metrics.gaps.WithLabelValues(l.stream).Add(float64(first - pos.Seq - 1))
	}
	l.setPosition(pos)
	return nil
}

// skipTo moves an exhausted stream so that its next message gets the sequence next.
func (b *Belt) skipTo(ctx context.Context, s jetstream.Stream, next uint64) error {
	if err := b.purge(ctx, s, next); err != nil {
		return err
	}
	info, err := s.Info(ctx)
	if err != nil {
		return err
	}
	if info.State.LastSeq+1 < next {
		return fmt.Errorf("stream ends at %d and could not be moved to %d", info.State.LastSeq, next)
	}
	return nil
}

// nextAfter is the sequence of the first message after seq, 0 for none.
func (l *line) nextAfter(ctx context.Context, s jetstream.Stream, seq uint64) (uint64, error) {
	m, err := s.GetMsg(ctx, seq+1, jetstream.WithGetMsgSubject(">"))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return m.Sequence, nil
}

// tend measures the lag and keeps the stream from growing beyond what its
// readers need.
func (l *line) tend(ctx context.Context) {
	for sleep(ctx, l.p.opts.Tend) {
		look, cancel := context.WithTimeout(ctx, 10*time.Second)
		if err := l.tendOnce(look); err != nil && ctx.Err() == nil {
			l.p.b.log.Warn("cannot look after the stream", "stream", l.stream, "error", err)
		}
		cancel()
	}
}

func (l *line) tendOnce(ctx context.Context) error {
	s, err := l.p.b.js.Stream(ctx, l.stream)
	if err != nil {
		return err
	}
	state, epoch := s.CachedInfo().State, streamEpoch(s.CachedInfo())
	pos, _ := l.position()
	l.awake(state.LastSeq, pos.Seq)
	lag := uint64(0)
	if state.LastSeq > pos.Seq {
		next, err := l.nextAfter(ctx, s, pos.Seq)
		if err != nil {
			return err
		}
		if next != 0 {
			lag = state.LastSeq - next + 1
		}
	}
	l.lag.Store(lag)
	l.p.b.metrics.lag.WithLabelValues(l.stream).Set(float64(lag))
	if seq := l.purgeBefore(state, pos); seq > state.FirstSeq && pos.Epoch == epoch {
		if l.p.opts.Floor != nil && l.p.b.opts.Server == nil {
			floor, err := l.p.opts.Floor(ctx, l.stream)
			if err != nil || floor+1 <= state.FirstSeq {
				return err
			}
			seq = min(seq, floor+1)
		}
		if err := l.p.b.purge(ctx, s, seq); device.CodeOf(err) != device.Busy {
			return err
		}
	}
	return nil
}

// purgeBefore is the sequence below which the stream may be emptied; 0 for not
// now. About keep bytes of stored messages stay, and fewer where new ones would
// find no room beside them. It goes in steps, because a purge is cheap only when
// it drops whole blocks.
func (l *line) purgeBefore(state jetstream.StreamState, pos device.Position) uint64 {
	if l.keep == 0 {
		return 0
	}
	excess := int64(state.Bytes) - l.keep
	if excess < l.p.opts.PurgeStep {
		excess = 0
	}
	return purgeFirst(state, pos, max(excess, l.p.b.room.wanted()))
}

// purgeFirst is the sequence before which the stream holds about so many bytes,
// by the mean size of a message, and nothing that is not stored.
func purgeFirst(state jetstream.StreamState, pos device.Position, excess int64) uint64 {
	if state.Msgs == 0 || excess <= 0 {
		return 0
	}
	n := uint64(math.Ceil(float64(state.Msgs) * min(float64(excess)/float64(state.Bytes), 1)))
	return min(state.FirstSeq+n, pos.Seq+1)
}
