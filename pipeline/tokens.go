package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
)

// Tokens keeps the records of API tokens in the bucket TOKENS, one key each. It
// is a token.Store, which says what the methods promise.
type Tokens struct{ kv jetstream.KeyValue }

// Tokens opens the bucket.
func (b *Belt) Tokens(ctx context.Context) (*Tokens, error) {
	kv, err := b.js.KeyValue(ctx, TokenBucket)
	if err != nil {
		return nil, fmt.Errorf("pipeline: bucket %s: %w", TokenBucket, err)
	}
	return &Tokens{kv}, nil
}

// Create stores a record that must not exist.
func (t *Tokens) Create(ctx context.Context, tenant, name string, value []byte) error {
	_, err := t.kv.Create(ctx, tokenKey(tenant, name), value)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return device.Wrap(device.Conflict, "there is such a record", err)
	}
	return err
}

// Delete removes a record.
func (t *Tokens) Delete(ctx context.Context, tenant, name string) error {
	return t.kv.Delete(ctx, tokenKey(tenant, name))
}

// Watch reports every record and then every change.
func (t *Tokens) Watch(ctx context.Context, ready func(), changed func(tenant, name string, value []byte)) error {
	w, err := t.kv.WatchAll(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("pipeline: watch tokens: %w", err)
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Updates():
			switch {
			case !ok && ctx.Err() != nil:
				return nil
			case !ok:
				return errors.New("pipeline: watching tokens ended, changes may have been missed")
			case e == nil: // after what there was
				ready()
				continue
			}
			tenant, name, err := parseTokenKey(e.Key())
			if err != nil {
				continue
			}
			var value []byte
			if e.Operation() == jetstream.KeyValuePut {
				value = append([]byte{}, e.Value()...)
			}
			changed(tenant, name, value)
		}
	}
}
