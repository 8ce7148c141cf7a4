package registry

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// record is what the Store keeps of one principal, as JSON. Fields are added,
// never renamed: records outlive the program that wrote them.
type record struct {
	Tenant      string               `json:"tenant"`
	Device      string               `json:"device"`
	Kind        device.PrincipalKind `json:"kind"`
	For         device.Pattern       `json:"for,omitempty"`
	Labels      device.Labels        `json:"labels,omitempty"`
	Disabled    bool                 `json:"disabled,omitempty"`
	Created     time.Time            `json:"created"`
	Updated     time.Time            `json:"updated"`
	Credentials []credential         `json:"credentials"`
}

// credential is one way for a principal to prove itself.
type credential struct {
	ID      string    `json:"id"`             // random, names it within its record
	Type    string    `json:"type"`           // types we do not know are ignored
	Hash    []byte    `json:"hash,omitempty"` // what is kept of it, by type
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

// The types of credentials, by what Hash is.
const (
	typeSecret = "hmac-sha256" // HMAC-SHA256(pepper, secret)
	typeKey    = "spki-sha256" // a device.KeyHash
)

// newCredential makes one of a kept hash; ids are 40 random bits.
func newCredential(kind string, hash []byte, now time.Time) credential {
	return credential{ID: strings.ToLower(rand.Text()[:8]), Type: kind, Hash: hash, Created: now}
}

func (c credential) info() device.CredentialInfo {
	info := device.CredentialInfo{ID: c.ID, CreatedAt: c.Created, ExpiresAt: c.Expires}
	if c.Type == typeKey {
		copy(info.Key[:], c.Hash)
	}
	return info
}

func (c credential) isKey(key device.KeyHash) bool {
	return c.Type == typeKey && string(c.Hash) == string(key[:])
}

func (c credential) expired(now time.Time) bool { return !c.Expires.IsZero() && !now.Before(c.Expires) }

func (r *record) id() device.ID { return device.ID{Tenant: r.Tenant, Device: r.Device} }

func (r *record) registration() device.Registration {
	reg := device.Registration{
		ID: r.id(), Kind: r.Kind, For: r.For, Labels: r.Labels, Disabled: r.Disabled, CreatedAt: r.Created, UpdatedAt: r.Updated,
	}
	for _, c := range r.Credentials {
		reg.Credentials = append(reg.Credentials, c.info())
	}
	return reg
}

// hasKey reports whether a certificate of that key is one of the credentials.
func (r *record) hasKey(key device.KeyHash) bool {
	return slices.ContainsFunc(r.Credentials, func(c credential) bool { return c.isKey(key) })
}

// add makes c one of the credentials; those that have expired make room.
func (r *record) add(c credential) error {
	r.Credentials = slices.DeleteFunc(r.Credentials, func(old credential) bool { return old.expired(c.Created) })
	if len(r.Credentials) >= device.MaxCredentials {
		return device.Errorf(device.Precondition, "%s has %d credentials, which is the limit: remove one first", r.id(), len(r.Credentials))
	}
	r.Credentials = append(r.Credentials, c)
	return nil
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
	if !r.Kind.Valid() {
		return nil, fmt.Errorf("registry: the record of %s is of kind %q, which this release does not know", id, r.Kind)
	}
	return &r, nil
}

// principal is a record as the cache holds it: what Authenticate and holds
// need, nothing else. Under the key of a certificate it is only who owns that.
type principal struct {
	owner    device.ID // of a certificate's key; else zero
	kind     device.PrincipalKind
	allowed  device.Pattern
	disabled bool
	proofs   []proof
}

// proof is a credential to compare with.
type proof struct {
	id      string
	key     bool // hash is of a certificate's key, not of a secret
	hash    [32]byte
	expires int64 // Unix milliseconds; 0: never
}

func (p *proof) expired(now time.Time) bool { return p.expires != 0 && now.UnixMilli() >= p.expires }

func (r *record) principal() *principal {
	p := &principal{kind: r.Kind, allowed: r.For, disabled: r.Disabled}
	for _, c := range r.Credentials {
		if len(c.Hash) != 32 || c.Type != typeSecret && c.Type != typeKey {
			continue
		}
		one := proof{id: c.ID, key: c.Type == typeKey, hash: [32]byte(c.Hash)}
		if !c.Expires.IsZero() {
			one.expires = c.Expires.UnixMilli()
		}
		p.proofs = append(p.proofs, one)
	}
	return p
}
