package registry

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// record is what the Store keeps of one principal, as JSON. Fields are added,
// never renamed: records outlive the program that wrote them.
type record struct {
	Tenant      string               `json:"tenant"`
	Device      string               `json:"device"`
	Kind        device.PrincipalKind `json:"kind"`
	Disabled    bool                 `json:"disabled,omitempty"`
	Created     time.Time            `json:"created"`
	Updated     time.Time            `json:"updated"`
	Credentials []credential         `json:"credentials"`
}

// credential is one way for a principal to prove itself.
type credential struct {
	Type    string    `json:"type"`           // typeSecret; types we do not know are ignored
	Hash    []byte    `json:"hash,omitempty"` // typeSecret: HMAC-SHA256(pepper, secret)
	Created time.Time `json:"created"`
}

const typeSecret = "hmac-sha256"

func (r *record) id() device.ID { return device.ID{Tenant: r.Tenant, Device: r.Device} }

func (r *record) registration() device.Registration {
	return device.Registration{
		ID: r.id(), Kind: r.Kind, Disabled: r.Disabled, CreatedAt: r.Created, UpdatedAt: r.Updated,
	}
}

// setSecret makes hash the only secret. Other kinds of credentials stay.
func (r *record) setSecret(hash []byte, now time.Time) {
	r.Credentials = slices.DeleteFunc(r.Credentials, func(c credential) bool { return c.Type == typeSecret })
	r.Credentials = append(r.Credentials, credential{Type: typeSecret, Hash: hash, Created: now})
}

// principal is a record as the cache holds it: what Authenticate needs, nothing else.
type principal struct {
	kind     device.PrincipalKind
	disabled bool
	hashes   [][]byte
}

func (r *record) principal() *principal {
	p := &principal{kind: r.Kind, disabled: r.Disabled}
	for _, c := range r.Credentials {
		if c.Type == typeSecret {
			p.hashes = append(p.hashes, c.Hash)
		}
	}
	return p
}

func (r *record) encode() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("registry: encode the record of %s: %w", r.id(), err)
	}
	return b, nil
}

// decodeRecord reads a stored record and checks that it is the one asked for,
// so that a store which mixes up its keys lets nobody in as somebody else.
func decodeRecord(id device.ID, value []byte) (*record, error) {
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, fmt.Errorf("registry: the stored record of %s cannot be read: %w", id, err)
	}
	if r.id() != id {
		return nil, fmt.Errorf("registry: the record stored under %s is that of %s", id, r.id())
	}
	return &r, nil
}
