package tlsfiles

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

var hosts = []string{"localhost", "127.0.0.1", "box.example"}

func open(t *testing.T, cfg Config) *Source {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// shake does a handshake and answers the client's view and both errors.
func shake(server, client *tls.Config) (state tls.ConnectionState, serverErr, clientErr error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return state, err, err
	}
	defer l.Close()
	b, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return state, err, err
	}
	defer b.Close()
	failed := make(chan error, 1)
	go func() {
		a, err := l.Accept()
		if err != nil {
			failed <- err
			return
		}
		conn := tls.Server(a, server)
		err = conn.Handshake()
		if err == nil {
			_, err = conn.Write([]byte("x"))
		}
		a.Close()
		failed <- err
	}()
	conn := tls.Client(b, client)
	clientErr = conn.Handshake()
	if clientErr == nil {
		_, clientErr = conn.Read(make([]byte, 1))
	}
	b.Close()
	return conn.ConnectionState(), <-failed, clientErr
}

func trusting(t *testing.T, s *Source) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(s.Authority())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("the authority is not a certificate")
	}
	return &tls.Config{RootCAs: pool, ServerName: "box.example"}
}

func TestDevelopmentCertificate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	s := open(t, Config{Dir: dir, Hosts: hosts})
	client := trusting(t, s)
	for _, name := range hosts {
		client.ServerName = name
		if _, serverErr, err := shake(s.Server(), client); err != nil || serverErr != nil {
			t.Errorf("%s: %v, %v", name, err, serverErr)
		}
	}
	client.ServerName = "other.example"
	if _, _, err := shake(s.Server(), client); err == nil {
		t.Error("the certificate is for any name")
	}
	old := trusting(t, s)
	old.MaxVersion = tls.VersionTLS11
	if _, _, err := shake(s.Server(), old); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	for _, file := range []string{authorityKey, serverKey} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	first, err := os.ReadFile(filepath.Join(dir, serverCert))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		hosts []string
		same  bool
	}{{"the next start", hosts, true}, {"fewer hosts", hosts[:1], true}, {"a new address", append(hosts, "192.0.2.7"), false}} {
		next := open(t, Config{Dir: dir, Hosts: c.hosts})
		now, err := os.ReadFile(filepath.Join(dir, serverCert))
		if err != nil || bytes.Equal(first, now) != c.same {
			t.Errorf("%s: certificate kept is %v, want %v; %v", c.name, !c.same, c.same, err)
		}
		if _, _, err := shake(next.Server(), trusting(t, s)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestDevelopmentCertificateIsRenewed also while the server runs.
func TestDevelopmentCertificateIsRenewed(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), Hosts: hosts})
	ca, err := authority(s.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	short := &x509.Certificate{NotAfter: time.Now().Add(renewBefore - time.Hour), DNSNames: hosts[:1]}
	if _, err := issue(short, ca, s.cfg.Cert, s.cfg.Key); err != nil {
		t.Fatal(err)
	}
	s.Look()
	s.Look() // takes the short one up
	if got := s.current.Load().Leaf.NotAfter; got.After(time.Now().Add(renewBefore)) {
		t.Fatalf("in use until %s", got)
	}
	s.Look()
	s.Look()
	if got := s.current.Load().Leaf.NotAfter; got.Before(time.Now().Add(renewBefore)) {
		t.Fatalf("not renewed: in use until %s", got)
	}
	if _, _, err := shake(s.Server(), trusting(t, s)); err != nil {
		t.Error(err)
	}
}

func TestHalfAnAuthority(t *testing.T) {
	dir := t.TempDir()
	open(t, Config{Dir: dir, Hosts: hosts})
	if err := os.Remove(filepath.Join(dir, authorityKey)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir, Hosts: hosts}); err == nil || !strings.Contains(err.Error(), "delete") {
		t.Errorf("an authority without its key: %v", err)
	}
	if _, err := Open(Config{Dir: dir, Cert: "x"}); err == nil {
		t.Error("a certificate without a key is taken")
	}
	if _, err := Open(Config{Dir: dir, Cert: filepath.Join(dir, "no"), Key: filepath.Join(dir, "no")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("files that are not there: %v", err)
	}
}

