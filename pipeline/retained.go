package pipeline

import (
	"context"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// clearedFor is how long the mark of a record taken away stays in its place.
// The mark, and not a removal, takes it away, so that it goes through the same
// line as what was there before and comes after.
const clearedFor = time.Minute

// Retain makes p the retained message of its topic, until it expires; one
// without a payload takes away what is there. An error means that done is not called.
func (t *Topics) Retain(p *device.Publication, done func(seq uint64, err error)) error {
	if err := t.check(p); err != nil {
		return err
	}
	it := item{subject: topicSubject(retainedRoot, p.Tenant, p.Topic), done: done}
	if len(p.Payload) == 0 {
		it.header = lifetime(clearedFor)
		return t.b.retained.publish(it)
	}
	if !p.Expires.IsZero() {
		left := time.Until(p.Expires)
		if left <= 0 {
			it.header = lifetime(clearedFor) // it replaces what is there, and has ended itself
			return t.b.retained.publish(it)
		}
		it.header = lifetime(left)
	}
	it.body = devicepb.MarshalPublication(p)
	return t.b.retained.publish(it)
}

// lifetime is the header of a message that the stream removes after d, in whole
// seconds, rounded up.
func lifetime(d time.Duration) nats.Header {
	return nats.Header{jetstream.MsgTTLHeader: {strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10) + "s"}}
}

// LastRetained is where the newest message stands that was retained, or taken away a
// short time ago, on a tenant's topics that a filter takes; 0 for none.
func (t *Topics) LastRetained(ctx context.Context, tenant, filter string) (uint64, error) {
	last, err := t.b.lastOf(ctx, RetainedStream, topicFilter(retainedRoot, tenant, filter))
	if err != nil {
		err = device.Wrap(device.Unavailable, "retained messages cannot be read now", err)
	}
	return last, err
}

// Retained calls each with the retained messages of a tenant's topics that a filter
// takes and that stand at most at last, until it answers false: all of them that were
// there when it was called, and are there still when their turn comes.
func (t *Topics) Retained(ctx context.Context, tenant, filter string, last uint64, each func(device.Ref, *device.Publication) bool) error {
	now, more := time.Now(), true
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	err := t.b.readSubject(ctx, RetainedStream, topicFilter(retainedRoot, tenant, filter), func(r raw) {
		if r.seq > last {
			more = false
			stop()
		}
		if len(r.body) == 0 || !more {
			return
		}
		a := arrival(device.SourceRetained, r)
		if p, err := a.Open(); err == nil && !p.Expired(now) && !each(a.Ref, p) {
			more = false
			stop()
		}
	})
	if !more {
		return nil
	}
	return err
}
