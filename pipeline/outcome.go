package pipeline

import (
	"slices"
	"strings"
	"time"

	"github.com/tributary-iot/tributary/device"
)

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
	if g.batch && r.code == 0 {
		p.release(g) // all of it is stored: the next commit need not wait until everybody was told
	}
	if !g.batch && !retry {
		p.answer(&g.items[i], r)
	}
}

// answer calls done with what a reply to a single publish means.
func (p *publisher) answer(it *item, r reply) {
	switch r.code {
	case 0:
		p.stored(r.seq, []item{*it})
		p.tell(it, r.seq, nil)
	case codeWrongLastSequence, codeWrongLastSequenceConstant:
		p.tell(it, 0, ErrWrongLastSequence)
	case codeAccountFull, codeServerFull, codeStorageFull:
		p.tell(it, 0, device.Wrap(device.Busy, "the server has no room for messages now, try again later", r.err()))
	case codeNotStored:
		p.tell(it, 0, p.notStored(it, r))
	case codeMessageTooLarge:
		p.tell(it, 0, device.Wrap(device.TooLarge, "message is larger than the stream takes", r.err()))
	default:
		p.tell(it, 0, p.refused(it, r))
	}
}

// notStored tells a stream that holds as many messages as it may from one that
// has failed.
func (p *publisher) notStored(it *item, r reply) error {
	if strings.HasPrefix(r.text, "maximum ") {
		return device.Wrap(device.Busy, "the server keeps as many of these as it may", r.err())
	}
	return p.refused(it, r)
}

func (p *publisher) refused(it *item, r reply) error {
	p.b.log.Warn("publish refused", "stream", p.stream, "subject", it.subject, "error", r.err())
	return device.Wrap(device.Unavailable, "the message was not stored, send it again", r.err())
}

// stored notes what an acknowledgement says: that items stand one after the other,
// from sequence first on.
func (p *publisher) stored(first uint64, items []item) {
	switch {
	case p.b.tail != nil && p.stream == TelemetryStream:
		p.b.tail.push(first, items)
	case p.stream == TopicStream:
		p.b.topicNotes.push(first, items)
	}
	seq := first + uint64(len(items)) - 1
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

// release gives back the place that g has in flight, once.
func (p *publisher) release(g *group) {
	if !g.released.Swap(true) {
		<-p.slots
	}
}

// wait answers whether all replies came.
func (p *publisher) wait(g *group) bool {
	if !g.sent {
		return false
	}
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
	switch n := len(g.items); {
	case r.code == 0:
		p.doneBatch(g, r.seq-uint64(n)+1, n)
	case r.code == codeBatchDuplicate: // an earlier try was committed, and its reply was lost
		return p.finishRepeated(g, r)
	case r.code == noStreamCode || r.code == codeBatchIncomplete && g.tries > 1:
		return false // this try was not committed, an earlier one may have been
	case g.tries > 1:
		return p.finishRefused(g, r)
	default:
		p.split(g.items, r)
	}
	return true
}

// finishRepeated answers a batch that the stream has from an earlier try, whose
// reply was lost, perhaps with its process. Of one that the server did not get to
// the end of, before it or its machine went down, the rest is sent as messages of
// their own.
func (p *publisher) finishRepeated(g *group, r reply) bool {
	first, n, err := p.findBatch(g)
	switch {
	case err != nil || first == 0 && g.word != g.before: // who said it may not be who was looked at: hear it again
		return false
	case first == 0: // stored, says the server, and not among the newest
		n = len(g.items)
	}
	p.doneBatch(g, first, n)
	p.split(g.items[n:], r)
	return true
}

// finishRefused answers a batch whose repeat was refused. The repeat says
// nothing of the tries before it: only when none of them is in the stream may
// its messages go there under new ids.
func (p *publisher) finishRefused(g *group, r reply) bool {
	first, n, err := p.findBatch(g)
	if err != nil {
		p.b.log.Debug("what became of a batch is not known yet", "stream", p.stream, "error", err)
		return false
	}
	p.doneBatch(g, first, n)
	p.split(g.items[n:], r)
	return true
}

// doneBatch answers the first n items of a batch, which are stored; first is 0 when
// only the sequences are not known.
func (p *publisher) doneBatch(g *group, first uint64, n int) {
	if first != 0 && n > 0 {
		p.stored(first, g.items[:n])
	}
	for i := range g.items[:n] {
		seq := uint64(0)
		if first != 0 {
			seq = first + uint64(i)
		}
		g.known[i] = true
		p.tell(&g.items[i], seq, nil)
	}
}

// split commits the items of a rejected batch one by one, so that a bad one
// does not refuse its neighbours.
func (p *publisher) split(items []item, r reply) {
	if len(items) == 0 {
		return
	}
	p.b.metrics.splits.WithLabelValues(p.stream).Inc()
	p.b.log.Debug("batch rejected, publishing its messages one by one", "stream", p.stream, "messages", len(items), "error", r.err())
	single := &group{items: items, known: make([]bool, len(items)), first: time.Now(), ids: make([]string, len(items))}
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
			p.tell(&g.items[i], 0, unavailable(errUnknownOutcome))
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
