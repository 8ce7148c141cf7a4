package registry

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"strings"
	"time"
)

// SecretPrefix begins every generated secret, so that people and leak scanners
// recognise one.
const SecretPrefix = "trib_"

// secretBytes is the entropy of a generated secret: 256 bits, which is why a
// fast keyed hash is enough to keep it.
const secretBytes = 32

var secretText = base32.StdEncoding.WithPadding(base32.NoPadding)

// newSecret makes a secret that is safe in a URL, a shell and a user's double click.
func newSecret() string {
	var b [secretBytes]byte
	rand.Read(b[:]) // never fails: the runtime ends the program first
	return SecretPrefix + strings.ToLower(secretText.EncodeToString(b[:]))
}

// hashSecret is what is kept of a secret.
func hashSecret(pepper []byte, secret string) []byte {
	mac := hmac.New(sha256.New, pepper)
	mac.Write([]byte(secret))
	return mac.Sum(nil)
}

// verify checks a secret against a principal, nil for an unknown one, and
// answers the id of the credential it is, "" for none. All take the same path:
// one HMAC and at least one constant-time comparison.
func (r *Registry) verify(p *principal, secret string) (proven string) {
	sum, now := hashSecret(r.cfg.Pepper, secret), time.Now()
	if p == nil || len(p.proofs) == 0 {
		p = &principal{disabled: true, proofs: r.dummy}
	}
	for i := range p.proofs {
		one := &p.proofs[i]
		if hmac.Equal(sum, one.hash[:]) && !one.key && !one.expired(now) {
			proven = one.id
		}
	}
	if p.disabled {
		return ""
	}
	return proven
}
