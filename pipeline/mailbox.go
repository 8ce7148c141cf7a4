package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// anyPlace as Put's expect means: after whatever is there.
const anyPlace = ^uint64(0)

// Mailbox is the COMMANDS stream as the command room needs it: the requests of
// a device under its own subject, removed when their life is over.
type Mailbox struct {
	b *Belt

	mu      sync.Mutex
	removed uint64 // everything before it is gone
}

// Mailbox answers the belt's mailbox.
func (b *Belt) Mailbox() *Mailbox { return &Mailbox{b: b} }

// Put stores c durably and answers its sequence. With expect other than the
// largest uint64 it answers Conflict unless the device's newest request has
// that sequence (0: there is none).
func (m *Mailbox) Put(ctx context.Context, c *device.Command, expect uint64) (uint64, error) {
	seq, err := m.b.commands.publishWait(ctx, item{
		subject: commandSubject(c.ForDevice()), body: devicepb.MarshalCommand(c),
		cas: expect != anyPlace, lastSeq: expect,
	})
	if errors.Is(err, ErrWrongLastSequence) {
		return 0, device.Wrap(device.Conflict, "another command was stored first", err)
	}
	if err != nil || seq != 0 {
		return seq, err
	}
	stored, err := m.Requests(ctx, c.ForDevice()) // it is stored, and only where is not known
	for _, r := range stored {
		if r.Command == c.ID {
			return r.Position.Seq, nil
		}
	}
	return 0, errors.Join(errUnknownOutcome, err)
}

// Requests reads the device's requests, oldest first.
func (m *Mailbox) Requests(ctx context.Context, id device.ID) (all []device.StoredEvent, err error) {
	err = m.b.readSubject(ctx, CommandStream, commandSubject(id), func(r raw) {
		if ev := m.b.stored(CommandStream, r, decodeCommand); ev.Request != nil {
			all = append(all, ev)
		}
	})
	return all, err
}

// Follow calls fn with every request after a sequence, in order, until ctx
// ends. What is not a request has none, and only tells how far the reader is.
func (m *Mailbox) Follow(ctx context.Context, after uint64, fn func(device.StoredEvent)) error {
	return m.b.read(ctx, CommandStream, after+1, nil, func(r raw) error {
		fn(m.b.stored(CommandStream, r, decodeCommand))
		return nil
	})
}

// Last is the sequence of the newest request not removed; 0 when there is none.
func (m *Mailbox) Last(ctx context.Context) (uint64, error) {
	return m.b.lastOf(ctx, CommandStream, commandRoot+everything)
}

// Remove takes requests away: all before a sequence, in one step, and those
// listed, one by one. What is gone already is no error.
func (m *Mailbox) Remove(ctx context.Context, before uint64, seqs []uint64) error {
	s, err := m.b.js.Stream(ctx, CommandStream)
	if err != nil {
		return fmt.Errorf("pipeline: remove requests: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if first := s.CachedInfo().State.FirstSeq; before > max(first, m.removed) {
		if err := m.b.purge(ctx, s, before); err != nil {
			return fmt.Errorf("pipeline: remove requests: %w", err)
		}
		m.removed = before
	}
	for _, seq := range seqs {
		if err := s.DeleteMsg(ctx, seq); err != nil {
			// The server has several ways to say that it is not there.
			if has, herr := m.b.holds(ctx, CommandStream, seq); has || herr != nil {
				return fmt.Errorf("pipeline: remove request %d: %w", seq, errors.Join(err, herr))
			}
		}
	}
	return nil
}

// stored decodes a message as the persister does. One that is not understood
// keeps its place, and says nothing: the persister buries it.
func (b *Belt) stored(stream string, r raw, decode func(raw, *entry) error) device.StoredEvent {
	ev := device.StoredEvent{Position: device.Position{Seq: r.seq}, StoredAt: r.stored}
	var e entry
	if err := decode(r, &e); err != nil {
		b.log.Warn("message not understood", "stream", stream, "seq", r.seq, "error", err)
		return ev
	}
	ev.CommandEvent = *e.event
	return ev
}
