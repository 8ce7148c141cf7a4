package registry

import (
	"context"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// MaxListLimit bounds one page of List.
const MaxListLimit = 1000

// updateAttempts bounds how often a change is tried when others change the
// same record at the same moment.
const updateAttempts = 8

// Add registers a device and answers it with its secret, which is shown this
// once. Conflict when the name is taken.
func (r *Registry) Add(ctx context.Context, id device.ID) (device.Registration, string, error) {
	if err := id.Validate(); err != nil {
		return device.Registration{}, "", err
	}
	now, secret := timestamp(), newSecret()
	rec := &record{Tenant: id.Tenant, Device: id.Device, Kind: device.KindDevice, Created: now, Updated: now}
	rec.setSecret(hashSecret(r.cfg.Pepper, secret), now)
	value, err := rec.encode()
	if err != nil {
		return device.Registration{}, "", err
	}
	_, err = r.cfg.Store.Create(ctx, id, value)
	r.cache.drop(id)
	if err != nil {
		return device.Registration{}, "", explain(err, device.Conflict, "device %s exists already", id)
	}
	return rec.registration(), secret, nil
}

// Get answers one device, or NotFound.
func (r *Registry) Get(ctx context.Context, id device.ID) (device.Registration, error) {
	rec, _, err := r.read(ctx, id)
	if err != nil {
		return device.Registration{}, err
	}
	return rec.registration(), nil
}

// List answers a tenant's devices in byte order of their names, those after
// the given one, at most limit (1 to MaxListLimit).
func (r *Registry) List(ctx context.Context, tenant, after string, limit int) ([]device.Registration, error) {
	if limit < 1 || limit > MaxListLimit {
		return nil, device.Errorf(device.Invalid, "a page holds 1 to %d devices, not %d", MaxListLimit, limit)
	}
	var out []device.Registration
	err := r.cfg.Store.List(ctx, tenant, after, limit, func(id device.ID, value []byte, _ uint64) error {
		rec, err := decodeRecord(id, value)
		if err != nil {
			return err
		}
		out = append(out, rec.registration())
		return nil
	})
	return out, err
}

// Disable refuses the device from now on; its record and secret stay. It is
// idempotent. NotFound when there is no such device.
func (r *Registry) Disable(ctx context.Context, id device.ID) (device.Registration, error) {
	reg, err := r.setDisabled(ctx, id, true)
	if err == nil {
		r.revoked(id)
	}
	return reg, err
}

// Enable lets a disabled device in again, with the secret it had. It is idempotent.
func (r *Registry) Enable(ctx context.Context, id device.ID) (device.Registration, error) {
	return r.setDisabled(ctx, id, false)
}

func (r *Registry) setDisabled(ctx context.Context, id device.ID, disabled bool) (device.Registration, error) {
	return r.update(ctx, id, func(rec *record) bool {
		if rec.Disabled == disabled {
			return false
		}
		rec.Disabled = disabled
		return true
	})
}

// Rotate replaces the device's secret and answers the new one, shown this once.
// Sessions that stand go on; the old secret opens no new one.
func (r *Registry) Rotate(ctx context.Context, id device.ID) (device.Registration, string, error) {
	secret := newSecret()
	hash := hashSecret(r.cfg.Pepper, secret)
	reg, err := r.update(ctx, id, func(rec *record) bool {
		rec.setSecret(hash, timestamp())
		return true
	})
	if err != nil {
		return device.Registration{}, "", err
	}
	return reg, secret, nil
}

// Remove forgets the device and its secret. NotFound when there is no such
// device. What it sent stays in the store.
func (r *Registry) Remove(ctx context.Context, id device.ID) error {
	for range updateAttempts {
		_, revision, err := r.read(ctx, id)
		if err != nil {
			return err
		}
		err = r.cfg.Store.Delete(ctx, id, revision)
		r.cache.drop(id)
		if device.CodeOf(err) == device.Conflict {
			continue
		}
		if err == nil {
			r.revoked(id)
		}
		return err
	}
	return contended(id)
}

// update changes a record under its revision; change answers whether there is
// anything to write.
func (r *Registry) update(ctx context.Context, id device.ID, change func(*record) bool) (device.Registration, error) {
	for range updateAttempts {
		rec, revision, err := r.read(ctx, id)
		if err != nil {
			return device.Registration{}, err
		}
		if !change(rec) {
			return rec.registration(), nil
		}
		rec.Updated = timestamp()
		value, err := rec.encode()
		if err != nil {
			return device.Registration{}, err
		}
		_, err = r.cfg.Store.Update(ctx, id, value, revision)
		r.cache.drop(id)
		if device.CodeOf(err) == device.Conflict {
			continue
		}
		return rec.registration(), err
	}
	return device.Registration{}, contended(id)
}

// read gets and decodes one record.
func (r *Registry) read(ctx context.Context, id device.ID) (*record, uint64, error) {
	if err := id.Validate(); err != nil {
		return nil, 0, err
	}
	value, revision, err := r.cfg.Store.Get(ctx, id)
	if err != nil {
		return nil, 0, explain(err, device.NotFound, "there is no device %s", id)
	}
	rec, err := decodeRecord(id, value)
	return rec, revision, err
}

// explain puts an error of one code into words of ours; others stay as they are.
func explain(err error, code device.Code, format string, args ...any) error {
	if device.CodeOf(err) != code {
		return err
	}
	return device.Errorf(code, format, args...)
}

func contended(id device.ID) error {
	return device.Errorf(device.Busy, "device %s is being changed by others, try again", id)
}

// timestamp is now as records keep it: to the millisecond, in UTC.
func timestamp() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
