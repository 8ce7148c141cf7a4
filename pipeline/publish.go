package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// ErrWrongLastSequence means that a compare-and-set item was not stored,
// because somebody else wrote to its subject since.
var ErrWrongLastSequence = errors.New("pipeline: wrong last sequence: another message was stored first")

// maxSubjectBytes is far above what subject.go makes and far below the control
// line of 4 KiB, beyond which the server closes the connection all share.
const maxSubjectBytes = 2048

// item is one message on its way into a stream. done is called exactly once,
// from another goroutine, with the sequence it was stored at (0 when only that
// is not known), and must not block.
type item struct {
	subject string
	header  nats.Header // more headers, nil for none; never a Nats-Msg-Id, which is the publisher's
	body    []byte
	message *device.Message // what body holds, for telemetry
	cas     bool            // store only if lastSeq is the last sequence of casSubject
	lastSeq uint64          // 0: nothing may be there
	casOn   string          // a subject or filter; "" is the item's own subject
	sender  uint64          // see frames.sender; 0: it stands by itself
	more    *frame          // those that share its place
	done    func(seq uint64, err error)
}

func (it *item) size() int {
	n := len(it.subject) + len(it.body) + 256
	if it.more != nil {
		n += it.more.size
	}
	return n
}

// Submit validates m and queues it for the stream; see adapters.Gate for what
// it promises.
func (b *Belt) Submit(m *device.Message, done func(error)) error {
	if err := m.Validate(); err != nil {
		return err
	}
	if len(m.Payload) > b.opts.MaxMessageBytes {
		return device.Errorf(device.TooLarge, "payload is %d bytes long, the limit is %d", len(m.Payload), b.opts.MaxMessageBytes)
	}
	return b.telemetry.publish(item{
		subject: TelemetrySubject(m.ID(), m.Channel), body: devicepb.MarshalMessage(m), message: m,
		done: func(_ uint64, err error) { done(err) },
	})
}

// publisher is the way into one stream: a bounded queue, and one goroutine
// that commits what waits in it, in order (groupcommit.go).
type publisher struct {
	b      *Belt
	stream string
	inbox  *inbox
	ids    string        // prefix of our message ids
	nextID atomic.Uint64 // the rest of them
	lastOK atomic.Uint64 // highest sequence known to be stored
	epoch  uint64        // of the stream when it was opened: should it be made anew, lastOK is not to be believed

	mu     sync.Mutex
	queue  []item
	frames frames
	count  int // messages in the queue
	bytes  int
	closed bool
	space  chan struct{} // closed when the queue shrinks; nil when nobody waits
	wake   chan struct{} // capacity 1: something was queued or closed

	slots   chan struct{} // one for each commit that may be in flight
	groups  chan *group   // sent, in order, waiting for their replies
	before  int           // messages of the commit before
	stopped chan struct{} // closed when all is answered
	abort   context.CancelFunc
	ctx     context.Context // ends when Close gives up
	stuck   atomic.Int64    // unix seconds since when commits are unanswered; 0: not
}

func (b *Belt) openPublisher(ctx context.Context, stream string) (*publisher, error) {
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("pipeline: publisher of %s: %w", stream, err)
	}
	depth := b.depth(stream)
	p := &publisher{b: b, stream: stream, epoch: streamEpoch(s.CachedInfo()), ids: nuid.Next() + ".", wake: make(chan struct{}, 1),
		slots: make(chan struct{}, depth), groups: make(chan *group, depth), stopped: make(chan struct{})}
	if p.inbox, err = openInbox(b.nc); err != nil {
		return nil, fmt.Errorf("pipeline: publisher of %s: %w", stream, err)
	}
	p.ctx, p.abort = context.WithCancel(context.Background())
	p.frames.init()
	p.start()
	return p, nil
}

// publish queues an item. A full queue blocks for BusyAfter, then answers an
// error of code Busy; so does a stream without room (room.go). An error means that done is not called.
func (p *publisher) publish(it item) error {
	if err := p.check(&it); err != nil {
		return err
	}
	return p.await(&it)
}

// await queues an item as soon as there is room.
func (p *publisher) await(it *item) error {
	var timeout <-chan time.Time
	for {
		space, err := p.enqueue(it)
		if space == nil {
			return err
		}
		if timeout == nil {
			p.b.metrics.queueFull.WithLabelValues(p.stream).Inc()
			t := time.NewTimer(p.b.opts.BusyAfter)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-space:
		case <-timeout:
			return device.Errorf(device.Busy, "the server cannot store messages fast enough now, try again")
		}
	}
}

// check refuses an item that can never be stored, or not now.
func (p *publisher) check(it *item) error {
	if len(it.subject) > maxSubjectBytes {
		return device.Errorf(device.Invalid, "address is too long")
	}
	if len(it.body)+headerRoom(it.header) > p.b.maxBody {
		return device.Errorf(device.TooLarge, "message with its properties and measurements is %d bytes long, the limit is %d", len(it.body), p.b.maxBody)
	}
	return p.b.room.admit(p.stream, len(it.subject)+len(it.body)+recordBytes)
}

