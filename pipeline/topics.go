package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

const (
	defaultTopicBytes = 256 << 20
	defaultLastValues = 100_000
	maxTopicMessages  = 1_000_000 // each on a subject of its own costs the server some 150 bytes of memory
)

// Topics keeps the tenants' own topics for the room that serves their
// subscribers: what is acknowledged in the stream TOPICS, the rest over NATS alone.
type Topics struct{ b *Belt }

// Topics answers the belt's topics.
func (b *Belt) Topics() *Topics { return &Topics{b} }

// Append stores p durably in TOPICS. An error means that done is not called.
func (t *Topics) Append(p *device.Publication, done func(error)) error {
	if err := t.check(p); err != nil {
		return err
	}
	it := item{subject: topicSubject(topicRoot, p.Tenant, p.Topic), body: devicepb.MarshalPublication(p), done: func(_ uint64, err error) { done(err) }}
	if t.b.alone() {
		it.sender = t.b.topics.frames.sender(p.Sender)
	}
	return t.b.topics.publish(it)
}

func (t *Topics) check(p *device.Publication) error {
	if len(p.Payload) > t.b.opts.MaxMessageBytes {
		return device.Errorf(device.TooLarge, "payload is %d bytes long, the limit is %d", len(p.Payload), t.b.opts.MaxMessageBytes)
	}
	return p.Validate()
}

// Known is a place in a source after which everything stands that is stored from
// now on, unless the stream is made anew: the highest this node was told of, in the
// life of the stream that it found.
func (t *Topics) Known(src device.Source) device.Position {
	p := t.b.topics
	if src == device.SourceTelemetry {
		p = t.b.telemetry
	}
	return device.Position{Epoch: p.epoch, Seq: lastAt(src, p.lastOK.Load())}
}

// Find reports whether a source holds, on a topic and after a sequence, a
// message of that mark; of telemetry, with that key.
func (t *Topics) Find(ctx context.Context, src device.Source, tenant, topic, mark string, after uint64) (found bool, err error) {
	subject, marked := topicSubject(topicRoot, tenant, topic), func(body []byte) string {
		p, err := devicepb.UnmarshalPublication(body)
		if err != nil {
			return ""
		}
		return p.Mark
	}
	if src == device.SourceTelemetry {
		name, channel, _ := strings.Cut(topic, "/telemetry")
		subject = TelemetrySubject(device.ID{Tenant: tenant, Device: name}, strings.TrimPrefix(channel, "/"))
		marked = func(body []byte) string {
			m, err := devicepb.UnmarshalMessage(body)
			if err != nil {
				return ""
			}
			return m.Key
		}
	}
	err = t.b.readSubjectFrom(ctx, sourceStream(src), subject, seqAfter(src, after)-1, func(r raw) {
		eachPlace(src, r, after, func(r raw) bool {
			found = found || mark != "" && marked(r.body) == mark
			return true
		})
	})
	return found, err
}

// Cast tells whoever listens on any node now.
func (t *Topics) Cast(p *device.Publication) error {
	if err := t.check(p); err != nil {
		return err
	}
	if t.b.opts.Server != nil {
		t.b.ears.tell(p)
		return nil
	}
	if err := t.b.nc.Publish(topicSubject(topicNowRoot, p.Tenant, p.Topic), devicepb.MarshalPublication(p)); err != nil {
		return device.Wrap(device.Unavailable, "the message cannot be passed on now", err)
	}
	return nil
}

// Hear calls fn with every message Cast on the topics of a tenant, on any node, those
// of one publisher one after the other, from when it returns until stop.
func (t *Topics) Hear(ctx context.Context, tenant string, fn func(*device.Publication)) (stop func(), err error) {
	if t.b.opts.Server != nil {
		return t.b.ears.listen(device.Group{Tenant: tenant}, fn), nil
	}
	e := newEchoes(tenant)
	stop, err = t.hear(ctx, topicFilter(topicNowRoot, tenant, "#"), "", func(m *nats.Msg) {
		if m.Subject == e.subject {
			e.hear(m.Data)
		} else {
			passOn(m, fn)
		}
	})
	if err != nil {
		return nil, err
	}
	if err := t.awaitEchoes(ctx, tenant, e); err != nil {
		stop()
		return nil, device.Wrap(device.Unavailable, "topics cannot be listened to now", err)
	}
	return stop, nil
}

