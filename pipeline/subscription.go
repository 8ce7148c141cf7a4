package pipeline

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

const (
	subscriptionTend = subscriptionAckWait / 3 // how often what readers hold is said to be held
	subscriptionLook = 3                       // of these, one looks for a gap
	subscriptionWait = 10 * time.Second        // how long one request to the server stays open
	subscriptionMost = 256                     // messages asked for at a time
)

// subscription is one reader of a named consumer of TELEMETRY.
type subscription struct {
	b        *Belt
	q        adapters.Subscription
	stream   jetstream.Stream
	consumer jetstream.Consumer
	epoch    uint64
	offer    func(adapters.Telemetry)
	lost     func(error)

	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{} // for run; holds one
	done   chan struct{} // closed when run will offer no more

	mu     sync.Mutex
	wanted int
	asking bool              // a request is open at the server
	recall int               // counts Recall: what was asked for before is not wanted
	held   map[uint64]string // offered and not settled: where to answer
	next   uint64            // of held
	gap    *adapters.Gap     // to be told with the next message

	floor uint64 // everything up to it was settled, or is no message of ours; tend's, and open's
}

// Request implements adapters.Feed.
func (s *subscription) Request(n int) {
	s.mu.Lock()
	s.wanted += n
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Recall implements adapters.Feed.
func (s *subscription) Recall() {
	s.mu.Lock()
	s.wanted = 0
	s.recall++
	s.mu.Unlock()
}

// Detach implements adapters.Feed.
func (s *subscription) Detach(string) {
	s.cancel()
	<-s.done
	s.mu.Lock()
	held := s.held
	s.held = map[uint64]string{}
	s.mu.Unlock()
	for _, reply := range held {
		s.answer(reply, "-NAK")
	}
}

// run asks for what is wanted until the subscription ends.
func (s *subscription) run() {
	err := s.read()
	close(s.done)
	if s.ctx.Err() == nil {
		s.cancel()
		s.lost(device.Wrap(device.Unavailable, "reading has ended; receive anew", err))
	}
}

// read answers why nothing more can be read.
func (s *subscription) read() error {
	for {
		n, recall := s.take()
		if n == 0 {
			select {
			case <-s.wake:
				continue
			case <-s.ctx.Done():
				return s.ctx.Err()
			}
		}
		got, err := s.fetch(n)
		s.mu.Lock()
		s.asking = false
		if s.recall == recall {
			s.wanted += n - got
		}
		s.mu.Unlock()
		switch {
		case s.ctx.Err() != nil:
			return s.ctx.Err()
		case gone(err):
			return err
		case err != nil:
			s.b.log.Debug("reading a subscription goes on", "subscription", s.q.Name, "error", err)
			select {
			case <-time.After(readRetry):
			case <-s.ctx.Done():
				return s.ctx.Err()
			}
		}
	}
}

// gone reports whether the consumer is no more: it lives for a time without readers.
func gone(err error) bool {
	return errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrConsumerDoesNotExist)
}

func (s *subscription) take() (n, recall int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(s.wanted, subscriptionMost)
	s.wanted -= n
	s.asking = n > 0
	return n, s.recall
}

// fetch offers at most n messages, and answers how many it did.
func (s *subscription) fetch(n int) (got int, err error) {
	wait, cancel := context.WithTimeout(s.ctx, subscriptionWait)
	defer cancel()
	batch, err := s.consumer.Fetch(n, jetstream.FetchContext(wait), jetstream.FetchMaxBytes(readAheadBytes))
	if err != nil {
		return 0, s.missing(err)
	}
	for m := range batch.Messages() {
		if s.give(m) {
			got++
		}
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return got, s.missing(err)
	}
	return got, nil
}

// missing asks whether the consumer is still there: to a request for one that is
// not, nobody answers.
func (s *subscription) missing(err error) error {
	ctx, cancel := context.WithTimeout(s.ctx, subscriptionWait)
	defer cancel()
	if _, e := s.consumer.Info(ctx); gone(e) {
		return e
	}
	return err
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
	s.mu.Lock()
	if s.ctx.Err() != nil {
		s.mu.Unlock()
		s.answer(m.Reply(), "-NAK")
		return false
	}
	s.next++
	id, gap := s.next, s.gap
	s.held[id], s.gap = m.Reply(), nil
	s.mu.Unlock()
	at := device.Position{Epoch: s.epoch, Seq: meta.Sequence.Stream}
	s.offer(adapters.Telemetry{
		Stored: device.Stored{Message: *words, Position: at, StoredAt: meta.Timestamp.UTC()},
		Token:  devicepb.EncodePosition(at), Attempt: int(meta.NumDelivered), Gap: gap,
		Settle: func(kind device.OutcomeKind) { s.settle(id, kind) },
	})
	return true
}

// settle says what became of a message.
func (s *subscription) settle(id uint64, kind device.OutcomeKind) {
	s.mu.Lock()
	reply, ok := s.held[id]
	delete(s.held, id)
	s.mu.Unlock()
	if !ok {
		return
	}
	verdict := "+ACK"
	switch kind {
	case device.Rejected:
		verdict = "+TERM"
	case device.Released, device.LockExpired:
		verdict = "-NAK"
	}
	s.answer(reply, verdict)
}

// answer tells the server. A lost answer costs another delivery.
func (s *subscription) answer(reply, verdict string) {
	if err := s.b.rjs.Conn().Publish(reply, []byte(verdict)); err != nil {
		s.b.log.Debug("the outcome of a delivery is not told", "subscription", s.q.Name, "error", err)
	}
}

// tend says of what readers hold that it is held, and looks for gaps, until the
// subscription ends.
func (s *subscription) tend() {
	ticker := time.NewTicker(min(subscriptionTend, s.idle()/6))
	defer ticker.Stop()
	s.look(s.ctx)
	for n := 1; ; n++ {
		select {
		case <-s.ctx.Done():
			s.leave()
			return
		case <-ticker.C:
		}
		s.mu.Lock()
		held, asking := maps.Clone(s.held), s.asking
		s.mu.Unlock()
		if !asking {
			s.stay()
		}
		for _, reply := range held {
			s.answer(reply, "+WPI")
		}
		if n%subscriptionLook == 0 {
			s.look(s.ctx)
		}
	}
}

// idle is how long the server keeps the consumer when nobody asks it for anything.
func (s *subscription) idle() time.Duration { return max(s.q.Keep, time.Second) }

// stay lets the server know of a reader that wants nothing now. It asks for what
// no message fits into, so none is delivered.
func (s *subscription) stay() {
	if batch, err := s.consumer.FetchBytes(1, jetstream.FetchMaxWait(100*time.Millisecond)); err == nil {
		for range batch.Messages() { // there are none
		}
	}
}

// leave notes how far the readers came.
func (s *subscription) leave() {
	<-s.done
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
