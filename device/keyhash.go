package device

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
)

// KeyHash names the public key of a certificate: the SHA-256 of its
// SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7). It stays the same when a
// certificate is renewed for the same key. The zero KeyHash is no key.
type KeyHash [sha256.Size]byte

// KeyHashOf is the hash of a certificate's public key. The caller has made sure
// that the peer holds the private key, as a TLS handshake does.
func KeyHashOf(cert *x509.Certificate) KeyHash {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// KeyHashOfPEM reads the first certificate of a PEM file. Errors are Invalid.
func KeyHashOfPEM(file []byte) (KeyHash, error) {
	for {
		var block *pem.Block
		if block, file = pem.Decode(file); block == nil {
			return KeyHash{}, Errorf(Invalid, "there is no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return KeyHash{}, Wrap(Invalid, "the certificate cannot be read", err)
		}
		return KeyHashOf(cert), nil
	}
}

// ParseKeyHash reads the form String gives.
func ParseKeyHash(text string) (KeyHash, error) {
	var h KeyHash
	if raw, err := hex.DecodeString(text); err != nil || len(raw) != len(h) {
		return h, Errorf(Invalid, "a key is named by the SHA-256 of its SubjectPublicKeyInfo, 64 hexadecimal digits")
	} else if copy(h[:], raw); h.IsZero() {
		return h, Errorf(Invalid, "64 zeros name no key")
	}
	return h, nil
}

// String is the hash in lower-case hexadecimal digits.
func (h KeyHash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether h is no key.
func (h KeyHash) IsZero() bool { return h == KeyHash{} }