// passOn calls fn with a message that was cast.
func passOn(m *nats.Msg, fn func(*device.Publication)) {
	p, err := devicepb.UnmarshalPublication(m.Data)
	if err == nil && topicSubject(topicNowRoot, p.Tenant, p.Topic) == m.Subject {
		fn(p)
	}
}

// hear listens on a subject, alone or, with a name, as one of a group.
func (t *Topics) hear(ctx context.Context, subject, group string, receive nats.MsgHandler) (stop func(), err error) {
	sub, err := t.b.rnc.QueueSubscribe(subject, group, receive) // "" is no group
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, readTimeout)
		defer cancel()
		err = t.b.rnc.FlushWithContext(ctx)
	}
	if err != nil {
		return nil, device.Wrap(device.Unavailable, "topics cannot be listened to now", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// stream is the one a source is read from.
func sourceStream(src device.Source) string {
	switch src {
	case device.SourceTelemetry:
		return TelemetryStream
	case device.SourceRetained:
		return RetainedStream
	}
	return TopicStream
}

// End is where a source ends now.
func (t *Topics) End(ctx context.Context, src device.Source) (device.Position, error) {
	s, err := t.b.rjs.Stream(ctx, sourceStream(src))
	if err != nil {
		return device.Position{}, device.Wrap(device.Unavailable, "topics cannot be read now", err)
	}
	return device.Position{Epoch: streamEpoch(s.CachedInfo()), Seq: lastAt(src, s.CachedInfo().State.LastSeq)}, nil
}

// Follow calls fn with everything a source holds after a sequence and gets
// later, in order, until ctx ends.
func (t *Topics) Follow(ctx context.Context, src device.Source, after uint64, fn func(device.Arrival)) error {
	return t.b.read(ctx, sourceStream(src), seqAfter(src, after), nil, func(r raw) error {
		eachPlace(src, r, after, func(r raw) bool { fn(arrival(src, r)); return true })
		return nil
	})
}

// arrival is a message as it came off a stream. What is on a subject of no topic
// arrives without one: it only moves its readers on.
func arrival(src device.Source, r raw) device.Arrival {
	a := device.Arrival{Ref: device.Ref{Source: src, Seq: r.seq}}
	a.Open = func() (*device.Publication, error) { return publication(src, &a, r.body) }
	if src == device.SourceTelemetry {
		if id, channel, err := ParseTelemetrySubject(r.subject); err == nil {
			a.Tenant, a.Topic = id.Tenant, telemetryTopic(id.Device, channel)
		}
		return a
	}
	root := topicRoot
	if src == device.SourceRetained {
		root = retainedRoot
	}
	if tenant, topic, err := parseTopicSubject(root, r.subject); err == nil {
		a.Tenant, a.Topic = tenant, topic
	}
	return a
}

var errElsewhere = errors.New("pipeline: the subject names another topic than the message")

// publication reads a message, and believes it only where it belongs.
func publication(src device.Source, a *device.Arrival, body []byte) (*device.Publication, error) {
	if src != device.SourceTelemetry {
		p, err := devicepb.UnmarshalPublication(body)
		if err == nil && (p.Tenant != a.Tenant || p.Topic != a.Topic) {
			err = errElsewhere
		}
		return p, err
	}
	m, err := devicepb.UnmarshalMessage(body)
	if err != nil {
		return nil, err
	}
	if m.Tenant != a.Tenant || telemetryTopic(m.Device, m.Channel) != a.Topic {
		return nil, errElsewhere
	}
	return seen(m, a.Topic), nil
}

// seen is telemetry as subscribers of topics see it. The user properties
// message-id and created-at are those by which MQTT devices say the same.
func seen(m *device.Message, topic string) *device.Publication {
	p := &device.Publication{Tenant: m.Tenant, Topic: topic, QoS: min(m.QoS, 2), Payload: m.Payload, ContentType: m.ContentType, At: m.ReceivedAt, Kept: m.Kept}
	if m.Key != "" {
		p.Properties = append(p.Properties, device.Property{Name: "message-id", Value: m.Key})
	}
	if !m.CreatedAt.IsZero() {
		p.Properties = append(p.Properties, device.Property{Name: "created-at", Value: m.CreatedAt.UTC().Format(time.RFC3339Nano)})
	}
	for _, name := range slices.Sorted(maps.Keys(m.Properties)) {
		p.Properties = append(p.Properties, device.Property{Name: name, Value: m.Properties[name]})
	}
	return p
}

// readTimeout bounds one Read; whoever calls it goes on from where it got.
const readTimeout = 10 * time.Second

// errReadEnough stops a reader.
var errReadEnough = errors.New("pipeline: enough")

// Read calls each with what a source holds on a tenant's topics that the
// filters take, after a sequence, in order, until each answers false. Without
// that it goes on to what was the end when it was called, and answers true:
// then nothing that was stored before is missing. It may call each for topics
// the filters do not take.
func (t *Topics) Read(ctx context.Context, src device.Source, tenant string, filters []string, after uint64, each func(device.Arrival) bool) (whole bool, err error) {
	subjects := sourceFilters(src, tenant, filters)
	if len(subjects) == 0 {
		return true, nil
	}
	end := uint64(0)
	for _, subject := range subjects {
		last, err := t.b.lastOf(ctx, sourceStream(src), subject)
		if err != nil {
			return false, err
		}
		end = max(end, last)
	}
	if lastAt(src, end) <= after {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout) // the end may be removed meanwhile
	defer cancel()
	err = t.b.read(ctx, sourceStream(src), seqAfter(src, after), subjects, func(r raw) error {
		if r.seq > end {
			return errCaughtUp
		}
		if !eachPlace(src, r, after, func(r raw) bool { return each(arrival(src, r)) }) {
			return errReadEnough
		}
		if r.seq == end {
			return errCaughtUp
		}
		return nil
	})
	switch {
	case errors.Is(err, errCaughtUp):
		return true, nil
	case errors.Is(err, errReadEnough):
		return false, nil
	}
	return false, err
}

// Get reads one message again; NotFound when it is not kept any more.
func (t *Topics) Get(ctx context.Context, ref device.Ref) (*device.Publication, error) {
	seq := seqAt(ref.Source, ref.Seq)
	if seq == 0 {
		return nil, device.Errorf(device.NotFound, "there is no such message")
	}
	m, err := t.b.leaderGet(ctx, sourceStream(ref.Source), map[string]any{"seq": seq})
	switch {
	case err != nil:
		return nil, device.Wrap(device.Unavailable, "the message cannot be read now", err)
	case m.Seq == 0:
		return nil, device.Errorf(device.NotFound, "the message is not kept any more")
	}
	p, err := (*device.Publication)(nil), device.Errorf(device.NotFound, "there is no such message")
	eachPlace(ref.Source, raw{subject: m.Subject, body: m.Data, seq: m.Seq}, ref.Seq-1, func(r raw) bool {
		if r.seq == ref.Seq {
			a := arrival(ref.Source, r)
			p, err = a.Open()
		}
		return false
	})
	if err != nil {
		return nil, fmt.Errorf("pipeline: read message %d of %s: %w", ref.Seq, sourceStream(ref.Source), err)
	}
	return p, nil
}

// lastValueConfigs are the streams that hold the newest message of a subject
// only. When one is full, what would need a new place is refused.
func (b *Belt) lastValueConfigs(ours func(name, root string) jetstream.StreamConfig) []jetstream.StreamConfig {
	retained, sessions := ours(RetainedStream, retainedRoot), ours(SessionStream, sessionRoot)
	retained.MaxMsgs, sessions.MaxMsgs = b.opts.MaxRetained, b.opts.MaxSessions
	all := []jetstream.StreamConfig{retained, sessions}
	for i := range all {
		all[i].MaxMsgsPerSubject, all[i].Discard, all[i].AllowMsgTTL = 1, jetstream.DiscardNew, true
	}
	return all
}
