package amqp

import (
	"slices"
	"strings"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
)

// fromFilter describes the filter that says where a receiver of telemetry begins:
// "first", "now", a position (the annotation x-opt-position of a message, to go on
// after it), or a timestamp.
const fromFilter wire.Symbol = "tributary:from"

// How long a named subscription is remembered without a receiver.
const (
	leastKeep = time.Minute
	mostKeep  = 30 * 24 * time.Hour
)

// telemetry has the link read telemetry; ours is told what came of the source.
func (l *outLink) telemetry(from address, below bool, source, ours *wire.Source) error {
	c := l.s.c
	id, err := c.principal.Oversees(from.device)
	if err != nil {
		return err
	}
	if c.server.apps == nil {
		return device.Errorf(device.NotFound, "telemetry is not read here")
	}
	sub := adapters.Subscription{Tenant: id.Tenant, Device: id.Device, Channel: from.channel, Below: below}
	if err := begin(&sub, source, ours); err != nil {
		return err
	}
	if sub.Name = subscriptionName(l.name, c.client, source); sub.Name != "" {
		sub.Keep = keepFor(source)
		ours.Durable, ours.ExpiryPolicy = source.Durable, source.ExpiryPolicy
		ours.Timeout = uint32(sub.Keep / time.Second)
	}
	l.window = c.cfg.TelemetryWindow
	l.source = func(generation int) (supply, error) {
		ctx, cancel := c.background()
		defer cancel()
		return c.server.apps.Subscribe(ctx, sub,
			func(t adapters.Telemetry) { l.offerTelemetry(generation, t) },
			func(err error) { l.cut(generation, err) })
	}
	return nil
}

// begin reads where to begin. Filters that are not ours are not echoed, which
// tells the peer that they are not applied (part 3, section 5.8).
func begin(sub *adapters.Subscription, source, ours *wire.Source) error {
	for _, f := range source.Filter {
		d, ok := f.Value.(wire.Described)
		if !ok || d.Descriptor != fromFilter {
			continue
		}
		switch v := d.Value.(type) {
		case wire.Timestamp:
			sub.Since = v.Time()
		case string:
			sub.First = v == "first"
			if !sub.First && v != "now" {
				sub.After = v
			}
		default:
			return device.Errorf(device.Invalid, `%s is "first", "now", a position or a timestamp`, fromFilter)
		}
		ours.Filter = append(ours.Filter, f)
	}
	return nil
}

// subscriptionName is the name of the subscription a link shares, in the words
// common brokers and JMS clients use: it is the link's name up to a "|", and with
// the capability "global" it is the tenant's, otherwise the container's. A link is
// on a subscription when its terminus is durable or it has the capability "shared".
func subscriptionName(link, container string, source *wire.Source) string {
	has := func(c wire.Symbol) bool { return slices.Contains(source.Capabilities, c) }
	if !has("shared") && source.Durable == 0 {
		return ""
	}
	name, _, _ := strings.Cut(link, "|")
	if has("global") {
		return "global/" + name
	}
	return "of/" + container + "/" + name
}

// keepFor is how long the terminus lives without a link (part 3, section 5.6).
func keepFor(source *wire.Source) time.Duration {
	if source.ExpiryPolicy == "never" || source.Durable != 0 && source.Timeout == 0 {
		return mostKeep
	}
	return min(max(time.Duration(source.Timeout)*time.Second, leastKeep), mostKeep)
}

func (l *outLink) offerTelemetry(generation int, t adapters.Telemetry) {
	c, tell := l.s.c, t.Settle // t is not kept
	settle := func(o device.Outcome, done func(error)) {
		tell(o.Kind)
		if done != nil {
			done(nil)
		}
	}
	data, err := fromTelemetry(&t)
	if err != nil { // no field of a message is without an encoding
		c.log.Error("cannot encode a message", "seq", t.Position.Seq, "error", err)
		t.Settle(device.Rejected)
		return
	}
	l.offer(generation, parcel{data: data, counter: c.metrics.telemetryOut, settle: settle})
}

// cut is told that the house has stopped reading.
func (l *outLink) cut(generation int, err error) {
	c := l.s.c
	c.mu.Lock()
	live := l.generation == generation && !l.gone
	c.mu.Unlock()
	if live {
		l.fail(err)
	}
}

// fromTelemetry is a message as an application receives it.
func fromTelemetry(t *adapters.Telemetry) ([]byte, error) {
	m := wire.Message{
		DeliveryCount: uint32(max(t.Attempt-1, 0)),
		To:            telemetryAddress(&t.Message), Subject: t.Channel, ContentType: wire.Symbol(t.ContentType), Body: t.Payload,
		Annotations: wire.Map{
			{Key: wire.Symbol("x-opt-device"), Value: t.Device}, {Key: wire.Symbol("x-opt-channel"), Value: t.Channel},
			{Key: wire.Symbol("x-opt-protocol"), Value: string(t.Protocol)}, {Key: wire.Symbol("x-opt-position"), Value: t.Token},
			{Key: wire.Symbol("x-opt-received-at"), Value: wire.TimestampOf(t.ReceivedAt)},
			{Key: wire.Symbol("x-opt-stored-at"), Value: wire.TimestampOf(t.StoredAt)},
		},
	}
	if t.Key != "" {
		m.MessageID = t.Key
	}
	if !t.CreatedAt.IsZero() {
		m.CreationTime = wire.Some(wire.TimestampOf(t.CreatedAt))
	}
	if t.Via != "" {
		m.Annotations = append(m.Annotations, wire.Pair{Key: wire.Symbol("x-opt-via"), Value: t.Via})
	}
	if t.Gap != nil {
		m.Annotations = append(m.Annotations,
			wire.Pair{Key: wire.Symbol("x-opt-gap-after"), Value: t.Gap.After}, wire.Pair{Key: wire.Symbol("x-opt-gap-before"), Value: t.Gap.Before})
	}
	for name, value := range t.Properties {
		m.Properties = append(m.Properties, wire.Pair{Key: name, Value: value})
	}
	slices.SortFunc(m.Properties, func(a, b wire.Pair) int { return strings.Compare(a.Key.(string), b.Key.(string)) })
	return wire.AppendMessage(nil, &m)
}

// telemetryAddress is where the device sent it.
func telemetryAddress(m *device.Message) string {
	if m.Channel == "" {
		return m.Device + "/telemetry"
	}
	return m.Device + "/telemetry/" + m.Channel
}
