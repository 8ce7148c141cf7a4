package pipeline

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
)

const (
	pullAckWait = 30 * time.Second // after which what a dead node's readers held is offered again
	pullTend    = pullAckWait / 3  // how often what readers hold is said to be held
	pullPending = 20000            // offered and not settled, by all readers of one
	pullWait    = 10 * time.Second // how long one request to the server stays open
	pullMost    = 256              // messages asked for at a time
)

// pull is one of the readers of a consumer with acknowledgements, on any node: it
// asks for no more than is wanted, and holds what is not settled.
type pull struct {
	b        *Belt
	name     string // for the log
	consumer jetstream.Consumer
	idle     time.Duration              // for how long the server keeps the consumer when nobody asks it for anything
	give     func(m jetstream.Msg) bool // offers a message; false: it is not one to count
	lost     func(error)                // called at most once, when reading ended and not by Detach
	ctx      context.Context
	cancel   context.CancelFunc
	wake     chan struct{} // for run; holds one
	done     chan struct{} // closed when run will offer no more

	mu     sync.Mutex
	wanted int
	asking bool              // a request is open at the server
	recall int               // counts Recall: what was asked for before is not wanted
	held   map[uint64]string // offered and not settled: where to answer
	next   uint64            // of held
}

// begin makes p ready to run; its consumer is there.
func (p *pull) begin() {
	p.wake, p.done, p.held = make(chan struct{}, 1), make(chan struct{}), map[uint64]string{}
	p.ctx, p.cancel = context.WithCancel(context.Background())
}

// Request implements adapters.Feed.
func (p *pull) Request(n int) {
	p.mu.Lock()
	p.wanted += n
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Recall implements adapters.Feed.
func (p *pull) Recall() {
	p.mu.Lock()
	p.wanted = 0
	p.recall++
	p.mu.Unlock()
}

// Detach implements adapters.Feed.
func (p *pull) Detach(string) {
	p.cancel()
	<-p.done
	p.mu.Lock()
	held := p.held
	p.held = map[uint64]string{}
	p.mu.Unlock()
	for _, reply := range held {
		p.answer(reply, "-NAK")
	}
}

// run asks for what is wanted until the reading ends.
func (p *pull) run() {
	err := p.read()
	close(p.done)
	if p.ctx.Err() == nil {
		p.cancel()
		p.lost(device.Wrap(device.Unavailable, "reading has ended; receive anew", err))
	}
}

// read answers why nothing more can be read.
func (p *pull) read() error {
	for {
		n, recall := p.take()
		if n == 0 {
			select {
			case <-p.wake:
				continue
			case <-p.ctx.Done():
				return p.ctx.Err()
			}
		}
		got, err := p.fetch(n)
		p.mu.Lock()
		p.asking = false
		if p.recall == recall {
			p.wanted += n - got
		}
		p.mu.Unlock()
		switch {
		case p.ctx.Err() != nil:
			return p.ctx.Err()
		case gone(err):
			return err
		case err != nil:
			p.b.log.Debug("reading a subscription goes on", "subscription", p.name, "error", err)
			select {
			case <-time.After(readRetry):
			case <-p.ctx.Done():
				return p.ctx.Err()
			}
		}
	}
}

// gone reports whether the consumer is no more: it lives for a time without readers.
func gone(err error) bool {
	return errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrConsumerDoesNotExist)
}

func (p *pull) take() (n, recall int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = min(p.wanted, pullMost)
	p.wanted -= n
	p.asking = n > 0
	return n, p.recall
}

// fetch offers at most n messages, and answers how many it did.
func (p *pull) fetch(n int) (got int, err error) {
	wait, cancel := context.WithTimeout(p.ctx, pullWait)
	defer cancel()
	batch, err := p.consumer.Fetch(n, jetstream.FetchContext(wait), jetstream.FetchMaxBytes(readAheadBytes))
	if err != nil {
		return 0, p.missing(err)
	}
	for m := range batch.Messages() {
		if p.give(m) {
			got++
		}
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return got, p.missing(err)
	}
	return got, nil
}

// missing asks whether the consumer is still there: to a request for one that is
// not, nobody answers.
func (p *pull) missing(err error) error {
	ctx, cancel := context.WithTimeout(p.ctx, pullWait)
	defer cancel()
	if _, e := p.consumer.Info(ctx); gone(e) {
		return e
	}
	return err
}

// hold notes that a message is offered; false when reading has ended, and the
// message is given back.
func (p *pull) hold(reply string) (id uint64, ok bool) {
	p.mu.Lock()
	if p.ctx.Err() != nil {
		p.mu.Unlock()
		p.answer(reply, "-NAK")
		return 0, false
	}
	defer p.mu.Unlock()
	p.next++
	p.held[p.next] = reply
	return p.next, true
}

// settle says what became of a message.
func (p *pull) settle(id uint64, kind device.OutcomeKind) {
	p.mu.Lock()
	reply, ok := p.held[id]
	delete(p.held, id)
	p.mu.Unlock()
	if !ok {
		return
	}
	verdict := "+ACK"
	switch kind {
	case device.Rejected:
		verdict = "+TERM"
	case device.Released, device.LockExpired:
		verdict = "-NAK"
	}
	p.answer(reply, verdict)
}

// answer tells the server. A lost answer costs another delivery.
func (p *pull) answer(reply, verdict string) {
	if err := p.b.rjs.Conn().Publish(reply, []byte(verdict)); err != nil {
		p.b.log.Debug("the outcome of a delivery is not told", "subscription", p.name, "error", err)
	}
}

// attend says of what readers hold that it is held, and calls each every time, with
// how often it has, until the reading ends.
func (p *pull) attend(each func(n int)) {
	ticker := time.NewTicker(min(pullTend, p.idle/6))
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-p.ctx.Done():
			<-p.done
			return
		case <-ticker.C:
		}
		p.mu.Lock()
		held, asking := maps.Clone(p.held), p.asking
		p.mu.Unlock()
		if !asking {
			p.stay()
		}
		for _, reply := range held {
			p.answer(reply, "+WPI")
		}
		each(n)
	}
}

// stay lets the server know of a reader that wants nothing now. It asks for what
// no message fits into, so none is delivered.
func (p *pull) stay() {
	if batch, err := p.consumer.FetchBytes(1, jetstream.FetchMaxWait(100*time.Millisecond)); err == nil {
		for range batch.Messages() { // there are none
		}
	}
}
