package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
)

// Batches keeps the records and parts of command batches in the bucket BATCHES. It
// is a batch.Store, which says what the methods promise.
type Batches struct{ kv jetstream.KeyValue }

// Batches opens the bucket.
func (b *Belt) Batches(ctx context.Context) (*Batches, error) {
	kv, err := b.js.KeyValue(ctx, BatchBucket)
	if err != nil {
		return nil, fmt.Errorf("pipeline: bucket %s: %w", BatchBucket, err)
	}
	return &Batches{kv}, nil
}

// batchKey is tenant.name of a record, tenant.name.number of a part.
func batchKey(tenant, name string, part int) string {
	k := tokenKey(tenant, name)
	if part >= 0 {
		k += "." + strconv.Itoa(part)
	}
	return k
}

// Put replaces a value whose revision is still the given one.
func (s *Batches) Put(ctx context.Context, tenant, name string, part int, value []byte, revision uint64) (uint64, error) {
	k := batchKey(tenant, name, part)
	var rev uint64
	var err error
	if revision == 0 {
		rev, err = s.kv.Create(ctx, k, value)
	} else {
		rev, err = s.kv.Update(ctx, k, value, revision)
	}
	if errors.Is(err, jetstream.ErrKeyExists) || isWrongLast(err) {
		return 0, device.Wrap(device.Conflict, "the record was changed by somebody else", err)
	}
	return rev, err
}

// Get answers a value and its revision.
func (s *Batches) Get(ctx context.Context, tenant, name string, part int) ([]byte, uint64, error) {
	e, err := s.kv.Get(ctx, batchKey(tenant, name, part))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, device.Wrap(device.NotFound, "there is no such batch", err)
	}
	if err != nil {
		return nil, 0, err
	}
	return e.Value(), e.Revision(), nil
}

// Remove takes a value away, and its bytes.
func (s *Batches) Remove(ctx context.Context, tenant, name string, part int) error {
	return s.kv.Purge(ctx, batchKey(tenant, name, part))
}

// Watch reports every record and then every change.
func (s *Batches) Watch(ctx context.Context, ready func(), changed func(tenant, id string, value []byte, revision uint64)) error {
	w, err := s.kv.Watch(ctx, "*.*")
	if err != nil {
		return endOf(ctx, fmt.Errorf("pipeline: watch batches: %w", err))
	}
	defer func() { _ = w.Stop() }()
	for {
		e, open, err := nextUpdate(ctx, w)
		switch {
		case err != nil || !open:
			return err
		case e == nil:
			ready()
			continue
		}
		tenant, id, err := parseTokenKey(e.Key())
		if err != nil {
			continue
		}
		changed(tenant, id, valueOf(e), e.Revision())
	}
}

// Follow reports one record and the parts of a name, and then every change.
func (s *Batches) Follow(ctx context.Context, tenant, id, parts string, changed func(part int, value []byte) error) error {
	record := batchKey(tenant, id, -1)
	prefix := batchKey(tenant, parts, -1) + "."
	w, err := s.kv.WatchFiltered(ctx, []string{record, prefix + "*"})
	if err != nil {
		return fmt.Errorf("pipeline: watch a batch: %w", err)
	}
	defer func() { _ = w.Stop() }()
	for {
		e, open, err := nextUpdate(ctx, w)
		switch {
		case err != nil:
			return err
		case !open:
			return ctx.Err()
		case e == nil:
			continue
		}
		value, part := valueOf(e), -1
		if e.Key() != record {
			if part, err = strconv.Atoi(e.Key()[len(prefix):]); err != nil {
				continue
			}
		}
		if value == nil {
			return device.Errorf(device.NotFound, "the batch was forgotten")
		}
		if err := changed(part, value); err != nil {
			return err
		}
	}
}

// nextUpdate waits for a watcher's next; not open means that ctx has ended.
func nextUpdate(ctx context.Context, w jetstream.KeyWatcher) (e jetstream.KeyValueEntry, open bool, err error) {
	select {
	case <-ctx.Done():
		return nil, false, nil
	case e, open = <-w.Updates():
	}
	if !open {
		return nil, false, endOf(ctx, errors.New("pipeline: watching batches ended, changes may have been missed"))
	}
	return e, true, nil
}

// endOf is why a watch ended, unless it was ctx.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// valueOf is nil for what was removed.
func valueOf(e jetstream.KeyValueEntry) []byte {
	if e.Operation() != jetstream.KeyValuePut {
		return nil
	}
	return append([]byte{}, e.Value()...)
}
