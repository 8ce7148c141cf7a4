package pipeline

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/storage"
)

// maxBatchBytes bounds the bodies of one transaction.
const maxBatchBytes = 8 << 20

// line is one stream on its way into the store.
type line struct {
	p       *Persister
	stream  string
	decode  func(raw, *entry) error
	keep    int64 // purge the stream down to so many bytes; 0: never
	lag     atomic.Uint64
	failing atomic.Pointer[error]
	guarded atomic.Bool                // align had to step in
	looked  struct{ last, pos uint64 } // by tend, the last time

	mu    sync.Mutex
	pos   device.Position // what the store holds
	moved chan struct{}   // closed at the next change of pos
}

// entry is a decoded message; one that went to the dead letters has neither
// message nor event, and only moves the position.
type entry struct {
	seq     uint64
	size    int
	raw     raw
	message *device.Message
	event   *device.CommandEvent
}

func (l *line) position() (device.Position, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pos, l.moved
}

func (l *line) setPosition(pos device.Position) {
	l.mu.Lock()
	l.pos = pos
	close(l.moved)
	l.moved = make(chan struct{})
	l.mu.Unlock()
}

// take decodes one message, or buries it.
func (l *line) take(ctx context.Context, r raw) (entry, error) {
	e := entry{seq: r.seq, size: len(r.body), raw: r}
	if err := l.decode(r, &e); err != nil {
		e.message, e.event = nil, nil
		return e, l.bury(ctx, r, device.Wrap(device.Undecodable, "not a message this release can read", err), "undecodable")
	}
	return e, nil
}

// bury repeats until the dead letter is durable: the line must not go on without.
func (l *line) bury(ctx context.Context, r raw, reason error, why string) error {
	letter := deadLetter{Refusal: adapters.Refusal{Address: r.subject, Raw: r.body, Err: reason}, length: len(r.body), stream: l.stream, at: l.placeOf(r)}
	if id, _, err := ParseTelemetrySubject(r.subject); err == nil {
		letter.Device = id
	} else if id, err := parseDeviceSubject(commandRoot, r.subject); err == nil {
		letter.Device = id
	} else if id, err := parseDeviceSubject(commandEventRoot, r.subject); err == nil {
		letter.Device = id
	} else { // of nobody we know; who looks for it finds it in the usual tenant
		letter.Device = device.ID{Tenant: device.DefaultTenant, Device: "unknown"}
	}
	l.p.b.log.Error("message cannot be stored, it goes to the dead letters", "stream", l.stream, "seq", r.seq, "error", reason)
	for wait := l.p.opts.RetryMin; ; wait = min(2*wait, l.p.opts.RetryMax) {
		err := l.p.b.bury(ctx, letter, why)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		l.fail(err)
		if !sleep(ctx, wait) {
			return ctx.Err()
		}
	}
}

// placeOf is where in the stream's lives a message stands.
func (l *line) placeOf(r raw) device.Position {
	pos, _ := l.position()
	return device.Position{Epoch: pos.Epoch, Seq: r.seq}
}

// write commits batches until the entries end or the store's position is not
// ours any more. An idle line commits at once; while messages flow, what
// arrives within Pace of the last commit waits for company.
func (l *line) write(ctx context.Context, entries *shelf) error {
	var last time.Time
	var batch []entry // its room is used again and again
	var messages []storage.Message
	for {
		first, ok := <-entries.c
		if !ok {
			return nil
		}
		entries.took(first)
		batch = l.gather(ctx, entries, append(batch, first), last.Add(l.p.opts.Pace))
		pos, _ := l.position()
		b := l.storageBatch(batch, pos, messages)
		if err := l.commit(ctx, batch, &b); err != nil {
			return err
		}
		last = time.Now()
		messages = b.Messages[:0]
		clear(b.Messages)
		clear(batch)
		batch = batch[:0]
	}
}

// gather adds to a batch of one.
func (l *line) gather(ctx context.Context, entries *shelf, batch []entry, until time.Time) []entry {
	bytes := batch[0].size
	add := func(e entry) {
		entries.took(e)
		batch, bytes = append(batch, e), bytes+e.size
	}
	pace := time.NewTimer(max(time.Until(until), 0))
	defer pace.Stop()
	for len(batch) < l.p.opts.MaxBatch && bytes < maxBatchBytes {
		select {
		case e, ok := <-entries.c:
			if !ok {
				return batch
			}
			add(e)
			continue
		default:
		}
		select {
		case e, ok := <-entries.c:
			if !ok {
				return batch
			}
			add(e)
		case <-pace.C:
			return batch
		case <-ctx.Done():
			return batch
		}
	}
	return batch
}

