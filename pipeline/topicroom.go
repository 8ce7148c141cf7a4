package pipeline

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The parts of TOPICS, in sixteenths of its bounds: from where it is counted who
// holds what, from where room is made, and how full it may stay then.
const (
	topicsCounted = 1
	topicsFull    = 14
	topicsEased   = 12
	topicsGrain   = 16 // parts of a sixteenth
)

const lookForGroups = 240 // of the looks around, a minute's

// KeepRoom keeps one tenant from pushing the messages of others out of TOPICS,
// which they share: when it is nearly full, the oldest messages of whoever holds
// most go, so that a tenant that holds no more than its share loses none to others.
// A stream of one tenant drops its oldest by itself. It works while elder says so,
// until ctx ends.
func (t *Topics) KeepRoom(ctx context.Context, elder func() bool) error {
	r := topicRoom{b: t.b}
	defer r.forget()
	for n := 1; sleep(ctx, lookAround); n++ {
		if n%lookForGroups == 0 {
			t.lookForGroups(ctx)
		}
		if !elder() {
			r.forget()
			continue
		}
		look, cancel := context.WithTimeout(ctx, readTimeout)
		if err := r.look(look); err != nil && ctx.Err() == nil {
			t.b.log.Debug("who holds what of the topics cannot be seen now", "error", err)
			r.forget()
		}
		cancel()
	}
	return nil
}

// lookForGroups notices that a group has ended by itself: with its readers, by a kill.
func (t *Topics) lookForGroups(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	t.b.grouping.Lock()
	defer t.b.grouping.Unlock()
	if err := t.b.frameTopics(ctx); err != nil {
		t.b.log.Debug("which groups read the topics cannot be seen now", "error", err)
	}
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
		r.forget()
		return nil
	}
	if r.held == nil || r.held.next > state.LastSeq+1 { // or the stream was made anew
		r.b.topicNotes.open()
		r.held = &holdings{next: max(state.FirstSeq, 1), grain: cfg.MaxBytes / 16 / topicsGrain, least: least, of: map[string]*holding{}}
	}
	if err := r.count(ctx, state.LastSeq); err != nil {
		return err
	}
	r.held.forget(state.FirstSeq)
	if used < cfg.MaxBytes/16*topicsFull {
		return nil
	}
	for _, e := range r.held.evict(used, cfg.MaxBytes/16*topicsEased) {
		err := stream.Purge(ctx, jetstream.WithPurgeSubject(e.tenant+".>"), jetstream.WithPurgeSequence(e.through+1))
		if err != nil {
			return fmt.Errorf("make room in %s: %w", TopicStream, err)
		}
		r.b.metrics.topicsEased.Inc()
		r.b.log.Debug("the oldest messages of the tenant that holds most of the topics have gone", "tenant", e.tenant, "to", e.through)
	}
	return nil
}

// forget counts from the beginning next time.
func (r *topicRoom) forget() {
	r.held = nil
	r.b.topicNotes.close()
}

// count counts what was stored since the last look. What this process published
// itself it has noted; for what it has no note of it reads the stream.
func (r *topicRoom) count(ctx context.Context, last uint64) error {
	before := r.held.next
	notes := r.b.topicNotes.take()
	rest := r.held.follow(notes)
	switch {
	case r.held.next > last:
		return nil
	case len(notes) > 0 && len(rest) == 0 && r.held.next > before:
		return nil // what is missing was stored a moment ago, and is noted when it is acknowledged
	}
	if err := r.read(ctx, last); err != nil {
		return err
	}
	r.held.follow(rest)
	return nil
}

// read counts what the stream holds up to last, by the headers of its messages.
func (r *topicRoom) read(ctx context.Context, last uint64) error {
	c, err := r.b.rjs.CreateConsumer(ctx, TopicStream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.held.next, HeadersOnly: true,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: readTimeout,
	})
	if err != nil {
		return err
	}
	defer r.b.dropConsumer(TopicStream, c.CachedInfo().Name)
	for pending := c.CachedInfo().NumPending; pending > 0 && r.held.next <= last; {
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
			body, _ := strconv.Atoi(m.Headers().Get(nats.MsgSize))
			r.held.add(topicTenant(m.Subject()), meta.Sequence.Stream, topicSize(m.Subject(), body))
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

// topicTenant is the beginning of a topic's subject that is the same for all of a tenant.
func topicTenant(subject string) string {
	if _, levels, ok := strings.Cut(subject, "."); ok {
		tenant, _, _ := strings.Cut(levels, ".")
		return subject[:len(topicRoot)+1+len(tenant)]
	}
	return subject
}

func topicSize(subject string, body int) int64 { return int64(len(subject) + body + recordBytes) }
