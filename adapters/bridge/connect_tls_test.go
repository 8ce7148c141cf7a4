package bridge

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/device"
)

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate, in PEM
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key, a.file, _ = issue(t, nil, "authority")
	return a
}

// issue makes a certificate of the authority, or one of its own for nil, and files
// of it and its key.
func issue(t *testing.T, by *authority, name string) (cert *x509.Certificate, key *ecdsa.PrivateKey, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: by == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if by == nil {
		by = &authority{cert: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	rawKey, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: rawKey}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key, certFile, keyFile
}

// byCertificate lets in whoever proved to hold a certificate's key, as the device
// queue.
type byCertificate struct{ *adaptertest.Gate }

func (g byCertificate) Authenticate(ctx context.Context, c device.Credential) (device.Principal, error) {
	if c.CertificateKey != (device.KeyHash{}) {
		return device.Principal{ID: deviceID("queue"), Kind: device.KindDevice}, nil
	}
	return g.Gate.Authenticate(ctx, c)
}

// TestTLS: a broker of an authority we trust, with our certificate (EXTERNAL) or a
// password (PLAIN); and one of an authority we do not.
func TestTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	_, _, serverCert, serverKey := issue(t, ours, "server")
	_, _, clientCert, clientKey := issue(t, ours, "client")
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	gate := &adaptertest.Gate{RefuseAnonymous: true, Secrets: map[device.ID]string{deviceID("queue"): "sesame"}}
	door, err := amqp.Open(amqp.Config{
		Addr: "off", TLSAddr: "127.0.0.1:0", TLS: &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert},
	}, byCertificate{gate})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = door.Serve() }()
	b := &broker{Gate: gate, door: door, addr: door.Addrs()["amqps"].String()}
	t.Cleanup(b.kill)

	for what, change := range map[string]func(*Link){
		"with our certificate": func(l *Link) { l.CAFile, l.CertFile, l.KeyFile = ours.file, clientCert, clientKey },
		"with a password": func(l *Link) {
			l.URL, l.CAFile, l.PasswordFile = "amqps://queue@"+b.addr, ours.file, writeSecret(t, "", "sesame")
		},
	} {
		bridge := bridgeTo(t, b.addr, &adaptertest.Gate{}, func(_ *Config, l *Link) {
			l.URL = "amqps://" + b.addr
			change(l)
		})
		untilStatus(t, bridge, "the link is up "+what, func(s Status) bool { return s.State == Up })
	}
	for want, change := range map[string]func(*Link){
		"certificate signed by unknown authority": func(l *Link) { l.CAFile, l.CertFile, l.KeyFile = theirs.file, clientCert, clientKey },
		"does not let us in":                      func(l *Link) { l.CAFile = ours.file }, // anonymous
	} {
		bridge := bridgeTo(t, b.addr, &adaptertest.Gate{}, func(_ *Config, l *Link) {
			l.URL = "amqps://" + b.addr
			change(l)
		})
		untilStatus(t, bridge, "told: "+want, func(s Status) bool { return s.State == Down && strings.Contains(s.Err, want) })
	}
}
