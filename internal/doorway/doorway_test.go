package doorway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tributary-iot/tributary/internal/doorway"
)

const patience = 30 * time.Second

// certificate is one that signed itself.
func certificate(t *testing.T, notAfter time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// echoing is a door behind which everything is sent back.
type echoing struct {
	*doorway.Door
	t          *testing.T
	registry   *prometheus.Registry
	plain, tls string

	mu     sync.Mutex
	shown  []*x509.Certificate // by peers, nil for none
	served sync.WaitGroup
}

func open(t *testing.T, cfg doorway.Config) *echoing {
	t.Helper()
	e := &echoing{t: t, registry: prometheus.NewRegistry()}
	cfg.Name, cfg.Addr, cfg.TLSAddr, cfg.Registerer = "echo", "127.0.0.1:0", "127.0.0.1:0", e.registry
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(t, time.Now().Add(time.Hour))}, ClientAuth: tls.RequestClientCert}
	var err error
	if e.Door, err = doorway.Open(cfg); err != nil {
		t.Fatal(err)
	}
	e.plain, e.tls = e.Addrs()["echo"].String(), e.Addrs()["echos"].String()
	ended := make(chan error, 1)
	go func() { ended <- e.serve() }()
	t.Cleanup(func() {
		if err := errors.Join(e.Close(), e.Close()); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept ended with %v", err)
		}
		e.served.Wait()
	})
	return e
}

func (e *echoing) serve() error {
	for {
		conn, err := e.Accept()
		if err != nil {
			return err
		}
		e.mu.Lock()
		e.shown = append(e.shown, doorway.PeerCertificate(conn))
		e.mu.Unlock()
		e.served.Go(func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		})
	}
}

func (e *echoing) dial(addr string) net.Conn {
	e.t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

func client(with ...tls.Certificate) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, Certificates: with}
}

// echoes reports whether the peer sends back what it is sent.
func echoes(conn net.Conn) error {
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

// wants checks a metric of the door, which may come to its value a little later.
func (e *echoing) wants(name string, value float64) {
	e.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		got, sum := 0., 0.
		families, err := e.registry.Gather()
		if err != nil {
			e.t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				key := strings.TrimPrefix(f.GetName(), "tributary_echo_")
				for _, l := range m.GetLabel() {
					key += "/" + l.GetValue()
				}
				if sum = m.GetCounter().GetValue() + m.GetGauge().GetValue(); key == name {
					got += sum
				}
			}
		}
		if got == value {
			return
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("%s is %v, want %v", name, got, value)
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

func TestBothListeners(t *testing.T) {
	e := open(t, doorway.Config{})
	if err := echoes(e.dial(e.plain)); err != nil {
		t.Errorf("plain: %v", err)
	}
	own := certificate(t, time.Now().Add(time.Hour))
	for _, config := range []*tls.Config{client(), client(own)} {
		if err := echoes(tls.Client(e.dial(e.tls), config)); err != nil {
			t.Errorf("tls: %v", err)
		}
	}
	if err := echoes(e.dial(e.tls)); err == nil {
		t.Error("plain bytes are taken where TLS is spoken")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.shown) != 3 || e.shown[0] != nil || e.shown[1] != nil || e.shown[2] == nil || string(e.shown[2].Raw) != string(own.Certificate[0]) {
		t.Errorf("certificates seen: %v", e.shown)
	}
	e.wants("tls_handshakes_total/done", 2)
	e.wants("tls_handshakes_total/failed", 1)
}

// TestAFullDoor turns away, in the protocol's words where there is no TLS, and
// has room again when somebody leaves.
func TestAFullDoor(t *testing.T) {
	e := open(t, doorway.Config{Max: 2, Refuse: func(c net.Conn) { _, _ = io.WriteString(c, "full") }})
	first, second := e.dial(e.plain), tls.Client(e.dial(e.tls), client())
	if err := errors.Join(echoes(first), echoes(second)); err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(e.dial(e.plain)); string(said) != "full" {
		t.Errorf("the third is told %q, %v", said, err)
	}
	if err := tls.Client(e.dial(e.tls), client()).Handshake(); err == nil {
		t.Error("the fourth gets in")
	}
	e.wants("connections_refused_total", 2)
	e.wants("sockets", 2)
	second.Close()
	e.wants("sockets", 1)
	if err := echoes(e.dial(e.plain)); err != nil {
		t.Errorf("after one left: %v", err)
	}
}

// stalling is a client connection that sends no more than its hello.
type stalling struct {
	net.Conn
	wrote bool
	end   <-chan struct{}
}

func (s *stalling) Write(b []byte) (int, error) {
	if s.wrote {
		<-s.end
		return 0, net.ErrClosed
	}
	s.wrote = true
	return s.Conn.Write(b)
}

// TestSlowHandshakesHinderNobody: many more than there are turns say nothing,
// or nothing after their hello, and others come in; then the slow are cut.
func TestSlowHandshakesHinderNobody(t *testing.T) {
	const slow = 300
	e := open(t, doorway.Config{Timeout: 4 * time.Second})
	for i := range slow {
		conn := e.dial(e.tls)
		if i%2 == 0 {
			go func() { _ = tls.Client(&stalling{Conn: conn, end: t.Context().Done()}, client()).Handshake() }()
		}
	}
	for range 20 {
		if err := echoes(tls.Client(e.dial(e.tls), client())); err != nil {
			t.Fatal(err)
		}
	}
	e.wants("tls_handshakes_total/failed", slow)
	e.wants("sockets", 20)
}

// TestCloseEndsHandshakes that are under way, and leaves the rest alone.
func TestCloseEndsHandshakes(t *testing.T) {
	e := open(t, doorway.Config{})
	good := tls.Client(e.dial(e.tls), client())
	if err := echoes(good); err != nil {
		t.Fatal(err)
	}
	waiting := e.dial(e.tls)
	e.wants("sockets", 2)
	e.Close()
	if _, err := waiting.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a handshake under way: %v", err)
	}
	if err := echoes(good); err != nil {
		t.Errorf("a connection that was in: %v", err)
	}
	good.Close()
}

// TestACertificateEndsItsConnection when it expires.
func TestACertificateEndsItsConnection(t *testing.T) {
	e := open(t, doorway.Config{})
	conn := tls.Client(e.dial(e.tls), client(certificate(t, time.Now().Add(2*time.Second))))
	if err := echoes(conn); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection goes on: %v", err)
	}
	e.wants("sockets", 0)
}

func TestOpenRefuses(t *testing.T) {
	taken := open(t, doorway.Config{})
	for name, cfg := range map[string]doorway.Config{
		"no address":     {Name: "x", Addr: doorway.Off},
		"no certificate": {Name: "x", TLSAddr: "127.0.0.1:0"},
		"taken":          {Name: "x", Addr: "127.0.0.1:0", TLSAddr: taken.tls, TLS: &tls.Config{}},
	} {
		if d, err := doorway.Open(cfg); err == nil {
			d.Close()
			t.Errorf("%s: opened", name)
		}
	}
	if n, err := testutil.GatherAndCount(taken.registry); err != nil || n == 0 {
		t.Errorf("%d metrics, %v", n, err)
	}
}
