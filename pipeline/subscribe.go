package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/storage"
)

// What a subscription may cost.
const (
	maxSubscriptions    = 100 // named ones of a tenant
	maxSubscriptionName = 256 // bytes
)

// What the consumer of a named subscription remembers besides.
const (
	metaTenant = "tributary-tenant"
	metaName   = "tributary-name"
	metaFloor  = "tributary-floor" // see subscription.floor
)

// Subscribe begins to read telemetry; see adapters.Applications. A subscription with
// a name is a durable consumer of TELEMETRY: the server keeps its position and hands
// each message to one of its readers. It does not hold the stream back: the stream
// keeps PersistOptions.KeepBytes, and who is further behind is told of a gap. One
// without a name is a reading of its own, which goes on from the store instead.
func (b *Belt) Subscribe(ctx context.Context, store storage.Reader, q adapters.Subscription, offer func(adapters.Telemetry), lost func(error)) (adapters.Feed, error) {
	if len(q.Name) > maxSubscriptionName {
		return nil, device.Errorf(device.Invalid, "the subscription's name is %d bytes long, the limit is %d", len(q.Name), maxSubscriptionName)
	}
	stream, err := b.rjs.Stream(ctx, TelemetryStream)
	if err != nil {
		return nil, device.Wrap(device.Unavailable, "the telemetry stream cannot be read now", err)
	}
	if q.Name == "" {
		return b.readAlone(ctx, store, q, stream.CachedInfo(), offer, lost)
	}
	s := &subscription{q: q, stream: stream, epoch: streamEpoch(stream.CachedInfo()), offer: offer}
	s.pull = &pull{b: b, name: q.Name, idle: max(q.Keep, time.Second), give: s.give, lost: lost}
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	s.begin()
	go s.run()
	go s.tend()
	return s, nil
}

// open finds or makes the consumer.
func (s *subscription) open(ctx context.Context) error {
	c, err := s.stream.Consumer(ctx, subscriptionConsumer(s.q.Tenant, s.q.Name))
	if err == nil {
		return s.join(c)
	}
	if !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return device.Wrap(device.Unavailable, "the subscription cannot be read now", err)
	}
	if err := s.room(ctx); err != nil {
		return err
	}
	cfg, err := s.config()
	if err != nil {
		return err
	}
	c, err = s.stream.CreateConsumer(ctx, cfg)
	if errors.Is(err, jetstream.ErrConsumerExists) { // another reader was first
		if c, err = s.stream.Consumer(ctx, cfg.Durable); err == nil {
			return s.join(c)
		}
	}
	if err != nil {
		return device.Wrap(device.Unavailable, "the subscription cannot be made now", err)
	}
	s.consumer, s.floor = c, c.CachedInfo().AckFloor.Stream
	return nil
}

// join reads a subscription that is there already.
func (s *subscription) join(c jetstream.Consumer) error {
	have := c.CachedInfo().Config
	want := subscriptionFilter(&s.q)
	if filters := append(slices.Clone(have.FilterSubjects), nonEmpty(have.FilterSubject)...); !slices.Equal(filters, want) {
		return device.Errorf(device.Conflict, "the subscription %q reads something else: choose another name", s.q.Name)
	}
	if have.Metadata[metaTenant] != s.q.Tenant || have.Metadata[metaName] != s.q.Name {
		return device.Errorf(device.Conflict, "the subscription %q is somebody else's", s.q.Name)
	}
	s.consumer = c
	s.floor, _ = strconv.ParseUint(have.Metadata[metaFloor], 10, 64)
	return nil
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// room refuses a tenant more named subscriptions than it may have.
func (s *subscription) room(ctx context.Context) error {
	n, err := consumersOf(ctx, s.stream, subscriptionPrefix(s.q.Tenant))
	if err != nil {
		return device.Wrap(device.Unavailable, "the subscriptions cannot be counted now", err)
	}
	if n >= maxSubscriptions {
		return device.Errorf(device.Busy, "the tenant has %d named subscriptions, the limit is %d", n, maxSubscriptions)
	}
	return nil
}

// consumersOf counts the consumers of a stream whose names begin so.
func consumersOf(ctx context.Context, stream jetstream.Stream, prefix string) (n int, err error) {
	names := stream.ConsumerNames(ctx)
	for name := range names.Name() {
		if strings.HasPrefix(name, prefix) {
			n++
		}
	}
	return n, names.Err()
}

// config is the consumer the subscription is.
func (s *subscription) config() (jetstream.ConsumerConfig, error) {
	cfg := jetstream.ConsumerConfig{
		Durable: subscriptionConsumer(s.q.Tenant, s.q.Name), FilterSubjects: subscriptionFilter(&s.q),
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: pullAckWait, MaxAckPending: pullPending, MaxDeliver: -1,
		InactiveThreshold: s.q.Keep, Metadata: map[string]string{metaTenant: s.q.Tenant, metaName: s.q.Name},
	}
	return cfg, s.start(&cfg)
}

// start says where the consumer begins. Its place is the NATS server's, which has
// nothing but the stream to begin in.
func (s *subscription) start(cfg *jetstream.ConsumerConfig) error {
	state := s.stream.CachedInfo().State
	switch {
	case s.q.After != "":
		after, err := devicepb.DecodePosition(s.q.After)
		if err != nil {
			return err
		}
		next, err := feedStart(after, s.epoch, state.FirstSeq, state.LastSeq)
		var old *TooOldError
		if errors.As(err, &old) {
			return device.Errorf(device.Precondition, "a named subscription begins within the stream, which goes back to %s: read what is older without a name",
				devicepb.EncodePosition(old.First))
		}
		if err != nil {
			return err
		}
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, next
	case s.q.First:
		cfg.DeliverPolicy = jetstream.DeliverAllPolicy
	case !s.q.Since.IsZero():
		if state.FirstSeq > 1 && s.q.Since.Before(state.FirstTime) {
			return device.Errorf(device.Precondition, "a named subscription begins within the stream, which goes back to %s: read what is older without a name",
				state.FirstTime.UTC().Format(time.RFC3339))
		}
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &s.q.Since
	default:
		cfg.DeliverPolicy = jetstream.DeliverNewPolicy
	}
	return nil
}

// subscriptionPrefix begins the names of a tenant's consumers, which may hold
// fewer characters than ours.
func subscriptionPrefix(tenant string) string { return "app-" + hash(tenant, 6) + "-" }

func subscriptionConsumer(tenant, name string) string {
	return subscriptionPrefix(tenant) + hash(tenant+"/"+name, 16) // no tenant holds a "/"
}

func hash(s string, n int) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:n])
}

// subscriptionFilter is the subjects of what a subscription reads.
func subscriptionFilter(q *adapters.Subscription) []string {
	f := feedQuery(q)
	return f.filter()
}

func feedQuery(q *adapters.Subscription) FeedQuery {
	return FeedQuery{Tenant: q.Tenant, Device: q.Device, Channel: q.Channel, Below: q.Below}
}
