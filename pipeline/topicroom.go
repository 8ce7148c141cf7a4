package pipeline

import (
	"context"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The parts of TOPICS, in sixteenths of its bounds: from where it is counted who
// holds what, from where room is made, and how full it may stay then.
const (
	topicsCounted = 10
	topicsFull    = 14
	topicsEased   = 12
	topicsGrain   = 16 // parts of a sixteenth
)

// KeepRoom keeps one tenant from pushing the messages of others out of TOPICS,
// which they share: when it is nearly full, the oldest messages of whoever holds
// most go, so that a tenant that holds no more than its share loses none to others.
// A stream of one tenant drops its oldest by itself. It works while elder says so,
// until ctx ends.
func (t *Topics) KeepRoom(ctx context.Context, elder func() bool) error {
	r := topicRoom{b: t.b}
	for sleep(ctx, lookAround) {
		if !elder() {
			r.held = nil
			continue
		}
		look, cancel := context.WithTimeout(ctx, readTimeout)
		if err := r.look(look); err != nil && ctx.Err() == nil {
			t.b.log.Debug("who holds what of the topics cannot be seen now", "error", err)
			r.held = nil
		}
		cancel()
	}
	return nil
}

type topicRoom struct {
	b    *Belt
	held *holdings // nil: nothing was counted yet
}

// look makes room, if there is little.
func (r *topicRoom) look(ctx context.Context) error {
	stream, err := r.b.rjs.Stream(ctx, TopicStream)
	if err != nil {
		return err
	}
	cfg, state := stream.CachedInfo().Config, stream.CachedInfo().State
	if cfg.MaxBytes <= 0 || cfg.MaxMsgs <= 0 {
		return nil
	}
	least := cfg.MaxBytes / cfg.MaxMsgs // what a message counts at least: they are bounded, too
	used := max(int64(state.Bytes), int64(state.Msgs)*least)
	if used < cfg.MaxBytes/16*topicsCounted {
		return nil
	}
	if r.held == nil || r.held.next > state.LastSeq+1 { // or the stream was made anew
		r.held = &holdings{next: state.FirstSeq, grain: cfg.MaxBytes / 16 / topicsGrain, of: map[string]*holding{}}
	}
	if err := r.count(ctx, state.LastSeq, least); err != nil {
		return err
	}
	r.held.forget(state.FirstSeq)
	if used < cfg.MaxBytes/16*topicsFull {
		return nil
	}
	for _, e := range r.held.evict(used, cfg.MaxBytes/16*topicsEased) {
		err := stream.Purge(ctx, jetstream.WithPurgeSubject(topicFilter(topicRoot, e.tenant, "#")), jetstream.WithPurgeSequence(e.through+1))
		if err != nil {
			return fmt.Errorf("make room in %s: %w", TopicStream, err)
		}
		r.b.metrics.topicsEased.Inc()
		r.b.log.Debug("the oldest messages of the tenant that holds most of the topics have gone", "tenant", e.tenant, "to", e.through)
	}
	return nil
}

// count reads the headers of what was stored since the last look.
func (r *topicRoom) count(ctx context.Context, last uint64, least int64) error {
	if r.held.next > last {
		return nil
	}
	c, err := r.b.rjs.CreateConsumer(ctx, TopicStream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(r.held.next, 1), HeadersOnly: true,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: readTimeout,
	})
	if err != nil {
		return err
	}
	defer r.b.dropConsumer(TopicStream, c.CachedInfo().Name)
	for pending := c.CachedInfo().NumPending; pending > 0; {
		batch, err := c.FetchNoWait(readAhead)
		if err != nil {
			return err
		}
		before := r.held.next
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return err
			}
			tenant, topic, err := parseTopicSubject(topicRoot, m.Subject())
			if err != nil {
				tenant, topic = "", m.Subject()
			}
			body, _ := strconv.ParseInt(m.Headers().Get(nats.MsgSize), 10, 64)
			r.held.add(tenant, meta.Sequence.Stream, max(least, body+int64(len(topic))+recordBytes))
			pending = meta.NumPending
		}
		if err := batch.Error(); err != nil {
			return err
		}
		if ctx.Err() != nil || r.held.next == before { // what was pending was dropped meanwhile
			return ctx.Err()
		}
	}
	return nil
}
