package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
)

// peerEncryption is what a peer needs to speak TLS: the names of files.
type peerEncryption struct {
	ca, cert, key string
	web           bool // over WebSocket
}

// env is how the device scripts are told.
func (e peerEncryption) env() []string {
	var all []string
	for name, value := range map[string]string{"PEER_CA": e.ca, "PEER_CERT": e.cert, "PEER_KEY": e.key} {
		if value != "" {
			all = append(all, name+"="+value)
		}
	}
	if e.web {
		all = append(all, "PEER_WEB=1")
	}
	return all
}

// config is the same for peers written in Go.
func (e peerEncryption) config(t testing.TB) *tls.Config {
	t.Helper()
	if e.ca == "" {
		return nil
	}
	c := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
	authority, err := os.ReadFile(e.ca)
	if err != nil || !c.RootCAs.AppendCertsFromPEM(authority) {
		t.Fatalf("the server's authority: %v", err)
	}
	if e.cert != "" {
		pair, err := tls.LoadX509KeyPair(e.cert, e.key)
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

// clientCertificate makes a device's own certificate, which nobody signed.
func clientCertificate(t testing.TB, name string, notAfter time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// authority is the file that clients of the server's development certificate trust.
func (s *server) authority() string { return filepath.Join(s.data, tlsDir, "ca.crt") }

// TestPeerDevicesOverTLS sends telemetry from, and a command to, clients
// somebody else wrote: with secrets and with client certificates, over TLS, and
// over WebSocket where the library can.
func TestPeerDevicesOverTLS(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	handshakes := 0.0 // at least, by the peers this machine has
	for _, mode := range []struct {
		name             string
		tls, cert, webby bool
	}{
		{"secret", true, false, false}, {"certificate", true, true, false},
		{"ws", false, false, true}, {"wss", true, false, true}, {"wss with certificate", true, true, true},
	} {
		t.Run(mode.name, func(t *testing.T) {
			for _, p := range peerDevices {
				if mode.webby && !p.web {
					continue
				}
				t.Run(p.script, func(t *testing.T) {
					device := strings.NewReplacer(".", "-", " ", "-").Replace(p.script + "-" + mode.name)
					encryption := peerEncryption{web: mode.webby}
					if mode.tls {
						encryption.ca = s.authority()
					}
					var credentials []string
					if mode.cert {
						encryption.cert, encryption.key = clientCertificate(t, device, time.Now().Add(time.Hour))
						s.client("device", "add", device, "--cert", encryption.cert)
					} else {
						credentials = []string{device, s.addDevice(device)}
					}
					p.encryption = encryption
					checkPeer(t, s, p, device, credentials)
					if p.protocol == "mqtt" && mode.tls && !mode.webby {
						handshakes++
					}
				})
			}
		})
	}
	if n := s.metric("tributary_mqtt_tls_handshakes_total", `result="done"`); n < handshakes {
		t.Errorf("%v TLS handshakes of MQTT were counted, want at least %v", n, handshakes)
	}
	s.stop()
}

// TestGoAMQPOverTLS is the peer that is a Go library.
func TestGoAMQPOverTLS(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	cert, key := clientCertificate(t, "go", time.Now().Add(time.Hour))
	s.client("device", "add", "certified", "--cert", cert)
	secret := s.addDevice("secretive")
	_, port, _ := strings.Cut(s.addresses["amqps"], ":")
	for _, c := range []struct {
		device     string
		encryption peerEncryption
		sasl       amqp.SASLType
	}{
		{"secretive", peerEncryption{ca: s.authority()}, amqp.SASLTypePlain("secretive", secret)},
		{"certified", peerEncryption{ca: s.authority(), cert: cert, key: key}, amqp.SASLTypeExternal("")},
		{"certified", peerEncryption{ca: s.authority(), cert: cert, key: key}, amqp.SASLTypeExternal("certified")},
		{"certified", peerEncryption{ca: s.authority(), cert: cert, key: key}, amqp.SASLTypeAnonymous()},
		{"certified", peerEncryption{ca: s.authority(), cert: cert, key: key}, nil},
	} {
		options := &amqp.ConnOptions{TLSConfig: c.encryption.config(t), SASLType: c.sasl}
		if err := sendOneAMQP(t.Context(), "amqps://localhost:"+port, options, c.device); err != nil {
			t.Errorf("%s, %T: %v", c.device, c.sasl, err)
		}
	}
	if rows := s.query("certified"); len(rows) != 4 {
		t.Errorf("%d messages of the device with a certificate are stored", len(rows))
	}
	stranger, strangersKey := clientCertificate(t, "stranger", time.Now().Add(time.Hour))
	old, oldKey := clientCertificate(t, "old", time.Now().Add(-time.Minute))
	s.client("device", "credential", "add", "certified", "--cert", old)
	for name, c := range map[string]struct {
		encryption peerEncryption
		sasl       amqp.SASLType
	}{
		"another's certificate":    {peerEncryption{ca: s.authority(), cert: cert, key: key}, amqp.SASLTypeExternal("secretive")},
		"no certificate":           {peerEncryption{ca: s.authority()}, amqp.SASLTypeExternal("")},
		"an unknown certificate":   {peerEncryption{ca: s.authority(), cert: stranger, key: strangersKey}, amqp.SASLTypeExternal("")},
		"an expired certificate":   {peerEncryption{ca: s.authority(), cert: old, key: oldKey}, amqp.SASLTypeExternal("")},
		"expired, and its secret":  {peerEncryption{ca: s.authority(), cert: old, key: oldKey}, amqp.SASLTypePlain("secretive", secret)},
		"anonymous, and no secret": {peerEncryption{ca: s.authority()}, amqp.SASLTypeAnonymous()},
	} {
		options := &amqp.ConnOptions{TLSConfig: c.encryption.config(t), SASLType: c.sasl}
		if err := sendOneAMQP(t.Context(), "amqps://localhost:"+port, options, "secretive"); err == nil {
			t.Errorf("%s: let in", name)
		}
	}
	s.stop()
}

func sendOneAMQP(ctx context.Context, url string, options *amqp.ConnOptions, device string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := amqp.Dial(ctx, url, options)
	if err != nil {
		return err
	}
	defer conn.Close()
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		return err
	}
	sender, err := session.NewSender(ctx, device+"/telemetry", nil)
	if err != nil {
		return err
	}
	return sender.Send(ctx, amqp.NewMessage([]byte("1")), nil)
}
