package pipeline

import (
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

const (
	maxBatch      = 1000    // messages of an atomic batch; the server's limit
	maxGroupBytes = 8 << 20 // of one commit
	fewWaiting    = 4       // up to so many go as single publishes: less latency than a batch
	stageAt       = 64      // so many waiting are staged while the commit before them is under way
	halveFrom     = 256     // so many under way are committed in halves, by turns
	asyncDepth    = 4       // groups of single publishes in flight, where nothing is fsynced for each
	retryWait     = 250 * time.Millisecond
)

// retryFor is how long an unknown outcome is repeated. It ends before the
// stream forgets the id that makes repeating safe.
const retryFor = dedupWindow - 5*time.Second

// group is what is committed together: single publishes, or one atomic batch.
type group struct {
	items  []item
	batch  bool
	ids    []string // message ids: one for each single, or the one of the batch
	first  time.Time
	count  int // messages in them
	bytes  int
	tries  int
	staged int  // items of a batch that the server was sent before it was time to commit
	sent   bool // the newest try left us; else no reply will come

	word, before string // publisher.word, at the last two looks for a batch

	released atomic.Bool // its place in flight is free

	mu      sync.Mutex
	number  uint64 // in the inbox, of the newest try
	open    int    // replies still missing
	known   []bool // by item: done was called
	answer  reply  // of a batch
	settled chan struct{}
}

// start runs the two halves of the publisher: one sends what waits as soon as
// there is a free place in flight, the other waits for the replies, in order.
// So while one commit is in flight, what arrives becomes the next one.
func (p *publisher) start() {
	go func() {
		defer close(p.groups)
		for g := p.next(); g != nil; g = p.next() {
			p.send(g)
			p.groups <- g
		}
	}()
	go func() {
		defer close(p.stopped)
		for g := range p.groups {
			p.finish(g)
			p.release(g)
		}
	}()
}

// next answers what is to be committed next, as soon as there is a free place
// in flight; nil when the publisher is closed and empty.
func (p *publisher) next() *group {
	g := p.stage()
	switch {
	case g == nil:
		items := p.take()
		if items == nil {
			return nil
		}
		g = &group{items: items, count: count(items)}
		g.batch = len(items) > fewWaiting && p.b.groupsFsyncs()
	default:
		p.mu.Lock()
		p.add(g)
		p.mu.Unlock()
	}
	p.before = g.count
	return p.prepare(g)
}

// add moves to a staged batch what it still takes of what waits; mu is held.
func (p *publisher) add(g *group) {
	had := len(g.items)
	if room := p.most(g.count) - g.count; room > 0 && g.bytes < maxGroupBytes {
		g.items = p.takeLocked(g.items, room, maxGroupBytes-g.bytes)
	}
	for i := range g.items[had:] {
		g.bytes += g.items[had+i].size()
	}
	g.count += count(g.items[had:])
}

// most is how many messages a commit takes that has some of them; mu is held. Half
// of all that are under way, when they are many: with a bounded number unacknowledged
// by each device, a commit that took all of them would have the devices wait for
// the stream, and then the stream for the devices. So one half is with the
// stream while the other is with the devices.
func (p *publisher) most(have int) int {
	all := p.before + have + p.count
	if all < halveFrom || !p.b.groupsFsyncs() {
		return maxBatch
	}
	return all / 2
}

// stage waits for a free place in flight. When many messages arrive meanwhile,
// it sends them as a batch that lacks only its last message: the server takes
// them in while the commit before is under way, and has less to do when their
// turn comes. It answers nil when it staged nothing.
func (p *publisher) stage() (g *group) {
	if !p.b.groupsFsyncs() {
		p.slots <- struct{}{}
		return nil
	}
	for {
		select {
		case p.slots <- struct{}{}:
			return g
		default:
		}
		g = p.stageMore(g)
		select {
		case p.slots <- struct{}{}:
			return g
		case <-p.wake:
		}
	}
}

// stageMore stages what waits, if it is many.
func (p *publisher) stageMore(g *group) *group {
	p.mu.Lock()
	many := len(p.queue) >= stageAt
	if many {
		if g == nil {
			g = &group{batch: true, ids: []string{p.id()}}
		}
		p.add(g)
	}
	p.mu.Unlock()
	if many {
		p.sendStaged(g)
	}
	return g
}

// sendStaged sends all but the last of the items that were not sent yet.
func (p *publisher) sendStaged(g *group) {
	b := p.batch(g, g.tries+1)
	for ; g.staged < len(g.items)-1; g.staged++ {
		if p.b.nc.PublishMsg(b.message(g.staged)) != nil {
			g.tries++ // what left us belongs to a batch that will not be committed
			g.staged = 0
			return
		}
	}
}

// prepare chooses how the items are committed and gives them their ids.
func (p *publisher) prepare(g *group) *group {
	items := g.items
	g.known, g.first = make([]bool, len(items)), time.Now()
	switch {
	case g.ids != nil: // staged
	case g.batch:
		g.ids = []string{p.id()}
	case p.b.opts.Durability != Relaxed:
		g.ids = make([]string, len(items))
		for i := range g.ids {
			g.ids[i] = p.id()
		}
	}
	p.b.metrics.commit(p.stream, g.batch, g.count)
	return g
}

// depth is how many commits of a stream are in flight. With batches it is one:
// a second would halve their size, and each has its cost whatever it holds
// (measured when that was 4 ms, with batches staged on the disk: 97,000 messages
// a second with one, 55,000 with two, 1,000 waiting). Streams of compare-and-set items have one in flight always: what
// follows a refused item must not overtake it.
func (b *Belt) depth(stream string) int {
	if (stream == TelemetryStream || stream == TopicStream) && !b.groupsFsyncs() {
		return asyncDepth
	}
	return 1
}

// groupsFsyncs reports whether an atomic batch saves fsyncs: on one node that
// syncs. A cluster's Raft log groups them by itself.
func (b *Belt) groupsFsyncs() bool { return b.opts.Durability != Relaxed && b.opts.Replicas == 1 }

// send publishes what of the group is not known yet. A publish that fails on
// our side is an unknown outcome too: part of it may have left.
func (p *publisher) send(g *group) {
	g.mu.Lock()
	g.tries++
	g.sent = false
	g.settled = make(chan struct{})
	g.open = 0
	for _, k := range g.known {
		if !k && !g.batch {
			g.open++
		}
	}
	if g.batch {
		g.open = 1
	}
	g.answer = reply{}
	g.number = p.inbox.expect(func(i int, r reply) { p.receive(g, i, r) })
	number := g.number
	g.mu.Unlock()
	if g.batch {
		p.sendBatch(g, number)
		return
	}
	m := &nats.Msg{Header: make(nats.Header, 4)}
	for i := range g.items {
		if g.isKnown(i) {
			continue
		}
		fill(m, &g.items[i])
		if g.ids != nil {
			m.Header.Set(jetstream.MsgIDHeader, g.ids[i])
		}
		m.Reply = p.inbox.subject(number, i)
		if p.b.nc.PublishMsg(m) != nil {
			return
		}
	}
	g.sent = true
}

func (p *publisher) sendBatch(g *group, number uint64) {
	last := len(g.items) - 1
	b := p.batch(g, g.tries)
	for i := g.staged; i <= last; i++ {
		m := b.message(i)
		if i == last {
			m.Header[jetstreamext.BatchCommitHeader] = []string{"1"}
			m.Reply = p.inbox.subject(number, 0)
		}
		if p.b.nc.PublishMsg(m) != nil {
			return
		}
	}
	g.staged = 0
	g.sent = true
}

// batchSender makes the messages of one try of a batch. They share one
// nats.Msg: the client has copied it when PublishMsg returns.
type batchSender struct {
	g       *group
	m       nats.Msg
	batchID []string
	seq     []string
}

// batch begins a try of g. A retry is another batch for the server, which may
// still hold half of the first; what makes it the same is the message id of
// its first message.
func (p *publisher) batch(g *group, try int) *batchSender {
	return &batchSender{
		g:       g,
		m:       nats.Msg{Header: make(nats.Header, 8)},
		batchID: []string{g.ids[0] + "." + strconv.Itoa(try)},
		seq:     make([]string, 1),
	}
}

// message is item i of the batch, until the next call.
func (b *batchSender) message(i int) *nats.Msg {
	fill(&b.m, &b.g.items[i])
	if i == 0 {
		b.m.Header[jetstream.MsgIDHeader] = b.g.ids[:1]
	}
	b.seq[0] = strconv.Itoa(i + 1)
	b.m.Header[jetstreamext.BatchIDHeader] = b.batchID
	b.m.Header[jetstreamext.BatchSeqHeader] = b.seq
	return &b.m
}

// fill makes m, whatever it held, the message that publishes it.
func fill(m *nats.Msg, it *item) {
	clear(m.Header)
	m.Subject, m.Data = it.subject, it.wire()
	maps.Copy(m.Header, it.header)
	if it.cas {
		m.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(it.lastSeq, 10)}
		if it.casOn != "" {
			m.Header[jetstream.ExpectedLastSubjSeqSubjHeader] = []string{it.casOn}
		}
	}
}

// count is how many messages there are in items.
func count(items []item) (n int) {
	for i := range items {
		n += items[i].count()
	}
	return n
}

func (g *group) isKnown(i int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.known[i]
}
