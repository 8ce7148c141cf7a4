package pipeline

import (
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

const (
	maxBatch      = 1000    // messages of an atomic batch; the server's limit
	maxGroupBytes = 8 << 20 // of one commit
	fewWaiting    = 8       // up to so many go as single publishes: less latency than a batch
	asyncDepth    = 4       // groups of single publishes in flight, where nothing is fsynced for each
	retryWait     = 250 * time.Millisecond
)

// retryFor is how long an unknown outcome is repeated. It ends before the
// stream forgets the id that makes repeating safe.
const retryFor = dedupWindow - 5*time.Second

// group is what is committed together: single publishes, or one atomic batch.
type group struct {
	items []item
	batch bool
	ids   []string // message ids: one for each single, or the one of the batch
	first time.Time
	tries int
	sent  bool // the newest try left us; else no reply will come

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
		for {
			p.slots <- struct{}{} // before taking: what arrives meanwhile joins the group
			items := p.take(nil, maxBatch)
			if items == nil {
				return
			}
			g := p.newGroup(items)
			p.send(g)
			p.groups <- g
		}
	}()
	go func() {
		defer close(p.stopped)
		for g := range p.groups {
			p.finish(g)
			<-p.slots
		}
	}()
}

// newGroup chooses how the items are committed.
func (p *publisher) newGroup(items []item) *group {
	g := &group{items: items, known: make([]bool, len(items)), first: time.Now()}
	g.batch = len(items) > fewWaiting && p.b.groupsFsyncs()
	switch {
	case g.batch:
		g.ids = []string{p.id()}
	case p.b.opts.Durability != Relaxed:
		g.ids = make([]string, len(items))
		for i := range g.ids {
			g.ids[i] = p.id()
		}
	}
	p.b.metrics.commit(p.stream, g.batch, len(items))
	return g
}

// depth is how many commits of a stream are in flight. With batches it is one:
// a second would halve their size, and each costs about 4 ms whatever it holds
// (measured: 97,000 messages a second with one, 55,000 with two, 1,000
// waiting). Streams of compare-and-set items have one in flight always: what
// follows a refused item must not overtake it.
func (b *Belt) depth(stream string) int {
	if stream == TelemetryStream && !b.groupsFsyncs() {
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
	for i := range g.items {
		if g.isKnown(i) {
			continue
		}
		m := p.message(&g.items[i])
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
	id := []string{g.ids[0]}
	for i := range g.items {
		m := p.message(&g.items[i])
		if i == 0 {
			m.Header[jetstream.MsgIDHeader] = id
		}
		// A retry is another batch for the server, which may still hold half of
		// the first; what makes it the same is the message id.
		m.Header[jetstreamext.BatchIDHeader] = []string{g.ids[0] + "." + strconv.Itoa(g.tries)}
		m.Header[jetstreamext.BatchSeqHeader] = []string{strconv.Itoa(i + 1)}
		if i == last {
			m.Header[jetstreamext.BatchCommitHeader] = []string{"1"}
			m.Reply = p.inbox.subject(number, 0)
		}
		if p.b.nc.PublishMsg(m) != nil {
			return
		}
	}
	g.sent = true
}

func (p *publisher) message(it *item) *nats.Msg {
	m := &nats.Msg{Subject: it.subject, Data: it.body, Header: make(nats.Header, len(it.header)+4)}
	for k, v := range it.header {
		m.Header[k] = v
	}
	if it.cas {
		m.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(it.lastSeq, 10)}
		if it.casOn != "" {
			m.Header[jetstream.ExpectedLastSubjSeqSubjHeader] = []string{it.casOn}
		}
	}
	return m
}

func (g *group) isKnown(i int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.known[i]
}
