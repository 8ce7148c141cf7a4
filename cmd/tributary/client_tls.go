package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/tributary-iot/tributary/internal/tlsfiles"
)

// clientTLS is how a client subcommand speaks TLS to an operator's listener at
// addr: nil for plain, which is for loopback. ca names a file with the authority
// to trust, and asks for TLS in any case; without it the system's authorities
// are trusted, and the development authority in the data directory.
func clientTLS(addr, ca, data string) (*tls.Config, error) {
	if ca == "" && !encrypts(addr) {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil || ca != "" {
		pool = x509.NewCertPool()
	}
	file := ca
	if ca == "" {
		file = filepath.Join(data, tlsDir, tlsfiles.AuthorityFile)
	}
	pem, err := os.ReadFile(file)
	switch {
	case ca == "" && errors.Is(err, fs.ErrNotExist):
		return &tls.Config{RootCAs: pool}, nil
	case err != nil:
		return nil, fmt.Errorf("the authority to trust cannot be read: %w", err)
	case !pool.AppendCertsFromPEM(pem):
		return nil, fmt.Errorf("%s holds no certificate in PEM form: name the authority's certificate", file)
	}
	return &tls.Config{RootCAs: pool}, nil
}

// reachable is an address to dial for one that is listened on.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}