// publishAll is publish for items that are there together: as many as find a place are
// queued at once, so that they are committed in few groups. After an error done may
// have been called for those before.
func (p *publisher) publishAll(items []item) error {
	for i := range items {
		if err := p.check(&items[i]); err != nil {
			return err
		}
	}
	for len(items) > 0 {
		n, err := p.enqueueMany(items)
		if err != nil {
			return err
		}
		if items = items[n:]; len(items) > 0 {
			if err := p.await(&items[0]); err != nil {
				return err
			}
			items = items[1:]
		}
	}
	return nil
}

// enqueueMany queues items as long as there is room, and answers how many.
func (p *publisher) enqueueMany(items []item) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, errStopping
	}
	for ; n < len(items) && p.fits(&items[n]); n++ {
		p.push(&items[n])
	}
	if n > 0 {
		p.poke()
	}
	return n, nil
}

// fits reports whether there is room for one more; mu is held.
func (p *publisher) fits(it *item) bool {
	return p.count == 0 || p.count < p.b.opts.QueueMessages && p.bytes+it.size() <= p.b.opts.QueueBytes
}

// push queues an item for which there is room, by itself or with another; mu is held.
func (p *publisher) push(it *item) (alone bool) {
	p.count++
	p.bytes += it.size()
	if p.frames.join(p.queue, it) {
		return false
	}
	p.queue = append(p.queue, *it)
	return true
}

// poke has the publisher look at its queue.
func (p *publisher) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

var errStopping = device.Errorf(device.Unavailable, "the server is stopping, try again")

// enqueue answers a channel to wait on when the queue is full.
func (p *publisher) enqueue(it *item) (<-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errStopping
	}
	if !p.fits(it) {
		if p.space == nil {
			p.space = make(chan struct{})
		}
		return p.space, nil
	}
	if p.push(it) && (len(p.queue) == 1 || len(p.queue) == stageAt) {
		p.poke()
	}
	return nil, nil
}

// waiting is what the queued items take, in bytes.
func (p *publisher) waiting() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int64(p.bytes)
}

// take blocks until something is queued and answers the oldest of it, as many as one
// commit takes; nil when the publisher is closed and empty.
func (p *publisher) take() []item {
	for {
		p.mu.Lock()
		items, closed := p.takeLocked(nil, p.most(0), maxGroupBytes), p.closed
		p.mu.Unlock()
		if items != nil || closed {
			return items
		}
		<-p.wake
	}
}

// takeLocked moves the oldest of what is queued to into, until it is so many messages or
// room bytes, but always one. What is queued is handed over
// as it is where that can be, because whoever publishes waits meanwhile.
func (p *publisher) takeLocked(into []item, limit, room int) []item {
	n, count, bytes := 0, 0, 0
	for n < len(p.queue) && len(into)+n < maxBatch && count < limit && (n == 0 || bytes+p.queue[n].size() <= room) {
		count, bytes = count+p.queue[n].count(), bytes+p.queue[n].size()
		n++
	}
	switch {
	case n == 0:
		return into
	case len(into) == 0 && n == len(p.queue):
		into, p.queue = p.queue, make([]item, 0, n)
	default:
		into = append(into, p.queue[:n]...)
		rest := copy(p.queue, p.queue[n:])
		clear(p.queue[rest:])
		p.queue = p.queue[:rest]
	}
	p.count, p.bytes = p.count-count, p.bytes-bytes
	p.frames.left(into[len(into)-n:])
	if p.space != nil {
		close(p.space)
		p.space = nil
	}
	return into
}

// publishWait publishes one item and waits for its fate. A ctx that ends first
// leaves the fate unknown.
func (p *publisher) publishWait(ctx context.Context, it item) (uint64, error) {
	type fate struct {
		seq uint64
		err error
	}
	ch := make(chan fate, 1)
	it.done = func(seq uint64, err error) { ch <- fate{seq, err} }
	if err := p.publish(it); err != nil {
		return 0, err
	}
	select {
	case f := <-ch:
		return f.seq, f.err
	case <-ctx.Done():
		return 0, unavailable(ctx.Err())
	}
}

// close takes nothing more, commits what is queued and waits for the answers.
func (p *publisher) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.poke()
	var err error
	select {
	case <-p.stopped:
	case <-ctx.Done():
		err = fmt.Errorf("pipeline: publisher of %s did not finish: %w", p.stream, ctx.Err())
		p.abort()
		<-p.stopped
	}
	p.abort()
	p.inbox.close()
	return err
}

// healthy reports commits that are not answered.
func (p *publisher) healthy() error {
	if since := p.stuck.Load(); since != 0 {
		return fmt.Errorf("pipeline: stream %s does not answer since %s", p.stream, time.Unix(since, 0).UTC().Format(time.RFC3339))
	}
	return nil
}

// id makes a message or batch id nobody else makes.
func (p *publisher) id() string { return p.ids + strconv.FormatUint(p.nextID.Add(1), 36) }

func headerRoom(h nats.Header) (n int) {
	for k, vs := range h {
		for _, v := range vs {
			n += len(k) + len(v) + 4
		}
	}
	return n
}
