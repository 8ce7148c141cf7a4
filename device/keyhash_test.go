package device_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
)

func certificate(t *testing.T, key *ecdsa.PrivateKey, serial int64) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestKeyHash(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	other := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{5, 0}})
	for serial := range int64(2) { // a renewed certificate of the same key is the same
		got, err := device.KeyHashOfPEM(append(other, certificate(t, key, serial+1)...))
		if err != nil || got != device.KeyHash(sha256.Sum256(spki)) {
			t.Errorf("certificate %d: %s, %v", serial, got, err)
		}
		again, err := device.ParseKeyHash(got.String())
		if err != nil || again != got || got.IsZero() {
			t.Errorf("%s read back is %s, %v", got, again, err)
		}
	}
	for _, bad := range []string{"", "00", device.KeyHash{}.String(), "zz" + device.KeyHash{1}.String()[2:], device.KeyHash{1}.String() + "00"} {
		if _, err := device.ParseKeyHash(bad); device.CodeOf(err) != device.Invalid || err == nil {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range [][]byte{nil, other, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})} {
		if _, err := device.KeyHashOfPEM(bad); device.CodeOf(err) != device.Invalid || err == nil {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzKeyHash reads names of keys and certificates that somebody typed.
func FuzzKeyHash(f *testing.F) {
	f.Add([]byte("00ff" + strings.Repeat("0a", 30)))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if h, err := device.ParseKeyHash(string(text)); err == nil {
			if again, err := device.ParseKeyHash(h.String()); err != nil || again != h || h.IsZero() {
				t.Fatalf("%s came back as %s, %v", h, again, err)
			}
		}
		if h, err := device.KeyHashOfPEM(text); err == nil && h.IsZero() || err != nil && device.CodeOf(err) != device.Invalid {
			t.Fatalf("%s, %v", h, err)
		}
	})
}
