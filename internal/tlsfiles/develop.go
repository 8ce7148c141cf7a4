package tlsfiles

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tributary-iot/tributary/internal/durable"
)

// The files of a development authority.
const (
	AuthorityFile = "ca.crt" // what clients trust
	authorityKey  = "ca.key"
	serverCert    = "server.crt"
	serverKey     = "server.key"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	serverLife    = 365 * 24 * time.Hour
	renewBefore   = 30 * 24 * time.Hour
	backdated     = time.Hour // for devices whose clock is behind
)

// authorityIn is the development authority's file, "" for files of the operator's own.
func authorityIn(c Config) string {
	if c.Cert != "" && c.Cert != filepath.Join(c.Dir, serverCert) {
		return ""
	}
	return filepath.Join(c.Dir, AuthorityFile)
}

// develop answers the certificate and key that dir's own authority gave this
// server for the hosts. Authority and certificate are made when they are not
// there; the certificate also when it nears its end or is for fewer hosts.
func develop(dir string, hosts []string) (cert, key string, err error) {
	cert, key = filepath.Join(dir, serverCert), filepath.Join(dir, serverKey)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("tls: %w", err)
	}
	ca, err := authority(dir)
	if err != nil {
		return "", "", err
	}
	if good(ca, cert, key, hosts) {
		return cert, key, nil
	}
	names, addresses := split(hosts)
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "Tributary development server"},
		NotAfter:    time.Now().Add(serverLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    names, IPAddresses: addresses,
	}
	_, err = issue(template, ca, cert, key)
	return cert, key, err
}

// signer is an authority that can issue.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// authority reads the authority in dir, and makes it when neither of its files
// is there.
func authority(dir string) (*signer, error) {
	certPath, keyPath := filepath.Join(dir, AuthorityFile), filepath.Join(dir, authorityKey)
	cert, certErr := readPEM(certPath)
	key, keyErr := readPEM(keyPath)
	if errors.Is(certErr, fs.ErrNotExist) && errors.Is(keyErr, fs.ErrNotExist) {
		return issue(&x509.Certificate{
			Subject:  pkix.Name{CommonName: "Tributary development authority", Organization: []string{"made on " + time.Now().UTC().Format(time.DateOnly)}},
			NotAfter: time.Now().Add(authorityLife), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}, nil, certPath, keyPath)
	}
	if err := errors.Join(certErr, keyErr); err != nil {
		return nil, fmt.Errorf("tls: the development authority is not whole (%w): delete %s and a new one is made, which clients must trust anew", err, dir)
	}
	s, err := parseSigner(cert, key)
	if err != nil {
		return nil, fmt.Errorf("tls: the development authority in %s cannot be used (%w): delete it and a new one is made, which clients must trust anew", dir, err)
	}
	return s, nil
}

func parseSigner(cert, key []byte) (*signer, error) {
	c, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	private, ok := k.(*ecdsa.PrivateKey)
	if !ok || !private.PublicKey.Equal(c.PublicKey) {
		return nil, errors.New("key and certificate do not belong together")
	}
	if time.Now().After(c.NotAfter) {
		return nil, fmt.Errorf("it expired at %s", c.NotAfter.UTC().Format(time.RFC3339))
	}
	return &signer{c, private}, nil
}

// good reports whether the certificate is one of ca's, lives on for a while
// and is for all the hosts.
func good(ca *signer, certPath, keyPath string, hosts []string) bool {
	certDER, err := readPEM(certPath)
	if err != nil {
		return false
	}
	keyDER, err := readPEM(keyPath)
	if err != nil {
		return false
	}
	s, err := parseSigner(certDER, keyDER)
	if err != nil || s.cert.CheckSignatureFrom(ca.cert) != nil || time.Until(s.cert.NotAfter) < renewBefore {
		return false
	}
	return !slices.ContainsFunc(hosts, func(h string) bool { return s.cert.VerifyHostname(h) != nil })
}

// issue makes a key and a certificate signed by parent, nil for itself, and
// writes both.
func issue(template *x509.Certificate, parent *signer, certPath, keyPath string) (*signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	if parent == nil {
		parent = &signer{template, key}
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	template.NotBefore = time.Now().Add(-backdated)
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, &key.PublicKey, parent.key)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	if err := writePEM(keyPath, "PRIVATE KEY", keyDER, 0o600); err != nil {
		return nil, err
	}
	if err := writePEM(certPath, "CERTIFICATE", der, 0o644); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &signer{cert, key}, err
}

// split sorts hosts into DNS names and addresses.
func split(hosts []string) (names []string, addresses []net.IP) {
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			addresses = append(addresses, ip)
		} else if h != "" {
			names = append(names, h)
		}
	}
	return names, addresses
}

func readPEM(path string) ([]byte, error) {
	content, err := readFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%s is not in PEM form", path)
	}
	return block.Bytes, nil
}

func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	if err := durable.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	return nil
}
