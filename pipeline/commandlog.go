package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// CommandLog is the COMMAND_EVENTS stream as the command room needs it: the
// transitions of a device's commands under its own subject, each appended only
// if it is the next.
type CommandLog struct{ b *Belt }

// CommandLog answers the belt's log of transitions.
func (b *Belt) CommandLog() CommandLog { return CommandLog{b} }

// Append adds e as its device's newest event, durably, and answers its
// sequence. Conflict: the device's newest event is not expect (0: there is none).
func (l CommandLog) Append(ctx context.Context, e *device.CommandEvent, expect uint64) (uint64, error) {
	seq, err := l.b.events.publishWait(ctx, item{
		subject: commandEventSubject(e.ID()), body: devicepb.MarshalCommandEvent(e), cas: true, lastSeq: expect,
	})
	switch {
	case errors.Is(err, ErrWrongLastSequence):
		return 0, device.Wrap(device.Conflict, "another event was stored first", err)
	case err == nil && seq == 0: // the caller reads the device's events anew, and finds it
		return 0, errUnknownOutcome
	}
	return seq, err
}

// Newest answers the device's newest event; one of sequence 0 when there is none.
// One that is not understood counts all the same: the next append goes behind it.
func (l CommandLog) Newest(ctx context.Context, id device.ID) (device.StoredEvent, error) {
	m, err := l.b.leaderGet(ctx, CommandEventStream, map[string]any{"last_by_subj": commandEventSubject(id)})
	if err != nil || m.Seq == 0 {
		return device.StoredEvent{}, err
	}
	return l.b.stored(CommandEventStream, raw{subject: m.Subject, header: m.Header, body: m.Data, seq: m.Seq}, decodeEvent), nil
}

// Events reads the device's events from a sequence on, oldest first.
func (l CommandLog) Events(ctx context.Context, id device.ID, from uint64) (all []device.StoredEvent, err error) {
	err = l.b.readSubjectFrom(ctx, CommandEventStream, commandEventSubject(id), max(from, 1)-1, func(r raw) {
		all = append(all, l.b.stored(CommandEventStream, r, decodeEvent))
	})
	return all, err
}

// Follow calls fn with every event after a sequence, in order, until ctx ends.
func (l CommandLog) Follow(ctx context.Context, after uint64, fn func(device.StoredEvent)) error {
	return l.b.read(ctx, CommandEventStream, after+1, nil, func(r raw) error {
		fn(l.b.stored(CommandEventStream, r, decodeEvent))
		return nil
	})
}

// Last is the sequence of the newest event; 0 when there is none.
func (l CommandLog) Last(ctx context.Context) (uint64, error) {
	return l.b.lastOf(ctx, CommandEventStream, commandEventRoot+everything)
}

// Purge removes every event up to and including a sequence.
func (l CommandLog) Purge(ctx context.Context, through uint64) error {
	s, err := l.b.js.Stream(ctx, CommandEventStream)
	if err == nil {
		err = l.b.purge(ctx, s, through+1)
	}
	if err != nil {
		return fmt.Errorf("pipeline: purge events: %w", err)
	}
	return nil
}
