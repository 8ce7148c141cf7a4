package pipeline

import (
	"context"
	"errors"
	"slices"
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
	var unknown []int
	for i := range g.items {
		if g.items[i].cas && !g.isKnown(i) {
			unknown = append(unknown, i)
		}
	}
	if unknown == nil {
		return
	}
	word, err := p.word()
	if err != nil {
		return // not known yet
	}
	replies := make([]reply, len(g.items))
	unknown = slices.DeleteFunc(unknown, func(i int) (unread bool) {
		replies[i], unread = p.ours(g, i)
		return unread
	})
	if again, err := p.word(); err != nil || again != word {
		return
	}
	for _, i := range unknown {
		g.mu.Lock()
		g.known[i] = true
		g.mu.Unlock()
		p.answer(&g.items[i], replies[i])
	}
}

// ours reads whether a compare-and-set single is in the stream, or another message in
// its place. It stays unknown when that could not be read, or neither is there.
func (p *publisher) ours(g *group, i int) (r reply, unknown bool) {
	ctx, cancel := context.WithTimeout(p.ctx, p.b.opts.AckTimeout)
	defer cancel()
	it := &g.items[i]
	seq, id, err := p.lastOf(ctx, it.subject)
	switch {
	case err != nil:
		return reply{}, true
	case id == g.ids[i]:
		return reply{seq: seq}, false
	case seq != it.lastSeq || it.casOn != "":
		return reply{code: codeWrongLastSequence, text: "wrong last sequence"}, false
	}
	return reply{}, true // not stored and not refused: send it again
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

// word answers an error while what the stream says it holds may not be on the disk. A
// stream that failed to write still tells of what it could not write, calls a repeat of
// it a duplicate, and completes or loses it when it is restarted. What was heard between
// two answers that are the same was said by a stream that is well, and not by one that
// was restarted meanwhile. Of our own server a look that was under way when we asked may
// be older than the failure, so it is two looks.
func (p *publisher) word() (string, error) {
	server := p.b.opts.Server
	if server == nil {
		return p.b.verifier.word(p.ctx, p.stream)
	}
	life := strconv.FormatUint(server.Restarts(), 10)
	if err := server.Healthy(); err != nil {
		return life, err
	}
	return life, server.Healthy()
}

// findBatch looks for a batch, from the last sequence we know was stored before it:
// where its first message is and how many follow one another from there; 0 and 0 when
// it is not in the stream, an error when that could not be learned. A server of somebody
// else's keeps what it needs to complete a batch: what it has begun it has.
func (p *publisher) findBatch(g *group) (first uint64, n int, err error) {
	g.before = g.word
	if g.word, err = p.word(); err != nil {
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
