package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/internal/doorway"
	"github.com/tributary-iot/tributary/internal/tlsfiles"
)

// TestOpenKeepsInside: with --open, doors with TLS that nobody spoke of are for
// this machine only.
func TestOpenKeepsInside(t *testing.T) {
	for _, c := range []struct{ flags, mqtts, https string }{
		{"", ":8883", ":8443"},
		{"--open", "127.0.0.1:8883", "127.0.0.1:8443"},
		{"--open --https off", "127.0.0.1:8883", "off"},
		{"--open --mqtts 127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:8443"},
		{"--mqtts 192.0.2.1:1", "192.0.2.1:1", ":8443"},
	} {
		cfg, err := parseServe(strings.Fields(c.flags)...)
		if err != nil || cfg.MQTTS != c.mqtts || cfg.HTTPS != c.https {
			t.Errorf("%q: %s, %s, %v", c.flags, cfg.MQTTS, cfg.HTTPS, err)
		}
	}
}

// TestOperatorsListenersEncrypt off loopback, and clients know it by the address.
func TestOperatorsListenersEncrypt(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:1": false, "127.9.9.9:1": false, "[::1]:1": false, "localhost:1": false, off: false,
		":1": true, "0.0.0.0:1": true, "[::]:1": true, "192.0.2.1:1": true, "no-such-name.invalid:1": true,
	} {
		if encrypts(addr) != want {
			t.Errorf("%s: %v", addr, !want)
		}
		secure, err := clientTLS(addr, "", t.TempDir())
		if err != nil || (secure != nil) != want && addr != off {
			t.Errorf("a client of %s: %v, %v", addr, secure, err)
		}
	}
	for listened, dialled := range map[string]string{
		"[::]:5": "127.0.0.1:5", "0.0.0.0:5": "127.0.0.1:5", ":5": "127.0.0.1:5", "192.0.2.1:5": "192.0.2.1:5", "box:5": "box:5",
	} {
		if got := reachable(listened); got != dialled {
			t.Errorf("%s is dialled as %s", listened, got)
		}
	}
}

func TestMaxConnections(t *testing.T) {
	for _, c := range []struct {
		said        int
		descriptors uint64
		want        int
	}{{0, 20_000, 5000}, {0, 1 << 30, 50_000}, {0, 0, 10_000}, {0, 8, 16}, {700, 1000, 700}, {700, 0, 700}, {800, 1000, 0}} {
		got, err := (&limits{MaxConnections: c.said}).maxConnections(c.descriptors)
		if got != c.want || (err != nil) != (c.want == 0) {
			t.Errorf("%d said, %d descriptors: %d, %v", c.said, c.descriptors, got, err)
		}
		if all := 3*got + 2*maxOperators(c.descriptors); c.said == 0 && c.descriptors > 1000 && uint64(all) >= c.descriptors {
			t.Errorf("of %d descriptors %d may be connections", c.descriptors, all)
		}
	}
}

// TestHosts: what the development certificate is for.
func TestHosts(t *testing.T) {
	c := serveConfig{listeners: listeners{MQTTS: "box.example:0", HTTPS: ":8443", AMQPS: off, GRPC: off, Admin: "0.0.0.0:1", NATSListen: off}}
	hosts := c.hosts()
	for _, want := range []string{"localhost", "127.0.0.1", "::1", "box.example"} {
		if !slices.Contains(hosts, want) {
			t.Errorf("%s is not among %q", want, hosts)
		}
	}
	if slices.Contains(hosts, "0.0.0.0") || slices.Contains(hosts, "") || len(hosts) > maxHosts {
		t.Errorf("hosts are %q", hosts)
	}
}

func TestAdminOverTLS(t *testing.T) {
	t.Parallel()
	source, err := tlsfiles.Open(tlsfiles.Config{Dir: t.TempDir(), Hosts: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	a := serveAdmin(t, doorway.Config{Name: "admin", TLSAddr: "127.0.0.1:0", TLS: source.Server()})
	secure, err := clientTLS("", source.Authority(), "")
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: secure}}).Get("https://" + a.listener.Addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Error(response.Status)
	}
}

// TestAdminIsCapped: connections that are held open, whoever holds them, leave
// the rest of the process its descriptors; one too many is told so.
func TestAdminIsCapped(t *testing.T) {
	t.Parallel()
	a := serveAdmin(t, doorway.Config{Name: "admin", Addr: "127.0.0.1:0", Max: 1, Refuse: doorway.RefuseHTTP})
	held, err := net.Dial("tcp", a.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	ask := func() int {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
		response, err := client.Get("http://" + a.listener.Addr().String() + "/healthz")
		if err != nil {
			return 0
		}
		response.Body.Close()
		return response.StatusCode
	}
	eventually(t, "a refusal", func() bool { return ask() == http.StatusServiceUnavailable })
	held.Close()
	eventually(t, "an answer once there is a place", func() bool { return ask() == http.StatusOK })
}

// serveAdmin runs the admin listener until the test ends.
func serveAdmin(t *testing.T, at doorway.Config) *admin {
	t.Helper()
	a, err := openAdmin(at, http.NotFoundHandler(), http.NotFoundHandler(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Serve() }()
	t.Cleanup(func() {
		if err := errors.Join(a.Shutdown(context.Background()), <-ended); err != nil {
			t.Error(err)
		}
	})
	return a
}

// TestCommandLineOverTLS talks to gRPC behind TLS: with the authority it trusts
// it works, without one it says what to do.
func TestCommandLineOverTLS(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	addr := tlsBefore(t, s, s.addresses["grpc"])
	s.addDevice("behind-tls")
	token := filepath.Join(s.data, tokenFile)
	out := s.client("device", "list", "--grpc", addr, "--token-file", token, "--ca", s.authority())
	if !strings.Contains(out, "behind-tls") {
		t.Errorf("device list: %q", out)
	}
	cert, _ := clientCertificate(t, "other", time.Now().Add(time.Hour))
	for name, c := range map[string]struct{ ca, want string }{
		"another authority":   {cert, "--ca"},
		"not an authority":    {token, "no certificate"},
		"no such file":        {token + "-no", "cannot be read"},
		"plain, where is TLS": {"", "--ca"},
	} {
		args := []string{"device", "list", "--grpc", addr, "--token-file", token}
		if c.ca != "" {
			args = append(args, "--ca", c.ca)
		}
		if out, err := s.tryClient(args...); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v, %q", name, err, out)
		}
	}
	s.stop()
}

// tlsBefore ends TLS with the server's certificate before a plain listener.
func tlsBefore(t *testing.T, s *server, plain string) (addr string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(s.data, tlsDir, "server.crt"), filepath.Join(s.data, tlsDir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				behind, err := net.Dial("tcp", plain)
				if err != nil {
					return
				}
				defer behind.Close()
				go func() { _, _ = io.Copy(behind, conn); behind.Close() }()
				_, _ = io.Copy(conn, behind)
			}()
		}
	}()
	return l.Addr().String()
}
