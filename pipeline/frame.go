package pipeline

import (
	"context"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// Bounds of a frame.
const (
	frameMost  = lastPlace + 1 // messages
	frameBytes = 64 << 10      // of their bodies; one alone may have more

	singleLook = 5 * time.Millisecond
)

// frame is what stands in one place of a stream behind its first message.
type frame struct {
	items []item
	bytes int // by which they make its body longer
	size  int // as item.size counts them
}

// frames has messages of one publisher on one topic that wait for a commit together
// stand in one place of TOPICS: a stream takes about as long for a frame as for a
// message. What a publisher published in between stays in between: only with
// the newest that waits of its publisher is a message put together.
type frames struct {
	seed maphash.Seed
	open atomic.Int64 // frames of several that are not answered yet

	// Under the publisher's mu.
	off    bool              // every message stands by itself
	newest map[uint64]uint64 // by sender: the number of its newest item
	first  uint64            // number of the first item in the queue
}

func (f *frames) init() { f.seed, f.newest = maphash.MakeSeed(), map[uint64]uint64{} }

// sender is what tells publishers apart, 0 for one who is not told. Two that are taken
// for one are kept in order between them.
func (f *frames) sender(key device.SessionKey) uint64 {
	if key == (device.SessionKey{}) {
		return 0
	}
	return maphash.Comparable(f.seed, key)
}

// join puts an item into a frame in the queue, or has it begin one, which the caller
// queues; the publisher's mu is held.
func (f *frames) join(queue []item, it *item) bool {
	if it.sender == 0 {
		return false
	}
	if n, ok := f.newest[it.sender]; ok && n >= f.first && !f.off {
		if head := &queue[n-f.first]; head.takes(it) {
			if head.more == nil {
				head.more = &frame{bytes: devicepb.FramedSize(head.body) - len(head.body)}
				f.open.Add(1)
			}
			head.more.items = append(head.more.items, *it)
			head.more.bytes += devicepb.FramedSize(it.body)
			head.more.size += it.size()
			return true
		}
	}
	f.newest[it.sender] = f.first + uint64(len(queue))
	return false
}

// left notes that the oldest items have left the queue.
func (f *frames) left(items []item) {
	for i := range items {
		if who := items[i].sender; who != 0 && f.newest[who] == f.first {
			delete(f.newest, who)
		}
		f.first++
	}
}

// takes reports whether a frame that begins with it has room for another item.
func (it *item) takes(other *item) bool {
	return it.subject == other.subject && it.count() < frameMost && it.length()+devicepb.FramedSize(other.body) <= frameBytes
}

// count is how many messages an item is.
func (it *item) count() int {
	if it.more == nil {
		return 1
	}
	return 1 + len(it.more.items)
}

// length is the bytes of its body in the stream.
func (it *item) length() int {
	if it.more == nil {
		return len(it.body)
	}
	return len(it.body) + it.more.bytes
}

// wire is the body in the stream.
func (it *item) wire() []byte {
	if it.more == nil {
		return it.body
	}
	body := devicepb.AppendFramed(make([]byte, 0, it.length()), it.body)
	for i := range it.more.items {
		body = devicepb.AppendFramed(body, it.more.items[i].body)
	}
	return body
}

// single has every message stand by itself from now on, and returns when all that were
// put together are answered.
func (p *publisher) single(ctx context.Context) error {
	p.frame(false)
	for p.frames.open.Load() > 0 {
		if !sleep(ctx, singleLook) {
			return ctx.Err()
		}
	}
	return nil
}

// frame says whether messages are put together.
func (p *publisher) frame(on bool) {
	p.mu.Lock()
	p.frames.off = !on
	p.mu.Unlock()
}

// tell says what became of an item to everybody in it.
func (p *publisher) tell(it *item, seq uint64, err error) {
	it.done(seq, err)
	if it.more == nil {
		return
	}
	p.frames.open.Add(-1)
	for i := range it.more.items {
		it.more.items[i].done(seq, err)
	}
}
