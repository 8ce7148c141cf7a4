package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// RemoteStore answers from the store of another node. It is a storage.Reader;
// beside its errors it answers Unavailable, saying where the store is or was.
type RemoteStore struct{ n *Node }

// RemoteStore asks whichever living node has a store.
func (n *Node) RemoteStore() *RemoteStore { return &RemoteStore{n} }

var _ storage.Reader = (*RemoteStore)(nil)

// Messages implements storage.Reader.
func (r *RemoteStore) Messages(ctx context.Context, q storage.MessageQuery) (storage.MessagePage, error) {
	return answered(ctx, r, "messages", q, storeAnswer.messages)
}

// After implements storage.Reader.
func (r *RemoteStore) After(ctx context.Context, q storage.AfterQuery) ([]device.Stored, error) {
	p, err := answered(ctx, r, "after", q, storeAnswer.messages)
	return p.Messages, err
}

// Points implements storage.Reader.
func (r *RemoteStore) Points(ctx context.Context, q storage.PointQuery) ([]storage.Point, error) {
	return answered(ctx, r, "points", q, storeAnswer.points)
}

// Buckets implements storage.Reader.
func (r *RemoteStore) Buckets(ctx context.Context, q storage.BucketQuery) ([]storage.Bucket, error) {
	return answered(ctx, r, "buckets", q, storeAnswer.buckets)
}

// Latest implements storage.Reader.
func (r *RemoteStore) Latest(ctx context.Context, q storage.LatestQuery) ([]storage.LatestValue, error) {
	return answered(ctx, r, "latest", q, storeAnswer.latest)
}

// Command implements storage.Reader.
func (r *RemoteStore) Command(ctx context.Context, tenant, devicename, id string) (device.CommandRecord, error) {
	p, err := answered(ctx, r, "command", commandName{tenant, devicename, id}, storeAnswer.commands)
	if err == nil && len(p.Records) != 1 {
		err = device.Errorf(device.NotFound, "there is no such command")
	}
	if err != nil {
		return device.CommandRecord{}, err
	}
	return p.Records[0], nil
}

// Commands implements storage.Reader.
func (r *RemoteStore) Commands(ctx context.Context, q storage.CommandQuery) (storage.CommandPage, error) {
	return answered(ctx, r, "commands", q, storeAnswer.commands)
}

// Events implements storage.Reader.
func (r *RemoteStore) Events(ctx context.Context, q storage.EventQuery) ([]device.StoredEvent, error) {
	return answered(ctx, r, "events", q, storeAnswer.events)
}

// Barrier waits until the store holds what was in the streams when it was called.
func (r *RemoteStore) Barrier(ctx context.Context) error {
	_, err := answered(ctx, r, "barrier", nil, func(storeAnswer) (struct{}, error) { return struct{}{}, nil })
	return err
}

func answered[T any](ctx context.Context, r *RemoteStore, op string, query any, read func(storeAnswer) (T, error)) (T, error) {
	var none T
	a, err := r.ask(ctx, op, query)
	if err != nil {
		return none, err
	}
	out, err := read(a)
	if err != nil {
		return none, fmt.Errorf("pipeline: answer of the store: %w", err)
	}
	return out, nil
}

// holder finds a store whose node lives.
func (r *RemoteStore) holder(ctx context.Context) (StoreRecord, error) {
	records, err := r.n.Stores(ctx)
	if err != nil {
		return StoreRecord{}, device.Wrap(device.Unavailable, "where the store is cannot be read now: try again", err)
	}
	var was []string
	for _, rec := range records {
		if rec.Incarnation != "" && r.n.Lives(rec.Incarnation) {
			return rec, nil
		}
		was = append(was, fmt.Sprintf("%q was on node %q", rec.Store, rec.Node))
	}
	slices.Sort(was)
	if len(was) == 0 {
		return StoreRecord{}, device.Errorf(device.Unavailable, "no node has a store: start one with the role persist")
	}
	return StoreRecord{}, device.Errorf(device.Unavailable, "no node with a store is up: %s", strings.Join(was, ", "))
}

func (r *RemoteStore) ask(ctx context.Context, op string, query any) (a storeAnswer, err error) {
	where, err := r.holder(ctx)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	deadline, _ := ctx.Deadline()
	question, err := json.Marshal(storeQuestion{Op: op, Left: time.Until(deadline), Query: query})
	if err != nil {
		return a, err
	}
	raw, err := r.n.b.gather(ctx, storeQuerySubject(where.Store), question)
	switch {
	case errors.Is(err, context.Canceled):
		return a, err
	case err != nil:
		return a, device.Wrap(device.Unavailable, fmt.Sprintf("the store %q on node %q does not answer: try again, or ask that node", where.Store, where.Node), err)
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, fmt.Errorf("pipeline: answer of the store: %w", err)
	}
	if a.Refused {
		return a, device.Errorf(a.Code, "%s", a.Error)
	}
	return a, nil
}

// gather asks and takes the parts of the answer.
func (b *Belt) gather(ctx context.Context, subject string, question []byte) (answer []byte, err error) {
	inbox := b.rnc.NewInbox()
	sub, err := b.rnc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = sub.Unsubscribe()
		if err != nil {
			_ = b.rnc.Publish(inbox+".cancel", nil)
		}
	}()
	if err := b.rnc.PublishRequest(subject, inbox, question); err != nil {
		return nil, err
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, err
		}
		if len(m.Data) == 0 && m.Header.Get("Status") != "" {
			return nil, nats.ErrNoResponders
		}
		var part storePart
		if err := json.Unmarshal(m.Data, &part); err != nil {
			return nil, err
		}
		if answer = append(answer, part.Data...); len(answer) > maxStoreAnswer {
			return nil, errors.New("the answer is larger than agreed")
		}
		if err := m.Respond(nil); err != nil {
			return nil, err
		}
		if part.Last {
			return answer, nil
		}
	}
}
