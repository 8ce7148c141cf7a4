package pipeline

import (
	"context"
	"maps"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

const subscriptionLook = 3 // of the times readers say what they hold, one looks for a gap

// subscription is one reader of a named consumer of TELEMETRY.
type subscription struct {
	*pull
	q      adapters.Subscription
	stream jetstream.Stream
	epoch  uint64
	offer  func(adapters.Telemetry)

	gap *adapters.Gap // to be told with the next message; under the pull's mu

	floor uint64 // everything up to it was settled, or is no message of ours; tend's, and open's
}

// give offers a message; what cannot be read the persister puts with the dead letters.
func (s *subscription) give(m jetstream.Msg) bool {
	meta, err := m.Metadata()
	if err != nil {
		return false
	}
	words, err := devicepb.UnmarshalMessage(m.Data())
	if err != nil || words.Tenant != s.q.Tenant {
		s.answer(m.Reply(), "+TERM")
		return false
	}
	id, ok := s.hold(m.Reply())
	if !ok {
		return false
	}
	s.mu.Lock()
	gap := s.gap
	s.gap = nil
	s.mu.Unlock()
	at := device.Position{Epoch: s.epoch, Seq: meta.Sequence.Stream}
	s.offer(adapters.Telemetry{
		Stored: device.Stored{Message: *words, Position: at, StoredAt: meta.Timestamp.UTC()},
		Token:  devicepb.EncodePosition(at), Attempt: int(meta.NumDelivered), Gap: gap,
		Settle: func(kind device.OutcomeKind) { s.settle(id, kind) },
	})
	return true
}

// tend looks for gaps, until the subscription ends.
func (s *subscription) tend() {
	s.look(s.ctx)
	s.attend(func(n int) {
		if n%subscriptionLook == 0 {
			s.look(s.ctx)
		}
	})
	s.leave()
}

// leave notes how far the readers came.
func (s *subscription) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.look(ctx)
}

// look compares how far the readers came with how far back the stream goes. The
// server moves a consumer on without a word when what it has yet to deliver is
// purged; so it is noted how far it was, where the next reader finds it.
func (s *subscription) look(ctx context.Context) {
	stream, err := s.stream.Info(ctx)
	if err != nil {
		return
	}
	info, err := s.consumer.Info(ctx)
	if err != nil {
		return
	}
	if first := stream.State.FirstSeq; first > s.floor+1 && s.floor > 0 {
		s.missed(s.floor, first)
	}
	before := s.floor
	s.floor = max(info.AckFloor.Stream, s.floor)
	if info.NumPending == 0 && info.NumAckPending == 0 {
		s.floor = max(s.floor, stream.State.LastSeq)
	}
	if first := stream.State.FirstSeq; first > 0 {
		s.floor = max(s.floor, first-1)
	}
	if s.floor == before {
		return
	}
	cfg := info.Config
	cfg.Metadata = maps.Clone(cfg.Metadata)
	cfg.Metadata[metaFloor] = strconv.FormatUint(s.floor, 10)
	if _, err := s.b.rjs.UpdateConsumer(ctx, TelemetryStream, cfg); err != nil {
		s.b.log.Debug("how far a subscription came is not noted", "subscription", s.q.Name, "error", err)
	}
}

// missed has the next message tell of a gap.
func (s *subscription) missed(floor, first uint64) {
	s.b.metrics.missed.Inc()
	s.b.log.Warn("a subscription was too far behind: the stream no longer keeps what it has yet to read",
		"tenant", s.q.Tenant, "subscription", s.q.Name, "from", floor+1, "to", first-1)
	token := func(seq uint64) string { return devicepb.EncodePosition(device.Position{Epoch: s.epoch, Seq: seq}) }
	s.mu.Lock()
	s.gap = &adapters.Gap{After: token(floor), Before: token(first)}
	s.mu.Unlock()
}
