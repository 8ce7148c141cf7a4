package registry

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// MaxListLimit bounds one page of List, and MaxAddMany one call of AddMany.
const (
	MaxListLimit = 1000
	MaxAddMany   = 1000
)

// updateAttempts bounds how often a change is tried when others change the
// same record at the same moment.
const updateAttempts = 8

// Add registers a principal. Without a certificate's key a secret is generated
// and answered, shown this once. Conflict when the name is taken, or the key is
// somebody else's; Invalid as NewPrincipal.Validate says.
func (r *Registry) Add(ctx context.Context, n device.NewPrincipal) (device.Registration, string, error) {
	if err := n.Validate(); err != nil {
		return device.Registration{}, "", err
	}
	now, secret := timestamp(), ""
	rec := &record{Tenant: n.ID.Tenant, Device: n.ID.Device, Kind: n.Kind, For: n.For, Labels: n.Labels, Created: now, Updated: now}
	if rec.Kind == "" {
		rec.Kind = device.KindDevice
	}
	var proof credential
	var claimed uint64
	if n.Key.IsZero() {
		proof, secret = r.newSecret(now)
	} else {
		proof = newCredential(typeKey, n.Key[:], now)
		var err error
		if claimed, err = r.claim(ctx, n.Key, n.ID); err != nil {
			return device.Registration{}, "", err
		}
	}
	rec.Credentials = []credential{proof}
	if err := r.create(ctx, rec, n.Key, claimed); err != nil {
		return device.Registration{}, "", err
	}
	return rec.registration(), secret, nil
}

// create stores a new record whose key, if any, is claimed at a revision.
func (r *Registry) create(ctx context.Context, rec *record, key device.KeyHash, claimed uint64) error {
	id := rec.id()
	value, err := rec.encode()
	if err != nil {
		return err
	}
	revision, err := r.cfg.Store.Create(ctx, id, value)
	r.cache.drop(id)
	if device.CodeOf(err) == device.Conflict {
		// The claim stays when it is the existing principal's own; else it opens nothing.
		return device.Errorf(device.Conflict, "device %s exists already", id)
	}
	if err != nil || key.IsZero() {
		return err
	}
	if err := r.confirm(ctx, key, id, claimed); err != nil {
		if undo := r.cfg.Store.Delete(ctx, id, revision); undo != nil {
			r.cfg.Logger.Error("a device could be neither added nor removed again: remove it", id.Log(), "error", undo)
		}
		r.cache.drop(id)
		return err
	}
	return nil
}

// AddMany adds up to MaxAddMany principals at once, so that a Store that commits
// in groups has groups to commit. Each succeeds or fails for itself, at its
// place in the answer.
func (r *Registry) AddMany(ctx context.Context, all []device.NewPrincipal) ([]device.Added, error) {
	if len(all) > MaxAddMany {
		return nil, device.Errorf(device.Invalid, "%d devices at once, the limit is %d", len(all), MaxAddMany)
	}
	added := make([]device.Added, len(all))
	var work sync.WaitGroup
	for i := range all {
		work.Go(func() {
			a := &added[i]
			a.Registration, a.Secret, a.Err = r.Add(ctx, all[i])
		})
	}
	work.Wait()
	return added, nil
}

// Get answers one principal, or NotFound.
func (r *Registry) Get(ctx context.Context, id device.ID) (device.Registration, error) {
	rec, _, err := r.read(ctx, id)
	if err != nil {
		return device.Registration{}, err
	}
	return rec.registration(), nil
}

// List answers a page of a tenant's principals, at most limit (1 to
// MaxListLimit), sorted by name, and the cursor of the next page: "" after the
// last. Pages follow one another in the Store's order, so all of a tenant is in
// order of names only when it fits one page.
func (r *Registry) List(ctx context.Context, tenant, cursor string, limit int) (page []device.Registration, next string, err error) {
	if limit < 1 || limit > MaxListLimit {
		return nil, "", device.Errorf(device.Invalid, "a page holds 1 to %d devices, not %d", MaxListLimit, limit)
	}
	next, err = r.cfg.Store.List(ctx, tenant, cursor, limit, func(id device.ID, value []byte, _ uint64) error {
		rec, err := decodeRecord(id, value)
		if err != nil {
			return err
		}
		page = append(page, rec.registration())
		return nil
	})
	slices.SortFunc(page, func(a, b device.Registration) int { return strings.Compare(a.ID.Device, b.ID.Device) })
	return page, next, err
}

// Disable refuses the principal from now on and ends its connections; its
// record and credentials stay. It is idempotent. NotFound when there is none.
func (r *Registry) Disable(ctx context.Context, id device.ID) (device.Registration, error) {
	return r.setDisabled(ctx, id, true)
}

// Enable lets a disabled principal in again, with what credentials it had. It
// is idempotent.
func (r *Registry) Enable(ctx context.Context, id device.ID) (device.Registration, error) {
	return r.setDisabled(ctx, id, false)
}

func (r *Registry) setDisabled(ctx context.Context, id device.ID, disabled bool) (device.Registration, error) {
	return r.update(ctx, id, func(rec *record) (bool, error) {
		changed := rec.Disabled != disabled
		rec.Disabled = disabled
		return changed, nil
	})
}

// Label sets some labels of a principal and takes others away, in one step. It
// is idempotent. Invalid as Labels.Validate says; NotFound when there is none.
func (r *Registry) Label(ctx context.Context, id device.ID, set device.Labels, remove []string) (device.Registration, error) {
	return r.update(ctx, id, func(rec *record) (bool, error) {
		labels := device.Labels{}
		maps.Copy(labels, rec.Labels)
		for _, key := range remove {
			delete(labels, key)
		}
		maps.Copy(labels, set)
		changed := !maps.Equal(labels, rec.Labels)
		rec.Labels = labels
		return changed, labels.Validate()
	})
}

// Remove forgets the principal and its credentials, and ends its connections.
// NotFound when there is none. What it sent stays in the store.
func (r *Registry) Remove(ctx context.Context, id device.ID) error {
	for range updateAttempts {
		rec, revision, err := r.read(ctx, id)
		if err != nil {
			return err
		}
		err = r.cfg.Store.Delete(ctx, id, revision)
		r.cache.drop(id)
		if device.CodeOf(err) == device.Conflict {
			continue
		}
		if err == nil {
			r.disownAll(ctx, id, rec.Credentials)
		}
		return err
	}
	return contended(id)
}

func (r *Registry) disownAll(ctx context.Context, id device.ID, gone []credential) {
	for _, c := range gone {
		if c.Type == typeKey {
			r.disown(ctx, c.info().Key, id)
		}
	}
}

// update changes a record under its revision; change answers whether there is
// anything to write.
func (r *Registry) update(ctx context.Context, id device.ID, change func(*record) (bool, error)) (device.Registration, error) {
	for range updateAttempts {
		rec, revision, err := r.read(ctx, id)
		if err != nil {
			return device.Registration{}, err
		}
		changed, err := change(rec)
		if err != nil {
			return device.Registration{}, err
		}
		if !changed {
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
	if device.CodeOf(err) == device.NotFound {
		err = device.Errorf(device.NotFound, "there is no device %s", id)
	}
	if err != nil {
		return nil, 0, err
	}
	rec, err := decodeRecord(id, value)
	return rec, revision, err
}

func contended(id device.ID) error {
	return device.Errorf(device.Busy, "device %s is being changed by others, try again", id)
}

// timestamp is now as records keep it: to the millisecond, in UTC.
func timestamp() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
