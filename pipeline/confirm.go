package pipeline

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// errUnknownOutcome is the cause of Unavailable when the stream did not answer.
var errUnknownOutcome = errors.New("the stream did not answer in time")

// confirmScan bounds how far findBatch looks.
const confirmScan = 10_000

// confirm settles compare-and-set singles that were sent more than once and
// refused: the server compares sequences before it looks at message ids, so
// our own first try, committed with its reply lost, looks like somebody else's
// message. The last message of the subject tells the two apart.
func (p *publisher) confirm(g *group) {
	for i := range g.items {
		it := &g.items[i]
		if !it.cas || g.isKnown(i) {
			continue
		}
		ctx, cancel := context.WithTimeout(p.ctx, p.b.opts.AckTimeout)
		seq, id, err := p.lastOf(ctx, it.subject)
		cancel()
		var r reply
		switch {
		case err != nil:
			continue // not known yet
		case id == g.ids[i]:
			r = reply{seq: seq}
		case seq != it.lastSeq || it.casOn != "":
			r = reply{code: codeWrongLastSequence, text: "wrong last sequence"}
		default:
			continue // not stored and not refused: send it again
		}
		g.mu.Lock()
		g.known[i] = true
		g.mu.Unlock()
		p.answer(it, r)
	}
}

// lastOf answers the last sequence of a subject and its message id, 0 and ""
// when there is none.
func (p *publisher) lastOf(ctx context.Context, subject string) (seq uint64, id string, err error) {
	s, err := p.b.js.Stream(ctx, p.stream)
	if err != nil {
		return 0, "", err
	}
	m, err := s.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", err
	}
	return m.Sequence, m.Header.Get(jetstream.MsgIDHeader), nil
}

// findBatch looks for the first message of a batch, from the last sequence we
// know was stored before it; 0 when it is not in the stream, an error when that
// could not be learned.
func (p *publisher) findBatch(g *group) (uint64, error) {
	ctx, cancel := context.WithTimeout(p.ctx, time.Second)
	defer cancel()
	s, err := p.b.js.Stream(ctx, p.stream)
	if err != nil {
		return 0, err
	}
	from := max(p.lastOK.Load()+1, s.CachedInfo().State.FirstSeq)
	for seq := from; seq < from+confirmScan && seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if strings.HasPrefix(m.Header.Get(jetstreamext.BatchIDHeader), g.ids[0]+".") && m.Header.Get(jetstream.MsgIDHeader) == g.ids[0] {
			return seq, nil
		}
	}
	return 0, nil
}
