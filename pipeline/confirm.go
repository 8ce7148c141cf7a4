package pipeline

import (
	"context"
	"errors"
	"strconv"
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
		err := p.believed()
		var seq uint64
		var id string
		if err == nil {
			seq, id, err = p.lastOf(ctx, it.subject)
		}
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

// believed answers an error while what the stream says it holds may not be on the
// disk. A stream that failed to write still tells of what it could not write, calls
// a repeat of it a duplicate, and completes or loses it when it is restarted. A look
// that was under way when we asked may be older than the failure, so it is two looks.
func (p *publisher) believed() error {
	if p.b.opts.Server == nil {
		return nil
	}
	if err := p.b.opts.Server.Healthy(); err != nil {
		return err
	}
	return p.b.opts.Server.Healthy()
}

// findBatch looks for a batch, from the last sequence we know was stored before it:
// where its first message is and how many follow one another from there; 0 and 0 when
// it is not in the stream, an error when that could not be learned. A server of somebody
// else's keeps what it needs to complete a batch: what it has begun it has.
func (p *publisher) findBatch(g *group) (first uint64, n int, err error) {
	if err := p.believed(); err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithTimeout(p.ctx, time.Second)
	defer cancel()
	s, err := p.b.js.Stream(ctx, p.stream)
	if err != nil {
		return 0, 0, err
	}
	from, last := max(p.lastOK.Load()+1, s.CachedInfo().State.FirstSeq), s.CachedInfo().State.LastSeq
	for seq := from; seq < from+confirmScan && seq <= last; seq++ {
		is, err := p.isOf(ctx, s, g, seq, 1)
		if err != nil {
			return 0, 0, err
		}
		if is && p.b.opts.Server == nil {
			return seq, len(g.items), nil
		}
		if is {
			n, err := p.follow(ctx, s, g, seq, last)
			return seq, n, err
		}
	}
	return 0, 0, nil
}

// follow counts the messages of a batch that begins at first. The last of them is
// looked for at its place; when it is not there, the end is found by halves.
func (p *publisher) follow(ctx context.Context, s jetstream.Stream, g *group, first, last uint64) (int, error) {
	stored, end := 1, min(len(g.items), int(last-first)+1) // stored are there, after end is none
	for try := end; stored < end; try = (stored + end + 1) / 2 {
		is, err := p.isOf(ctx, s, g, first+uint64(try)-1, try)
		if err != nil {
			return 0, err
		}
		if is {
			stored = try
		} else {
			end = try - 1
		}
	}
	return stored, nil
}

// isOf reports whether the message at a sequence is the nth of some try of a batch,
// counted from 1.
func (p *publisher) isOf(ctx context.Context, s jetstream.Stream, g *group, seq uint64, n int) (bool, error) {
	m, err := s.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	id, is := strings.CutPrefix(m.Header.Get(jetstreamext.BatchIDHeader), g.ids[0]+".")
	return is && id != "" && m.Header.Get(jetstreamext.BatchSeqHeader) == strconv.Itoa(n), nil
}