// TestOwnFiles follows the operator's files through good, torn and bad changes.
func TestOwnFiles(t *testing.T) {
	ours, theirs, dir := t.TempDir(), t.TempDir(), t.TempDir()
	var files [2][2][]byte // generation, certificate and key
	for g, from := range []string{ours, theirs} {
		if _, _, err := develop(from, hosts); err != nil {
			t.Fatal(err)
		}
		for i, name := range []string{serverCert, serverKey} {
			content, err := os.ReadFile(filepath.Join(from, name))
			if err != nil {
				t.Fatal(err)
			}
			files[g][i] = content
		}
	}
	cert, key := filepath.Join(dir, "own.crt"), filepath.Join(dir, "own.key")
	put := func(path string, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(cert, files[0][0])
	put(key, files[0][1])
	var log bytes.Buffer
	s := open(t, Config{Cert: cert, Key: key, Dir: filepath.Join(dir, "tls"), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if s.Authority() != "" {
		t.Errorf("own files with the authority %s", s.Authority())
	}
	if _, err := os.Stat(filepath.Join(dir, "tls")); err == nil {
		t.Error("a development authority was made beside own files")
	}
	inUse := func() *x509.Certificate {
		client := &tls.Config{InsecureSkipVerify: true}
		state, _, err := shake(s.Server(), client)
		if err != nil {
			t.Fatal(err)
		}
		return state.PeerCertificates[0]
	}
	first := inUse()
	put(cert, files[1][0]) // the key has not come yet
	s.Look()
	if !inUse().Equal(first) || log.Len() > 0 {
		t.Errorf("after half a change: changed %v, log %q", !inUse().Equal(first), &log)
	}
	put(key, files[1][1])
	s.Look() // perhaps it is still being written
	if !inUse().Equal(first) {
		t.Error("a certificate is in use that may be half of one")
	}
	s.Look()
	second := inUse()
	if second.Equal(first) {
		t.Error("the new certificate is not in use")
	}
	for _, bad := range []func(){
		func() { put(cert, []byte("nonsense")) },
		func() { put(cert, make([]byte, maxFileBytes+1)) },
		func() { put(cert, expired(t, theirs)) },
		func() { os.Remove(cert) },
	} {
		log.Reset()
		bad()
		for range 4 {
			s.Look()
		}
		if !inUse().Equal(second) || strings.Count(log.String(), "level=ERROR") != 1 {
			t.Errorf("bad files: certificate changed %v, log %q", !inUse().Equal(second), &log)
		}
		put(cert, files[1][0])
		put(key, files[1][1])
		s.Look()
	}
	if taken, refused := testutil.ToFloat64(s.reloads.WithLabelValues("taken")), testutil.ToFloat64(s.reloads.WithLabelValues("refused")); taken != 1 || refused != 4 {
		t.Errorf("%v taken, %v refused", taken, refused)
	}
}

// expired puts the key of an expired certificate beside it and answers the certificate.
func expired(t *testing.T, dir string) []byte {
	ca, err := authority(dir)
	if err != nil {
		t.Fatal(err)
	}
	cert := filepath.Join(t.TempDir(), "expired.crt")
	if _, err := issue(&x509.Certificate{NotAfter: time.Now().Add(-time.Minute)}, ca, cert, filepath.Join(t.TempDir(), "k")); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// TestClientCertificates: asked for, not insisted on, possession proven, dates kept.
func TestClientCertificates(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), Hosts: hosts})
	stranger := t.TempDir() // an authority the server knows nothing of
	ca, err := authority(stranger)
	if err != nil {
		t.Fatal(err)
	}
	make := func(notAfter time.Time) tls.Certificate {
		cert, key := filepath.Join(stranger, "c.crt"), filepath.Join(stranger, "c.key")
		if _, err := issue(&x509.Certificate{NotAfter: notAfter}, ca, cert, key); err != nil {
			t.Fatal(err)
		}
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	valid, other, old := make(time.Now().Add(time.Hour)), make(time.Now().Add(time.Hour)), make(time.Now().Add(-time.Minute))
	stolen := tls.Certificate{Certificate: valid.Certificate, PrivateKey: other.PrivateKey}
	for _, c := range []struct {
		name string
		with []tls.Certificate
		ok   bool
	}{{"none", nil, true}, {"of an unknown authority", []tls.Certificate{valid}, true}, {"expired", []tls.Certificate{old}, false}, {"without its key", []tls.Certificate{stolen}, false}} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			client := trusting(t, s)
			client.MaxVersion, client.Certificates = version, c.with
			if _, serverErr, _ := shake(s.Devices(), client); (serverErr == nil) != c.ok {
				t.Errorf("%s, %s: %v", tls.VersionName(version), c.name, serverErr)
			}
		}
	}
}
