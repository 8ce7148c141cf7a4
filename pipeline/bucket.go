package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
)

// Registry keeps the registry's records in the bucket DEVICES, one key each. It
// is a registry.Store, which says what the methods promise. Writes go through a
// publisher of their own, so that many at once are committed as one.
type Registry struct {
	b  *Belt
	kv jetstream.KeyValue
}

// Registry opens the bucket.
func (b *Belt) Registry(ctx context.Context) (*Registry, error) {
	kv, err := b.rjs.KeyValue(ctx, DeviceBucket)
	if err != nil {
		return nil, fmt.Errorf("pipeline: bucket %s: %w", DeviceBucket, err)
	}
	return &Registry{b: b, kv: kv}, nil
}

// kvOperation marks a record that was deleted, in the words of NATS's buckets.
const kvOperation = "KV-Operation"

// marker reports whether a message says that its record was deleted.
func marker(h nats.Header) bool { return h.Get(kvOperation) != "" }

// Get answers a record and its revision, or NotFound.
func (r *Registry) Get(ctx context.Context, id device.ID) ([]byte, uint64, error) {
	m, err := r.b.leaderGet(ctx, DeviceStream, map[string]any{"last_by_subj": deviceRecordSubject(id)})
	if err != nil {
		return nil, 0, err
	}
	if m.Seq == 0 || marker(m.Header) {
		return nil, 0, device.Errorf(device.NotFound, "there is no record of %s", id)
	}
	return m.Data, m.Seq, nil
}

// Create stores a record that must not exist.
func (r *Registry) Create(ctx context.Context, id device.ID, value []byte) (uint64, error) {
	rev, err := r.write(ctx, id, nil, value, 0)
	if device.CodeOf(err) != device.Conflict {
		return rev, err
	}
	// Perhaps only the mark of a deleted one is in the way.
	m, e := r.b.leaderGet(ctx, DeviceStream, map[string]any{"last_by_subj": deviceRecordSubject(id)})
	switch {
	case e != nil:
		return 0, e
	case m.Seq == 0 || !marker(m.Header):
		return 0, err
	}
	return r.write(ctx, id, nil, value, m.Seq)
}

// Update replaces a record whose revision is still the given one.
func (r *Registry) Update(ctx context.Context, id device.ID, value []byte, revision uint64) (uint64, error) {
	if revision == 0 { // to the stream this would mean "create"
		return 0, conflict(id, nil)
	}
	return r.write(ctx, id, nil, value, revision)
}

// Delete removes a record whose revision is still the given one.
func (r *Registry) Delete(ctx context.Context, id device.ID, revision uint64) error {
	if revision == 0 {
		return conflict(id, nil)
	}
	_, err := r.write(ctx, id, nats.Header{kvOperation: {"DEL"}}, nil, revision)
	return err
}

// write commits one record if the last revision under its key is expect.
func (r *Registry) write(ctx context.Context, id device.ID, h nats.Header, value []byte, expect uint64) (uint64, error) {
	rev, err := r.b.records.publishWait(ctx, item{
		subject: deviceRecordSubject(id), header: h, body: bytes.Clone(value), cas: true, lastSeq: expect,
	})
	switch {
	case errors.Is(err, ErrWrongLastSequence):
		return 0, conflict(id, err)
	case err == nil && rev == 0: // committed, and only the sequence is not known
		m, err := r.b.leaderGet(ctx, DeviceStream, map[string]any{"last_by_subj": deviceRecordSubject(id)})
		if err == nil && !bytes.Equal(m.Data, value) {
			err = conflict(id, nil)
		}
		return m.Seq, err
	}
	return rev, err
}

// Watch reports every change from the moment it calls ready.
func (r *Registry) Watch(ctx context.Context, ready func(), changed func(device.ID, []byte, uint64)) error {
	w, err := r.kv.WatchAll(ctx, jetstream.UpdatesOnly())
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("pipeline: watch devices: %w", err)
	}
	defer func() { _ = w.Stop() }()
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Updates():
			if !ok {
				if ctx.Err() != nil {
					return nil
				}
				return errors.New("pipeline: watching devices ended, changes may have been missed")
			}
			if e == nil {
				continue
			}
			id, err := parseDeviceKey(e.Key())
			if err != nil {
				continue
			}
			value := e.Value()
			if e.Operation() != jetstream.KeyValuePut {
				value = nil
			} else if value == nil {
				value = []byte{}
			}
			changed(id, value, e.Revision())
		}
	}
}

func conflict(id device.ID, cause error) error {
	return device.Wrap(device.Conflict, fmt.Sprintf("the record of %s was changed by somebody else", id), cause)
}
