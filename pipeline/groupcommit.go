package pipeline

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/tributary-iot/tributary/device"
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
// our side counts as one that is not answered.
func (p *publisher) send(g *group) {
	g.mu.Lock()
	g.tries++
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

// receive takes one reply. A single is answered at once, a batch by finish.
func (p *publisher) receive(g *group, i int, r reply) {
	g.mu.Lock()
	if g.open == 0 || !g.batch && (i >= len(g.items) || g.known[i]) {
		g.mu.Unlock()
		return
	}
	retry := !g.batch && g.ids != nil && (r.code == noStreamCode || r.code != 0 && g.items[i].cas && g.tries > 1)
	if g.batch {
		g.answer = r
	} else if !retry {
		g.known[i] = true
	}
	g.open--
	if g.open == 0 {
		close(g.settled)
	}
	g.mu.Unlock()
	if !g.batch && !retry {
		p.answer(&g.items[i], r)
	}
}

// answer calls done with what a reply to a single publish means.
func (p *publisher) answer(it *item, r reply) {
	switch r.code {
	case 0:
		p.stored(r.seq)
		it.done(r.seq, nil)
	case codeWrongLastSequence, codeWrongLastSequenceConstant:
		it.done(0, ErrWrongLastSequence)
	case codeMessageTooLarge:
		it.done(0, device.Wrap(device.TooLarge, "message is larger than the stream takes", r.err()))
	default:
		p.b.log.Warn("publish refused", "stream", p.stream, "subject", it.subject, "error", r.err())
		it.done(0, device.Wrap(device.Unavailable, "the message was not stored, send it again", r.err()))
	}
}

func (p *publisher) stored(seq uint64) {
	for {
		old := p.lastOK.Load()
		if seq <= old || p.lastOK.CompareAndSwap(old, seq) {
			return
		}
	}
}

// finish waits until every item of the group is answered, repeating what stays
// unknown.
func (p *publisher) finish(g *group) {
	for {
		settled := p.wait(g)
		p.inbox.forget(g.number)
		done := false
		if g.batch {
			done = p.finishBatch(g, settled)
		} else {
			done = p.finishSingles(g)
		}
		if done {
			p.stuck.Store(0)
			return
		}
		p.stuck.CompareAndSwap(0, g.first.Unix())
		if p.ctx.Err() != nil || time.Since(g.first) > retryFor || g.ids == nil {
			p.giveUp(g)
			return
		}
		p.b.metrics.retries.WithLabelValues(p.stream).Inc()
		p.b.log.Warn("outcome of a commit is unknown, repeating it", "stream", p.stream, "messages", len(g.items), "try", g.tries+1)
		p.pause(retryWait)
		p.send(g)
	}
}

// wait answers whether all replies came.
func (p *publisher) wait(g *group) bool {
	t := time.NewTimer(p.b.opts.AckTimeout)
	defer t.Stop()
	select {
	case <-g.settled:
		return true
	case <-t.C:
	case <-p.ctx.Done():
	}
	return false
}

func (p *publisher) finishSingles(g *group) bool {
	if g.tries > 1 {
		p.confirm(g)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return !slices.Contains(g.known, false)
}

// finishBatch answers a batch whose outcome is known.
func (p *publisher) finishBatch(g *group, settled bool) bool {
	if !settled {
		return false
	}
	g.mu.Lock()
	r := g.answer
	g.mu.Unlock()
	n := uint64(len(g.items))
	switch {
	case r.code == 0:
		p.doneBatch(g, r.seq-n+1)
	case r.code == codeBatchDuplicate:
		// An earlier try was committed, and its reply was lost.
		p.doneBatch(g, p.findBatch(g))
	case r.code == noStreamCode || r.code == codeBatchIncomplete && g.tries > 1:
		return false // this try was not committed, an earlier one may have been
	default:
		p.split(g, r)
	}
	return true
}

// doneBatch answers all items of a committed batch; first is 0 when only the
// sequences are not known.
func (p *publisher) doneBatch(g *group, first uint64) {
	if first != 0 {
		p.stored(first + uint64(len(g.items)) - 1)
	}
	for i := range g.items {
		seq := uint64(0)
		if first != 0 {
			seq = first + uint64(i)
		}
		g.known[i] = true
		g.items[i].done(seq, nil)
	}
}

// split commits the items of a rejected batch one by one, so that a bad one
// does not refuse its neighbours.
func (p *publisher) split(g *group, r reply) {
	p.b.metrics.splits.WithLabelValues(p.stream).Inc()
	p.b.log.Debug("batch rejected, publishing its messages one by one", "stream", p.stream, "messages", len(g.items), "error", r.err())
	single := &group{items: g.items, known: make([]bool, len(g.items)), first: time.Now(), ids: make([]string, len(g.items))}
	for i := range single.ids {
		single.ids[i] = p.id()
	}
	p.send(single)
	p.finish(single)
}

// giveUp answers what is still unknown when it may not be repeated any more.
func (p *publisher) giveUp(g *group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.items {
		if !g.known[i] {
			g.known[i] = true
			g.items[i].done(0, unavailable(errUnknownOutcome))
		}
	}
}

func (p *publisher) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.ctx.Done():
	}
}

func (g *group) isKnown(i int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.known[i]
}
