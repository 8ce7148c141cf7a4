package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// What a group of subscribers may cost.
const (
	shareConsumers = "share-"                   // begins the names of all
	maxShares      = 100                        // of a tenant, in each stream
	shareOrphanage = time.Minute                // how long one without sessions outlives readers that are lost
	shareMost      = 100 * 365 * 24 * time.Hour // how long one outlives its readers at most
)

// sources are those a group may be read from.
var sources = [...]device.Source{device.SourceTopics, device.SourceTelemetry}

// Share begins to read what a source holds for a group of subscribers, as one of
// its readers on any node: the group is a durable consumer, which hands each
// message to one of them. A group that is new begins after a sequence, or with
// what is stored from now on when that is 0. Errors: Busy (too many groups of the
// tenant), Unavailable.
func (t *Topics) Share(ctx context.Context, src device.Source, g device.Group, after uint64,
	offer func(a device.Arrival, settle func(device.OutcomeKind)), lost func(error),
) (adapters.Feed, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	here, err := t.b.rnc.Subscribe(shareHereSubject(g), func(m *nats.Msg) { _ = m.Respond(nil) })
	if err != nil {
		return nil, device.Wrap(device.Unavailable, "groups of subscribers cannot be read now", err)
	}
	s := &shared{here: here, src: src, offer: offer}
	s.pull = &pull{b: t.b, name: g.Name, idle: shareOrphanage, give: s.give, lost: lost}
	if s.consumer, err = t.b.singly(ctx, src, func() (jetstream.Consumer, error) { return t.shareConsumer(ctx, src, g, after) }); err != nil {
		_ = here.Unsubscribe()
		return nil, err
	}
	s.begin()
	go s.run()
	go s.attend(func(int) {})
	return s, nil
}

// shared is one reader of a group.
type shared struct {
	*pull
	here  *nats.Subscription // says that the group has a reader
	src   device.Source
	offer func(device.Arrival, func(device.OutcomeKind))

	partly partly
}

// Detach implements adapters.Feed.
func (s *shared) Detach(reason string) {
	s.pull.Detach(reason)
	_ = s.here.Unsubscribe()
}

func (s *shared) give(m jetstream.Msg) bool {
	meta, err := m.Metadata()
	if err != nil {
		return false
	}
	id, ok := s.hold(m.Reply())
	if !ok {
		return false
	}
	var all []device.Arrival
	eachPlace(s.src, raw{subject: m.Subject(), body: m.Data(), seq: meta.Sequence.Stream}, 0, func(r raw) bool {
		all = append(all, arrival(s.src, r))
		return true
	})
	settle := func(kind device.OutcomeKind) { s.settle(id, kind) }
	if len(all) == 1 {
		s.offer(all[0], settle)
		return true
	}
	s.partly.open(meta.Sequence.Stream, all, s.offer, settle)
	return true
}

// shareConsumer finds or makes a group's consumer. Who makes one has said before
// that the group has a reader: see EndShare.
func (t *Topics) shareConsumer(ctx context.Context, src device.Source, g device.Group, after uint64) (jetstream.Consumer, error) {
	stream, err := t.b.rjs.Stream(ctx, sourceStream(src))
	if err == nil {
		err = t.b.rnc.FlushWithContext(ctx)
	}
	if err != nil {
		return nil, device.Wrap(device.Unavailable, "groups of subscribers cannot be read now", err)
	}
	name := shareConsumerName(g)
	c, err := stream.Consumer(ctx, name)
	switch {
	case err == nil:
		return c, nil
	case !errors.Is(err, jetstream.ErrConsumerNotFound):
		return nil, device.Wrap(device.Unavailable, "the group of subscribers cannot be read now", err)
	}
	n, err := consumersOf(ctx, stream, sharePrefix(g.Tenant))
	if err != nil {
		return nil, device.Wrap(device.Unavailable, "the groups of subscribers cannot be counted now", err)
	}
	if n >= maxShares {
		return nil, device.Errorf(device.Busy, "the tenant has %d groups of subscribers, the limit is %d", n, maxShares)
	}
	cfg := jetstream.ConsumerConfig{
		Durable: name, FilterSubjects: sourceFilters(src, g.Tenant, []string{g.Filter}), AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: pullAckWait, MaxAckPending: pullPending, MaxDeliver: -1, InactiveThreshold: shareOrphanage, DeliverPolicy: jetstream.DeliverNewPolicy,
		Metadata: map[string]string{metaTenant: g.Tenant, metaName: g.Name},
	}
	if after > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, seqAt(src, after)+1
	}
	c, err = stream.CreateConsumer(ctx, cfg)
	if errors.Is(err, jetstream.ErrConsumerExists) { // another reader was first
		c, err = stream.Consumer(ctx, name)
	}
	if err != nil {
		return nil, device.Wrap(device.Unavailable, "the group of subscribers cannot be made now", err)
	}
	return c, nil
}

