package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// issuer is an operator's own authority.
type issuer struct {
	t      *testing.T
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{t: t, cert: cert, key: key, serial: 1}
}

// replace writes a new key and certificate for localhost over the two files,
// one after the other and in place, and answers the serial number.
func (i *issuer) replace(certFile, keyFile string) int64 {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	i.serial++
	template := &x509.Certificate{SerialNumber: big.NewInt(i.serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, &key.PublicKey, i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		i.t.Fatal(err)
	}
	if err := errors.Join(
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)); err != nil {
		i.t.Fatal(err)
	}
	return i.serial
}

// TestCertificatesAreReplacedUnderLoad a hundred times: the new one is used,
// no handshake fails and no connection is dropped.
func TestCertificatesAreReplacedUnderLoad(t *testing.T) {
	const times = 100
	own := newIssuer(t)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	own.replace(certFile, keyFile)
	s := serve(t, t.TempDir(), "--open", "--tls-cert-file", certFile, "--tls-key-file", keyFile, "--tls-reload", "10ms")
	if _, err := os.Stat(filepath.Join(s.data, tlsDir)); err == nil {
		t.Error("a development certificate was made beside the operator's own")
	}
	trust := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
	trust.RootCAs.AddCert(own.cert)

	ctx, cancel := context.WithCancel(t.Context())
	load := &steadyLoad{t: t, s: s, trust: trust}
	load.start(ctx)
	eventually(t, "the load to run", func() bool { return load.sent.Load() > 50 && load.handshakes.Load() > 10 })
	for range times {
		serial := own.replace(certFile, keyFile)
		eventually(t, "the new certificate to be used", func() bool { return load.serial() == serial })
	}
	cancel()
	load.running.Wait()
	t.Logf("%d replacements, %d handshakes and %d messages on standing connections meanwhile", times, load.handshakes.Load(), load.sent.Load())
	if n := s.metric("tributary_tls_certificate_reloads_total", `result="taken"`); n != times {
		t.Errorf("%v certificates were taken, want %d", n, times)
	}
	s.stop()
}

// steadyLoad sends on connections that stay, and makes new ones all the time.
type steadyLoad struct {
	t     *testing.T
	s     *server
	trust *tls.Config

	running    sync.WaitGroup
	sent       atomic.Int64
	handshakes atomic.Int64
}

func (l *steadyLoad) start(ctx context.Context) {
	for i := range 4 {
		l.running.Go(func() { l.stand(ctx, fmt.Sprintf("standing-%d", i)) })
	}
	for name, once := range map[string]func(context.Context, string) error{"mqtt": l.onceMQTT, "amqp": l.onceAMQP, "http": l.onceHTTP} {
		l.running.Go(func() {
			for ctx.Err() == nil {
				if err := once(context.WithoutCancel(ctx), name+"-passing"); err != nil {
					l.t.Errorf("%s: a new connection: %v", name, err)
					return
				}
				l.handshakes.Add(1)
			}
		})
	}
}

// serial is that of the certificate the server shows now.
func (l *steadyLoad) serial() int64 {
	conn, err := tls.Dial("tcp", l.s.addresses["mqtts"], l.trust)
	if err != nil {
		l.t.Errorf("a handshake: %v", err)
		return 0
	}
	defer conn.Close()
	l.handshakes.Add(1)
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func (l *steadyLoad) mqtt(device string) (mqtt.Client, error) {
	lost := func(_ mqtt.Client, err error) { l.t.Errorf("%s lost its connection: %v", device, err) }
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + l.s.addresses["mqtts"]).SetTLSConfig(l.trust).
		SetClientID(device).SetAutoReconnect(false).SetConnectionLostHandler(lost))
	token := client.Connect()
	if !token.WaitTimeout(patience) {
		return nil, errors.New("no CONNACK in time")
	}
	return client, token.Error()
}

// stand sends one message after the other on one connection.
func (l *steadyLoad) stand(ctx context.Context, device string) {
	client, err := l.mqtt(device)
	if err != nil {
		l.t.Errorf("%s: %v", device, err)
		return
	}
	defer client.Disconnect(0)
	for ctx.Err() == nil {
		token := client.Publish(device+"/telemetry", 1, false, []byte("1"))
		if !token.WaitTimeout(patience) || token.Error() != nil {
			l.t.Errorf("%s: %v", device, token.Error())
			return
		}
		l.sent.Add(1)
	}
}

func (l *steadyLoad) onceMQTT(_ context.Context, device string) error {
	client, err := l.mqtt(device)
	if err == nil {
		client.Disconnect(0)
	}
	return err
}

func (l *steadyLoad) onceAMQP(ctx context.Context, device string) error {
	_, port, _ := strings.Cut(l.s.addresses["amqps"], ":")
	return sendOneAMQP(ctx, "amqps://localhost:"+port, &amqp.ConnOptions{TLSConfig: l.trust, SASLType: amqp.SASLTypeAnonymous()}, device)
}

func (l *steadyLoad) onceHTTP(ctx context.Context, device string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: l.trust, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+l.s.addresses["https"]+"/v1/devices/"+device+"/telemetry", strings.NewReader("1"))
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		return errors.New(response.Status)
	}
	return nil
}
