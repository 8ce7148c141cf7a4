// Package tlsfiles keeps this server's certificate: files of the operator's own,
// or of a development authority made on the first start. Changed files are taken
// up for new connections while those there are go on.
package tlsfiles

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	counting "github.com/tributary-iot/tributary/internal/metrics"
)

// Config says where the certificate comes from.
type Config struct {
	Cert, Key string   // PEM files of the operator's own: the certificate with its chain, and its key; both empty: a development certificate
	Dir       string   // where the development authority and its certificate are kept
	Hosts     []string // names and addresses the development certificate is for

	Every time.Duration // between two looks at the files; default 1 s

	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil keeps the metrics to ourselves
}

// maxFileBytes bounds a file that is read every second.
const maxFileBytes = 1 << 20

// Source is the certificate of this server, as it is in the files now.
type Source struct {
	cfg      Config
	notAfter prometheus.Gauge
	reloads  *prometheus.CounterVec // result: taken, refused
	current  atomic.Pointer[tls.Certificate]

	mu      sync.Mutex        // of the looks
	seen    [sha256.Size]byte // the files in use
	changed [sha256.Size]byte // the files at the last look
	told    bool              // that these cannot be used
}

// Open makes the development certificate when none is given, and reads the
// files. Files that cannot be used are an error; an expired certificate is a
// line in the log, because there is none better.
func Open(cfg Config) (*Source, error) {
	if cfg.Every <= 0 {
		cfg.Every = time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if (cfg.Cert == "") != (cfg.Key == "") {
		return nil, errors.New("tls: a certificate needs its key: name both files or none")
	}
	r := counting.Room{Name: "tls", Registerer: cfg.Registerer}
	s := &Source{
		cfg:      cfg,
		notAfter: r.Gauge("certificate_expiry_timestamp_seconds", "When the certificate of this server expires, in seconds since 1970."),
		reloads:  r.CounterVec("certificate_reloads_total", "Changed certificate files by what became of them: taken, refused.", "result"),
	}
	if r.Err != nil {
		return nil, fmt.Errorf("tls: register metrics: %w", r.Err)
	}
	if err := s.renew(); err != nil {
		return nil, err
	}
	certPEM, keyPEM, err := s.read()
	if err != nil {
		return nil, err
	}
	cert, err := parse(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("tls: %s and %s: %w", s.cfg.Cert, s.cfg.Key, err)
	}
	if left := time.Until(cert.Leaf.NotAfter); left < 0 {
		cfg.Logger.Error("the certificate has expired; put a new one in its place", "certificate", s.cfg.Cert, "expires", cert.Leaf.NotAfter)
	}
	s.take(cert, sumOf(certPEM, keyPEM))
	return s, nil
}

// Authority is the development authority's certificate, which clients trust;
// "" when the certificate is the operator's own.
func (s *Source) Authority() string { return authorityIn(s.cfg) }

// Server is the configuration of a listener that asks for no client certificate:
// TLS 1.2 and above with the certificate there is at each handshake.
func (s *Source) Server() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.current.Load(), nil },
	}
}

// Devices is the configuration of a listener that asks for a client certificate
// and does not insist. The handshake proves that the peer holds the key; who
// the key belongs to is for the registry to say, so no chain is looked at. A
// certificate outside its dates ends the handshake, resumed ones included.
func (s *Source) Devices() *tls.Config {
	c := s.Server()
	c.ClientAuth = tls.RequestClientCert
	c.VerifyConnection = func(state tls.ConnectionState) error { return inItsTime(state.PeerCertificates, time.Now()) }
	return c
}

func inItsTime(chain []*x509.Certificate, now time.Time) error {
	switch {
	case len(chain) == 0:
		return nil
	case now.After(chain[0].NotAfter):
		return fmt.Errorf("the client certificate expired at %s", chain[0].NotAfter.UTC().Format(time.RFC3339))
	case now.Before(chain[0].NotBefore):
		return fmt.Errorf("the client certificate is valid from %s on", chain[0].NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// Run looks at the files until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	ticker := time.NewTicker(s.cfg.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			s.Look()
		}
	}
}

// Look takes up files that have changed and were the same at the look before:
// two files are not replaced in one step, and a file is not written in one.
// Files that cannot be used leave the certificate as it is.
func (s *Source) Look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.renew()
	certPEM, keyPEM, readErr := s.read()
	sum := sumOf(certPEM, keyPEM)
	switch err = errors.Join(err, readErr); {
	case err == nil && sum == s.seen:
		s.changed, s.told = sum, false
		return
	case sum != s.changed:
		s.changed, s.told = sum, false
		return
	case s.told:
		return
	}
	var cert *tls.Certificate
	if err == nil {
		cert, err = parse(certPEM, keyPEM)
	}
	if err == nil && time.Now().After(cert.Leaf.NotAfter) {
		err = fmt.Errorf("the certificate expired at %s", cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if err != nil {
		s.told = true
		s.reloads.WithLabelValues("refused").Inc()
		s.cfg.Logger.Error("the changed certificate or its key cannot be used; the one before stays", "certificate", s.cfg.Cert, "error", err)
		return
	}
	s.take(cert, sum)
	s.reloads.WithLabelValues("taken").Inc()
	s.cfg.Logger.Info("a new certificate is in use", "certificate", s.cfg.Cert, "expires", cert.Leaf.NotAfter)
}

func (s *Source) take(cert *tls.Certificate, sum [sha256.Size]byte) {
	s.current.Store(cert)
	s.seen, s.changed, s.told = sum, sum, false
	s.notAfter.Set(float64(cert.Leaf.NotAfter.Unix()))
}

// renew makes the development certificate when it is missing or nears its end.
func (s *Source) renew() error {
	if s.cfg.Cert != "" && authorityIn(s.cfg) == "" {
		return nil
	}
	if cert := s.current.Load(); cert != nil && time.Until(cert.Leaf.NotAfter) > renewBefore {
		return nil
	}
	var err error
	s.cfg.Cert, s.cfg.Key, err = develop(s.cfg.Dir, s.cfg.Hosts)
	return err
}

func (s *Source) read() (certPEM, keyPEM []byte, err error) {
	if certPEM, err = readFile(s.cfg.Cert); err == nil {
		keyPEM, err = readFile(s.cfg.Key)
	}
	return certPEM, keyPEM, err
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("tls: %w", err)
	case len(content) > maxFileBytes:
		return nil, fmt.Errorf("tls: %s is larger than %d bytes: is it a certificate or key in PEM form?", path, maxFileBytes)
	}
	return content, nil
}

func parse(certPEM, keyPEM []byte) (*tls.Certificate, error) {
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	if cert.Leaf == nil { // X509KeyPair fills it since Go 1.23
		cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0])
	}
	return &cert, err
}

func sumOf(files ...[]byte) [sha256.Size]byte { return sha256.Sum256(bytes.Join(files, []byte{0})) }