// HearShared calls fn with what is Cast on topics that a group's filter takes, as Hear
// does: each message is told to one of those who listen for the group, on any node.
func (t *Topics) HearShared(ctx context.Context, g device.Group, fn func(*device.Publication)) (stop func(), err error) {
	if t.b.opts.Server != nil {
		return t.b.ears.listen(g, fn), nil
	}
	return t.hear(ctx, topicFilter(topicNowRoot, g.Tenant, g.Filter), shareConsumerName(g), func(m *nats.Msg) { passOn(m, fn) })
}

// KeepShare has a group outlive its last reader for so long at least.
func (t *Topics) KeepShare(ctx context.Context, g device.Group, keep time.Duration) error {
	keep = min(keep, shareMost)
	return t.eachShare(ctx, g, func(stream jetstream.Stream, c jetstream.Consumer) error {
		cfg := c.CachedInfo().Config
		if cfg.InactiveThreshold >= keep {
			return nil
		}
		cfg.InactiveThreshold = keep
		_, err := stream.UpdateConsumer(ctx, cfg)
		return err
	})
}

// EndShare takes a group away, unless somebody reads for it on some node. A reader
// says that it is there before it looks for the group's consumer, so one that
// finds it was heard here, or loses it at once and makes it anew.
func (t *Topics) EndShare(ctx context.Context, g device.Group) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_, err := t.b.rnc.RequestWithContext(ctx, shareHereSubject(g), nil)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, nats.ErrNoResponders):
		return device.Wrap(device.Unavailable, "who reads for a group of subscribers cannot be asked now", err)
	}
	t.b.grouping.Lock()
	defer t.b.grouping.Unlock()
	err = t.eachShare(ctx, g, func(stream jetstream.Stream, c jetstream.Consumer) error {
		return stream.DeleteConsumer(ctx, c.CachedInfo().Name)
	})
	return errors.Join(err, t.b.frameTopics(ctx))
}

// singly makes a group's consumer. What is acknowledged one by one stands by itself:
// while a group reads TOPICS no messages are put together there.
func (b *Belt) singly(ctx context.Context, src device.Source, open func() (jetstream.Consumer, error)) (jetstream.Consumer, error) {
	if src != device.SourceTopics || !b.alone() {
		return open()
	}
	b.grouping.Lock()
	defer b.grouping.Unlock()
	err := b.topics.single(ctx)
	if err != nil {
		err = device.Wrap(device.Unavailable, "the group of subscribers cannot be made now", err)
	}
	var c jetstream.Consumer
	if err == nil {
		c, err = open()
	}
	if err != nil {
		_ = b.frameTopics(context.WithoutCancel(ctx)) // else at the next look
	}
	return c, err
}

// frameTopics has messages put together in TOPICS, if no group reads it. Only a process
// that is alone on its NATS server knows. The belt's grouping is locked, or it is Open.
func (b *Belt) frameTopics(ctx context.Context) error {
	if !b.alone() {
		return nil
	}
	none, err := b.noGroups(ctx)
	b.topics.frame(none)
	return err
}

// noGroups reports whether no group reads TOPICS; false with an error.
func (b *Belt) noGroups(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	stream, err := b.rjs.Stream(ctx, TopicStream)
	if err != nil {
		return false, err
	}
	n, err := consumersOf(ctx, stream, shareConsumers)
	return n == 0 && err == nil, err
}

// eachShare calls fn for every consumer a group has.
func (t *Topics) eachShare(ctx context.Context, g device.Group, fn func(jetstream.Stream, jetstream.Consumer) error) error {
	for _, src := range sources {
		stream, err := t.b.rjs.Stream(ctx, sourceStream(src))
		if err == nil {
			var c jetstream.Consumer
			if c, err = stream.Consumer(ctx, shareConsumerName(g)); err == nil {
				err = fn(stream, c)
			}
		}
		if err != nil && !gone(err) {
			return device.Wrap(device.Unavailable, fmt.Sprintf("the group of subscribers %q cannot be changed now", g.Name), err)
		}
	}
	return nil
}

// sharePrefix begins the names of a tenant's groups.
func sharePrefix(tenant string) string { return shareConsumers + hash(tenant, 6) + "-" }

// shareConsumerName is a group's consumer in either stream. Neither a tenant nor a
// name holds a "/".
func shareConsumerName(g device.Group) string {
	return sharePrefix(g.Tenant) + hash(g.Tenant+"/"+g.Name+"/"+g.Filter, 16)
}

// shareHereSubject is where the readers of a group answer.
func shareHereSubject(g device.Group) string { return shareHereRoot + "." + shareConsumerName(g) }
