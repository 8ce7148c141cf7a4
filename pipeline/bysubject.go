package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// Reading what a stream holds of one subject, without a consumer, and never
// less than was stored when the reading began.

const (
	readBatch      = 1000
	readBatchBytes = 8 << 20
	behindWait     = 10 * time.Millisecond // for a replica to get there
)

// lastOf asks the stream's leader for the newest message of a subject or
// filter; 0 when there is none.
func (b *Belt) lastOf(ctx context.Context, stream, subject string) (uint64, error) {
	return b.leaderGet(ctx, stream, map[string]any{"last_by_subj": subject})
}

// holds asks the stream's leader whether it has a message.
func (b *Belt) holds(ctx context.Context, stream string, seq uint64) (bool, error) {
	found, err := b.leaderGet(ctx, stream, map[string]any{"seq": seq})
	return found != 0, err
}

// leaderGet does not use the client's stream handle, which would ask any replica.
func (b *Belt) leaderGet(ctx context.Context, stream string, which map[string]any) (uint64, error) {
	request, err := json.Marshal(which)
	if err != nil {
		return 0, err
	}
	m, err := b.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, request)
	if err != nil {
		return 0, fmt.Errorf("pipeline: read a message of %s: %w", stream, err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Seq uint64 `json:"seq"`
		} `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return 0, fmt.Errorf("pipeline: read a message of %s: %w", stream, err)
	}
	switch {
	case answer.Error == nil:
		return answer.Message.Seq, nil
	case answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return 0, nil
	}
	return 0, fmt.Errorf("pipeline: read a message of %s: %w", stream, answer.Error)
}

// readSubject reads all messages of one subject, oldest first: at least those
// the leader had when it was called. The messages come from any replica, which
// has everything up to the newest it has.
func (b *Belt) readSubject(ctx context.Context, stream, subject string, take func(*jetstream.RawStreamMsg)) error {
	read := uint64(0)
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

func (b *Belt) readBatch(ctx context.Context, stream, subject string, read *uint64, take func(*jetstream.RawStreamMsg)) (n int, err error) {
	msgs, err := jetstreamext.GetBatch(ctx, b.js, stream, readBatch, jetstreamext.GetBatchSubject(subject),
		jetstreamext.GetBatchSeq(*read+1), jetstreamext.GetBatchMaxBytes(readBatchBytes))
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
		take(m)
	}
	return n, nil
}

// followStream calls take with every message of a stream after a sequence, in
// order, until ctx ends or reading fails. It keeps one ordered consumer, which
// the client takes up again where it was when the connection was lost.
func (b *Belt) followStream(ctx context.Context, stream string, after uint64, take func(jetstream.Msg, *jetstream.MsgMetadata)) error {
	c, err := b.rjs.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
	})
	if err != nil {
		return fmt.Errorf("pipeline: follow %s: %w", stream, err)
	}
	msgs, err := c.Messages()
	if err != nil {
		return fmt.Errorf("pipeline: follow %s: %w", stream, err)
	}
	defer msgs.Stop()
	defer context.AfterFunc(ctx, msgs.Stop)()
	for {
		m, err := msgs.Next()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("pipeline: follow %s: %w", stream, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("pipeline: follow %s: %w", stream, err)
		}
		take(m, meta)
	}
}
