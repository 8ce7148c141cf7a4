package pipeline

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// Reading and removing dead letters. They are few and bounded in bytes, so what
// a query filters by, beside tenant and device, is looked for in the letters.

// deadScanBytes bounds what one call of DeadLetters reads.
const deadScanBytes = 32 << 20

// DeadLetters answers the oldest letters that match, at most q.Limit and as many
// as are found in deadScanBytes. next is what q.After must be to go on; zero when
// there are no more.
func (b *Belt) DeadLetters(ctx context.Context, q device.DeadLetterQuery) (letters []device.DeadLetter, next device.Position, err error) {
	epoch, err := b.deadEpoch(ctx)
	if err != nil {
		return nil, next, err
	}
	if q.After.Epoch != 0 && q.After.Epoch != epoch {
		return nil, next, device.Errorf(device.Invalid, "the page token is of dead letters that are gone: begin anew without it")
	}
	subject := deadLetterFilter(q.Tenant, q.Device)
	read, scanned := q.After.Seq, 0
	for {
		past := false
		n, err := b.deadBatch(ctx, subject, &read, &q, func(r raw) bool {
			scanned += len(r.body)
			l := readDeadLetter(r, epoch)
			switch {
			case !q.Until.IsZero() && !l.BuriedAt.Before(q.Until):
				past = true
				return false
			case matchesLetter(&q, &l):
				letters = append(letters, l)
			}
			next = l.Position
			return len(letters) < q.Limit
		})
		switch {
		case err != nil:
			return nil, next, device.Wrap(device.Unavailable, "the dead letters cannot be read now, try again", err)
		case n == 0 || past:
			return letters, device.Position{}, nil
		case len(letters) >= q.Limit || scanned > deadScanBytes:
			return letters, next, nil
		}
	}
}

// deadBatch reads some letters after a sequence, until take answers false.
func (b *Belt) deadBatch(ctx context.Context, subject string, read *uint64, q *device.DeadLetterQuery, take func(raw) bool) (n int, err error) {
	options := []jetstreamext.GetBatchOpt{jetstreamext.GetBatchSubject(subject), jetstreamext.GetBatchMaxBytes(readAheadBytes)}
	if *read == 0 && !q.Since.IsZero() {
		options = append(options, jetstreamext.GetBatchStartTime(q.Since))
	} else {
		options = append(options, jetstreamext.GetBatchSeq(*read+1))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	msgs, err := jetstreamext.GetBatch(ctx, b.js, DeadLetterStream, min(max(q.Limit, 1), subjectBatch), options...)
	if err != nil {
		return 0, err
	}
	for m, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if m.Sequence <= *read {
			continue
		}
		*read = m.Sequence
		n++
		if !take(raw{subject: m.Subject, header: m.Header, body: m.Data, seq: m.Sequence, stored: m.Time.UTC()}) {
			return n, nil
		}
	}
	return n, nil
}

func matchesLetter(q *device.DeadLetterQuery, l *device.DeadLetter) bool {
	return l.Device.Tenant == q.Tenant && (q.Device == "" || l.Device.Device == q.Device) &&
		(len(q.Codes) == 0 || slices.Contains(q.Codes, l.Code)) &&
		(q.Since.IsZero() || !l.BuriedAt.Before(q.Since))
}

var errNoLetter = device.Errorf(device.NotFound, "there is no such dead letter: it was removed, replayed, or pushed out by newer ones")

// DeadLetter answers one letter of a tenant, with all its raw bytes.
func (b *Belt) DeadLetter(ctx context.Context, tenant string, at device.Position) (l device.DeadLetter, err error) {
	s, err := b.js.Stream(ctx, DeadLetterStream)
	if err != nil {
		return l, device.Wrap(device.Unavailable, "the dead letters cannot be read now, try again", err)
	}
	epoch := streamEpoch(s.CachedInfo())
	if at.Epoch != epoch {
		return l, errNoLetter
	}
	m, err := s.GetMsg(ctx, at.Seq)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return l, errNoLetter
	case err != nil:
		return l, device.Wrap(device.Unavailable, "the dead letters cannot be read now, try again", err)
	}
	l = readDeadLetter(raw{subject: m.Subject, header: m.Header, body: m.Data, seq: m.Sequence, stored: m.Time.UTC()}, epoch)
	if l.Device.Tenant != tenant {
		return device.DeadLetter{}, errNoLetter
	}
	return l, nil
}

// RemoveDeadLetter removes one letter; one that is not there is no error.
func (b *Belt) RemoveDeadLetter(ctx context.Context, at device.Position) error {
	s, err := b.js.Stream(ctx, DeadLetterStream)
	if err == nil && streamEpoch(s.CachedInfo()) == at.Epoch {
		err = s.DeleteMsg(ctx, at.Seq)
	}
	if err == nil {
		return nil
	}
	if there, herr := b.holds(ctx, DeadLetterStream, at.Seq); herr == nil && !there {
		return nil
	}
	return device.Wrap(device.Unavailable, "the dead letter may not have been removed, try again", err)
}

func (b *Belt) deadEpoch(ctx context.Context) (uint64, error) {
	s, err := b.js.Stream(ctx, DeadLetterStream)
	if err != nil {
		return 0, device.Wrap(device.Unavailable, "the dead letters cannot be read now, try again", err)
	}
	return streamEpoch(s.CachedInfo()), nil
}

// readDeadLetter undoes deadLetter.item. What others may have published there is
// shown as far as it makes sense.
func readDeadLetter(r raw, epoch uint64) device.DeadLetter {
	l := device.DeadLetter{
		Position: device.Position{Epoch: epoch, Seq: r.seq}, BuriedAt: r.stored, Reason: r.header.Get(HeaderReason),
		Protocol: device.Protocol(r.header.Get(HeaderProtocol)), Address: r.header.Get(HeaderAddress),
		ContentType: r.header.Get(HeaderContentType), Stream: r.header.Get(HeaderStream), Raw: r.body,
	}
	if id, err := parseDeviceSubject(deadLetterRoot, r.subject); err == nil {
		l.Device = id
	}
	l.Code, _ = device.ParseCode(r.header.Get(HeaderCode))
	number := func(header string) uint64 {
		n, _ := strconv.ParseUint(r.header.Get(header), 10, 64) // absent is zero
		return n
	}
	l.At = device.Position{Epoch: number(HeaderEpoch), Seq: number(HeaderSequence)}
	l.Length = max(int(min(number(HeaderLength), 1<<40)), len(r.body))
	if m, err := unreadMessage(&l, r.header.Get(HeaderMessage)); err == nil {
		l.Message = m
	}
	return l
}

// unreadMessage is what a replay of the letter starts from.
func unreadMessage(l *device.DeadLetter, header string) (*device.Message, error) {
	var body []byte
	var err error
	switch {
	case l.Length > len(l.Raw):
		return nil, errors.New("the raw bytes are cut")
	case l.Stream == TelemetryStream:
		body = l.Raw
	case l.Stream != "" || header == "":
		return nil, errors.New("it is no telemetry")
	default:
		if body, err = base64.StdEncoding.DecodeString(header); err != nil {
			return nil, err
		}
	}
	m, err := devicepb.UnmarshalMessage(body)
	if err != nil {
		return nil, err
	}
	if m.ID() != l.Device {
		return nil, fmt.Errorf("the letter is of %s and its message of %s", l.Device, m.ID())
	}
	if l.Stream == "" {
		m.Payload = l.Raw
	}
	m.Measurements = nil
	return m, nil
}
