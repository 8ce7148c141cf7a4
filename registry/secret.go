package registry

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"strings"
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

// verify checks a secret against a principal, nil for an unknown one. Both
// take the same path: one HMAC and at least one constant-time comparison.
func (r *Registry) verify(p *principal, secret string) bool {
	hashes := [][]byte{r.dummy}
	if p != nil && len(p.hashes) > 0 {
		hashes = p.hashes
	}
	sum, match := hashSecret(r.cfg.Pepper, secret), false
	for _, h := range hashes {
		if hmac.Equal(sum, h) {
			match = true
		}
	}
	return match && p != nil && len(p.hashes) > 0 && !p.disabled
}