// commit writes one batch, however often the store fails meanwhile. It answers
// an error only when the position must be read again, or ctx ended.
func (l *line) commit(ctx context.Context, batch []entry, b *storage.Batch) error {
	for wait := l.p.opts.RetryMin; ; wait = min(2*wait, l.p.opts.RetryMax) {
		err := l.p.store.Write(ctx, *b)
		var bad *storage.BadMessage
		switch {
		case err == nil:
			l.committed(batch, b)
			return nil
		case errors.Is(err, storage.ErrPosition), errors.Is(err, storage.ErrEpoch):
			return err
		case errors.As(err, &bad) && l.discard(ctx, batch, b, bad):
			wait = l.p.opts.RetryMin
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.fail(err)
		if !sleep(ctx, wait) {
			return ctx.Err()
		}
	}
}

// storageBatch is what the store gets of a batch; its messages take the room given.
func (l *line) storageBatch(batch []entry, pos device.Position, messages []storage.Message) storage.Batch {
	b := storage.Batch{Stream: l.stream, Epoch: pos.Epoch, From: pos.Seq, To: batch[len(batch)-1].seq, Messages: messages}
	for i := range batch {
		switch e := &batch[i]; {
		case e.message != nil:
			if keep := l.p.opts.Keep.For(e.message.ID(), e.message.Channel); keep != device.KeepNone {
				b.Messages = append(b.Messages, storage.Message{Seq: e.seq, StoredAt: e.raw.stored, Message: e.message, Body: e.raw.body, Last: keep == device.KeepLast})
			}
		case e.event != nil:
			b.Events = append(b.Events, device.StoredEvent{CommandEvent: *e.event,
				Position: device.Position{Epoch: pos.Epoch, Seq: e.seq}, StoredAt: e.raw.stored})
		}
	}
	return b
}

// discard buries the one message the store will never take and takes it out of
// the batch; false when the batch holds no such message.
func (l *line) discard(ctx context.Context, batch []entry, b *storage.Batch, bad *storage.BadMessage) bool {
	for i := range batch {
		e := &batch[i]
		if e.seq != bad.Seq || e.message == nil && e.event == nil {
			continue
		}
		if l.bury(ctx, e.raw, bad.Err, "unstorable") != nil {
			return false
		}
		e.message, e.event = nil, nil
		*b = l.storageBatch(batch, device.Position{Epoch: b.Epoch, Seq: b.From}, b.Messages[:0])
		return true
	}
	return false
}

func (l *line) committed(batch []entry, b *storage.Batch) {
	l.failing.Store(nil)
	l.setPosition(device.Position{Epoch: b.Epoch, Seq: b.To})
	m := l.p.b.metrics
	m.batches.WithLabelValues(l.stream).Inc()
	m.rows.WithLabelValues(l.stream).Add(float64(len(b.Messages) + len(b.Events)))
	m.persistDelay.WithLabelValues(l.stream).Set(time.Since(batch[len(batch)-1].raw.stored).Seconds())
}

// fail notes an outage; it is over with the next commit.
func (l *line) fail(err error) {
	if l.failing.Swap(&err) == nil {
		l.p.b.log.Error("the store does not take messages; the stream keeps them until it does", "stream", l.stream, "error", err)
	}
	l.p.b.metrics.writeErrors.WithLabelValues(l.stream).Inc()
}

// decodeMessage reads a telemetry message and checks that it is where it
// belongs: whatever else may publish to an external stream is not believed.
func decodeMessage(r raw, e *entry) error {
	m, err := devicepb.UnmarshalMessage(r.body)
	if err != nil {
		return err
	}
	if err := m.Validate(); err != nil {
		return err
	}
	if TelemetrySubject(m.ID(), m.Channel) != r.subject {
		return errors.New("the subject names another device or channel than the message")
	}
	e.message = m
	return nil
}

// decodeCommand makes the event that creates a command of its request.
func decodeCommand(r raw, e *entry) error {
	c, err := devicepb.UnmarshalCommand(r.body)
	if err != nil {
		return err
	}
	if commandSubject(c.ForDevice()) != r.subject {
		return errors.New("the subject names another device than the command")
	}
	e.event = &device.CommandEvent{Command: c.ID, Tenant: c.Tenant, Device: c.Device, State: device.StateQueued, At: c.CreatedAt, Request: c}
	return nil
}

func decodeEvent(r raw, e *entry) error {
	ev, err := devicepb.UnmarshalCommandEvent(r.body)
	if err != nil {
		return err
	}
	if commandEventSubject(ev.ID()) != r.subject {
		return errors.New("the subject names another device than the event")
	}
	e.event = ev
	return nil
}
