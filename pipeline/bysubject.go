package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// Reading what a stream holds of one subject, without a consumer, and never
// less than was stored when the reading began.

const (
	subjectBatch = 1000                  // messages asked for at a time
	behindWait   = 10 * time.Millisecond // for a replica to get there
)

// lastOf asks the stream's leader for the newest message of a subject or
// filter; 0 when there is none.
func (b *Belt) lastOf(ctx context.Context, stream, subject string) (uint64, error) {
	m, err := b.leaderGet(ctx, stream, map[string]any{"last_by_subj": subject})
	return m.Seq, err
}

// holds asks the stream's leader whether it has a message.
func (b *Belt) holds(ctx context.Context, stream string, seq uint64) (bool, error) {
	m, err := b.leaderGet(ctx, stream, map[string]any{"seq": seq})
	return m.Seq != 0, err
}

// leaderMessage is a message as the leader answers it; Seq is 0 for none.
type leaderMessage struct {
	Subject string
	Seq     uint64
	Header  nats.Header
	Data    []byte
}

// leaderGet answers one message and is never behind. It does not use the
// client's stream handle, which would ask any replica or mirror; our own server
// is the only one there is, and is asked the short way.
func (b *Belt) leaderGet(ctx context.Context, stream string, which map[string]any) (m leaderMessage, err error) {
	request, err := json.Marshal(which)
	if err != nil {
		return m, err
	}
	if b.opts.Server != nil {
		m, err = b.directGet(ctx, stream, request)
	} else {
		m, err = b.apiGet(ctx, stream, request)
	}
	if err != nil {
		return m, fmt.Errorf("pipeline: read a message of %s: %w", stream, err)
	}
	return m, nil
}

func (b *Belt) apiGet(ctx context.Context, stream string, request []byte) (m leaderMessage, err error) {
	reply, err := b.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, request)
	if err != nil {
		return m, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject string `json:"subject"`
			Seq     uint64 `json:"seq"`
			Header  []byte `json:"hdrs"`
			Data    []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return m, err
	}
	switch {
	case answer.Error == nil:
		m = leaderMessage{Subject: answer.Message.Subject, Seq: answer.Message.Seq, Data: answer.Message.Data}
		if len(answer.Message.Header) > 0 {
			m.Header, _ = nats.DecodeHeadersMsg(answer.Message.Header) // what cannot be read is none
		}
		return m, nil
	case answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return m, nil
	}
	return m, answer.Error
}

func (b *Belt) directGet(ctx context.Context, stream string, request []byte) (m leaderMessage, err error) {
	reply, err := b.nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream, request)
	if err != nil {
		return m, err
	}
	switch status := reply.Header.Get("Status"); status {
	case "":
	case "404":
		return m, nil
	default:
		return m, fmt.Errorf("NATS answered %s %s", status, reply.Header.Get("Description"))
	}
	seq, err := strconv.ParseUint(reply.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return m, fmt.Errorf("NATS answered a message without its place: %w", err)
	}
	return leaderMessage{Subject: reply.Header.Get(jetstream.SubjectHeader), Seq: seq, Header: reply.Header, Data: reply.Data}, nil
}

// readSubject reads all messages of one subject, oldest first: at least those
// the leader had when it was called. The messages come from any replica, which
// has everything up to the newest it has.
func (b *Belt) readSubject(ctx context.Context, stream, subject string, take func(raw)) error {
	return b.readSubjectFrom(ctx, stream, subject, 0, take)
}

// readSubjectFrom is readSubject for what stands after a sequence.
func (b *Belt) readSubjectFrom(ctx context.Context, stream, subject string, read uint64, take func(raw)) error {
	for {
		last, err := b.lastOf(ctx, stream, subject)
		if err != nil || last <= read {
			return err
		}
		for {
			n, err := b.readBatch(ctx, stream, subject, &read, take)
			if err != nil {
				return fmt.Errorf("pipeline: read %s of %s: %w", subject, stream, err)
			}
			if read >= last {
				return nil
			}
			if n == 0 { // the replica is behind, or what was the last is removed
				break
			}
		}
		select {
		case <-time.After(behindWait):
		case <-ctx.Done():
			return fmt.Errorf("pipeline: read %s of %s: %w", subject, stream, ctx.Err())
		}
	}
}

func (b *Belt) readBatch(ctx context.Context, stream, subject string, read *uint64, take func(raw)) (n int, err error) {
	msgs, err := jetstreamext.GetBatch(ctx, b.js, stream, subjectBatch, jetstreamext.GetBatchSubject(subject),
		jetstreamext.GetBatchSeq(*read+1), jetstreamext.GetBatchMaxBytes(readAheadBytes))
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
		take(raw{subject: m.Subject, header: m.Header, body: m.Data, seq: m.Sequence, stored: m.Time.UTC()})
	}
	return n, nil
}
