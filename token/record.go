package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// Prefix begins every token, so that people and leak scanners recognise one.
const Prefix = "tribt_"

// textBytes is the entropy of a token, which is why a fast keyed hash is enough.
const textBytes = 32

// maxTextBytes bounds what is hashed for somebody who is not let in yet.
const maxTextBytes = 256

// sum is what is kept of a token's text.
type sum [sha256.Size]byte

// record is what the Store keeps of one token, as JSON. Fields are added, never
// renamed: records outlive the program that wrote them.
type record struct {
	Tenant  string      `json:"tenant"`
	Name    string      `json:"name"`
	Role    device.Role `json:"role"`
	Hash    []byte      `json:"hash"` // HMAC-SHA256(pepper, "api token" NUL text)
	Created time.Time   `json:"created"`
	Expires time.Time   `json:"expires,omitzero"`
}

func newText() string {
	var b [textBytes]byte
	rand.Read(b[:]) // never fails: the runtime ends the program first
	return Prefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// hash is apart from that of devices' secrets under the same pepper: no text is
// good for both.
func (b *Book) hash(text string) (s sum) {
	mac := hmac.New(sha256.New, b.cfg.Pepper)
	mac.Write([]byte("api token\x00"))
	mac.Write([]byte(text))
	mac.Sum(s[:0])
	return s
}

func encode(t device.Token, s sum) ([]byte, error) {
	return json.Marshal(record{Tenant: t.Tenant, Name: t.Name, Role: t.Role, Hash: s[:], Created: t.CreatedAt, Expires: t.ExpiresAt})
}

// decode reads a stored record and checks that it is the one it is kept as.
func decode(tenant, name string, value []byte) (device.Token, sum, error) {
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return device.Token{}, sum{}, fmt.Errorf("token: the record of %s cannot be read: %w", name, err)
	}
	t := device.Token{Tenant: r.Tenant, Name: r.Name, Role: r.Role, CreatedAt: r.Created, ExpiresAt: r.Expires}
	if t.Tenant != tenant || t.Name != name || len(r.Hash) != sha256.Size {
		return device.Token{}, sum{}, fmt.Errorf("token: the record kept as %q of tenant %q is another's", name, tenant)
	}
	return t, sum(r.Hash), t.Validate()
}
