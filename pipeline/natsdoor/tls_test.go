package natsdoor_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/tributary-iot/tributary/pipeline/embedded"
	"github.com/tributary-iot/tributary/pipeline/natsdoor"
)

// TestReadersSpeakTLS when the door has a certificate, and nobody gets in
// without; the server's own connections need none.
func TestReadersSpeakTLS(t *testing.T) {
	lent := httptest.NewTLSServer(nil)
	defer lent.Close()
	h := open(t, embedded.Readers{TLS: &tls.Config{Certificates: lent.TLS.Certificates, MinVersion: tls.VersionTLS12}}, natsdoor.Config{})
	h.store("telemetry.default.a", "1")
	roots := x509.NewCertPool()
	roots.AddCert(lent.Certificate())
	nc, err := nats.Connect(h.url, nats.UserInfo("reader", password), nats.Secure(&tls.Config{RootCAs: roots}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if state, err := nc.TLSConnectionState(); err != nil || !state.HandshakeComplete {
		t.Errorf("not on TLS: %v", err)
	}
	if _, err := nc.Request("$JS.API.STREAM.INFO.TELEMETRY", nil, nats.DefaultTimeout*10); err != nil {
		t.Error(err)
	}
	if other, err := nats.Connect(h.url, nats.UserInfo("reader", password)); err == nil { // does not know the certificate
		other.Close()
		t.Error("connected without checking the certificate")
	}
}
