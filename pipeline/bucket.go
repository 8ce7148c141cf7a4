package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
)

// Registry keeps the registry's records in the bucket DEVICES, one key a
// principal. It is a registry.Store, which says what the methods promise.
type Registry struct {
	js jetstream.JetStream
	kv jetstream.KeyValue
}

// Registry opens the bucket.
func (b *Belt) Registry(ctx context.Context) (*Registry, error) {
	kv, err := b.js.KeyValue(ctx, DeviceBucket)
	if err != nil {
		return nil, fmt.Errorf("pipeline: bucket %s: %w", DeviceBucket, err)
	}
	return &Registry{js: b.js, kv: kv}, nil
}

// Get answers a record and its revision, or NotFound.
func (r *Registry) Get(ctx context.Context, id device.ID) ([]byte, uint64, error) {
	e, err := r.kv.Get(ctx, deviceKey(id))
	if err != nil {
		return nil, 0, bucketError(id, err)
	}
	return e.Value(), e.Revision(), nil
}

// Create stores a record that must not exist.
func (r *Registry) Create(ctx context.Context, id device.ID, value []byte) (uint64, error) {
	rev, err := r.kv.Create(ctx, deviceKey(id), value)
	return rev, bucketError(id, err)
}

// Update replaces a record whose revision is still the given one.
func (r *Registry) Update(ctx context.Context, id device.ID, value []byte, revision uint64) (uint64, error) {
	if revision == 0 { // to the bucket this would mean "create"
		return 0, conflict(id, nil)
	}
	rev, err := r.kv.Update(ctx, deviceKey(id), value, revision)
	return rev, bucketError(id, err)
}

// Delete removes a record whose revision is still the given one.
func (r *Registry) Delete(ctx context.Context, id device.ID, revision uint64) error {
	e, err := r.kv.Get(ctx, deviceKey(id))
	if errors.Is(err, jetstream.ErrKeyNotFound) || err == nil && e.Revision() != revision {
		return conflict(id, err)
	}
	if err != nil {
		return bucketError(id, err)
	}
	return bucketError(id, r.kv.Delete(ctx, deviceKey(id), jetstream.LastRevision(revision)))
}

// List calls each for the records of a tenant, in byte order of the names.
// Keys are listed without their values, so a page costs the tenant's keys and
// its own records.
func (r *Registry) List(ctx context.Context, tenant, after string, limit int, each func(device.ID, []byte, uint64) error) error {
	s, err := r.js.Stream(ctx, "KV_"+DeviceBucket)
	if err != nil {
		return fmt.Errorf("pipeline: list devices: %w", err)
	}
	root := "$KV." + DeviceBucket + "."
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(root+tenantKey(tenant)+"*"))
	if err != nil {
		return fmt.Errorf("pipeline: list devices: %w", err)
	}
	var ids []device.ID
	for subject := range info.State.Subjects {
		if id, err := parseDeviceKey(strings.TrimPrefix(subject, root)); err == nil && id.Device > after {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b device.ID) int { return cmp.Compare(a.Device, b.Device) })
	for _, id := range ids {
		if limit <= 0 {
			break
		}
		value, rev, err := r.Get(ctx, id)
		if device.CodeOf(err) == device.NotFound {
			continue // deleted; its mark is still there
		}
		if err != nil {
			return err
		}
		if err := each(id, value, rev); err != nil {
			return err
		}
		limit--
	}
	return ctx.Err()
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

// bucketError turns the bucket's answers into the words of the contract.
func bucketError(id device.ID, err error) error {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrKeyDeleted):
		return device.Wrap(device.NotFound, fmt.Sprintf("there is no record of %s", id), err)
	case errors.Is(err, jetstream.ErrKeyExists):
		return conflict(id, err)
	case errors.As(err, &api) && (api.ErrorCode == codeWrongLastSequence || api.ErrorCode == codeWrongLastSequenceConstant):
		return conflict(id, err)
	}
	return fmt.Errorf("pipeline: record of %s: %w", id, err)
}

func conflict(id device.ID, cause error) error {
	return device.Wrap(device.Conflict, fmt.Sprintf("the record of %s was changed by somebody else", id), cause)
}
