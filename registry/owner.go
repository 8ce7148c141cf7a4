package registry

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tributary-iot/tributary/device"
)

// A certificate names no principal, so the Store also keeps who each key
// belongs to, under an ID of no tenant, which no principal can have. Such an
// entry only says whose record to look at: the record decides. So one that a
// crash left behind opens nothing, and whoever is given that key next takes it over.
//
// A key is given in three writes: the entry (claim), the record, and the entry
// once more under the revision of the first write (confirm). Whoever takes an
// entry over read it before, and then looked for the key in the record: when it
// looked too early, the confirmation has changed the entry under it; when it
// took the entry before the confirmation, that is refused.

// owner is the stored form of such an entry.
type owner struct {
	Tenant string `json:"owner_tenant"`
	Device string `json:"owner_device"`
}

func (o owner) id() device.ID { return device.ID{Tenant: o.Tenant, Device: o.Device} }

// ownerID is where the owner of a key is kept.
func ownerID(key device.KeyHash) device.ID { return device.ID{Device: key.String()} }

// isOwnerID reports whether id is one of ownerID.
func isOwnerID(id device.ID) bool { return id.Tenant == "" }

func decodeOwner(id device.ID, value []byte) (owner, error) {
	var o owner
	if err := json.Unmarshal(value, &o); err != nil {
		return o, fmt.Errorf("registry: the owner of key %s cannot be read: %w", id.Device, err)
	}
	return o, nil
}

// claim makes id the owner of a key, and answers the revision to confirm.
// Conflict when a principal that has it as a credential owns it already; id
// itself may.
func (r *Registry) claim(ctx context.Context, key device.KeyHash, id device.ID) (revision uint64, err error) {
	value, err := json.Marshal(owner{id.Tenant, id.Device})
	if err != nil {
		return 0, err
	}
	at := ownerID(key)
	for range updateAttempts {
		revision, err := r.cfg.Store.Create(ctx, at, value)
		if device.CodeOf(err) != device.Conflict {
			r.cache.drop(at)
			return revision, err
		}
		before, revision, err := r.readOwner(ctx, key)
		if device.CodeOf(err) == device.NotFound {
			continue // given up meanwhile
		}
		if err != nil || before.id() == id {
			return revision, err
		}
		if err := r.notOf(ctx, key, before.id()); err != nil {
			return 0, err
		}
		revision, err = r.cfg.Store.Update(ctx, at, value, revision)
		r.cache.drop(at)
		if device.CodeOf(err) == device.Conflict {
			continue
		}
		return revision, err
	}
	return 0, contended(id)
}

// notOf answers Conflict when the principal has the key among its credentials.
func (r *Registry) notOf(ctx context.Context, key device.KeyHash, id device.ID) error {
	rec, _, err := r.read(ctx, id)
	switch {
	case device.CodeOf(err) == device.NotFound:
		return nil
	case err == nil && rec.hasKey(key):
		return device.Errorf(device.Conflict, "the certificate's key is a credential of device %s already", id)
	}
	return err
}

// confirm writes the entry that claim left at a revision once more, now that
// id's record has the key. Conflict when the key has been given to another, or
// taken from id, in between: then the record must not keep it.
func (r *Registry) confirm(ctx context.Context, key device.KeyHash, id device.ID, revision uint64) error {
	value, err := json.Marshal(owner{id.Tenant, id.Device})
	if err != nil {
		return err
	}
	at := ownerID(key)
	_, err = r.cfg.Store.Update(ctx, at, value, revision)
	r.cache.drop(at)
	if device.CodeOf(err) == device.Conflict {
		return device.Errorf(device.Conflict, "the certificate's key was given to another device, or taken from this one, at the same moment: try again")
	}
	return err
}

// disown forgets that id owns a key. What fails leaves an entry that opens nothing.
func (r *Registry) disown(ctx context.Context, key device.KeyHash, id device.ID) {
	o, revision, err := r.readOwner(ctx, key)
	if err == nil && o.id() == id {
		err = r.cfg.Store.Delete(ctx, ownerID(key), revision)
		r.cache.drop(ownerID(key))
	}
	if err != nil && device.CodeOf(err) != device.NotFound && device.CodeOf(err) != device.Conflict {
		r.cfg.Logger.Warn("a key that is nobody's any more is still listed; that opens nothing", "key", key.String(), "error", err)
	}
}

func (r *Registry) readOwner(ctx context.Context, key device.KeyHash) (owner, uint64, error) {
	value, revision, err := r.cfg.Store.Get(ctx, ownerID(key))
	if err != nil {
		return owner{}, 0, err
	}
	o, err := decodeOwner(ownerID(key), value)
	return o, revision, err
}
