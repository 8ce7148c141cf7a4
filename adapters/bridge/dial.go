package bridge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/Azure/go-amqp"
)

// idleTimeout is after how long a silent broker counts as gone; half of it is
// announced.
const idleTimeout = 30 * time.Second

// maxSecret bounds a password file.
const maxSecret = 4 << 10

// secrets are what the files of a link hold. They are read at each connect, so a
// password or certificate that was replaced is used from the next one on.
type secrets struct {
	password string
	tls      *tls.Config // nil: amqp://
}

func (l *link) readSecrets(u *url.URL) (s secrets, err error) {
	if l.PasswordFile != "" {
		if s.password, err = readPassword(l.PasswordFile); err != nil {
			return s, err
		}
	}
	if u.Scheme != "amqps" {
		return s, nil
	}
	s.tls = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	if l.CAFile != "" {
		raw, err := os.ReadFile(l.CAFile)
		if err != nil {
			return s, err
		}
		s.tls.RootCAs = x509.NewCertPool()
		if !s.tls.RootCAs.AppendCertsFromPEM(raw) {
			return s, fmt.Errorf("%s holds no certificate in PEM", l.CAFile)
		}
	}
	if l.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(l.CertFile, l.KeyFile)
		if err != nil {
			return s, err
		}
		s.tls.Certificates = []tls.Certificate{pair}
	}
	return s, nil
}

// readPassword reads the first line of a file.
func readPassword(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	password, _, _ := strings.Cut(string(raw), "\n")
	if password = strings.TrimRight(password, "\r"); password == "" || len(password) > maxSecret {
		return "", fmt.Errorf("%s must hold a password on its first line", path)
	}
	return password, nil
}

// dial connects to the broker. cut closes the connection without a word.
func (l *link) dial(ctx context.Context) (conn *amqp.Conn, cut func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.DialTimeout)
	defer cancel()
	u, err := url.Parse(l.URL)
	if err != nil {
		return nil, nil, err
	}
	s, err := l.readSecrets(u)
	if err != nil {
		return nil, nil, err
	}
	options := &amqp.ConnOptions{ContainerID: l.cfg.ContainerID + "-" + l.Name, HostName: l.Hostname, IdleTimeout: idleTimeout, MaxFrameSize: maxFrame}
	if options.HostName == "" {
		options.HostName = u.Hostname()
	}
	switch {
	case u.User != nil:
		options.SASLType = amqp.SASLTypePlain(u.User.Username(), s.password)
	case l.CertFile != "":
		options.SASLType = amqp.SASLTypeExternal("")
	default:
		options.SASLType = amqp.SASLTypeAnonymous()
	}
	socket, err := dialSocket(ctx, u, s.tls)
	if err != nil {
		return nil, nil, err
	}
	cut = func() { socket.Close() }
	if conn, err = amqp.NewConn(ctx, newGuard(socket), options); err != nil {
		cut()
		return nil, nil, fmt.Errorf("the broker does not let us in: %w", err)
	}
	return conn, cut, nil
}

func dialSocket(ctx context.Context, u *url.URL, secure *tls.Config) (net.Conn, error) {
	port := u.Port()
	switch {
	case port != "":
	case secure != nil:
		port = "5671"
	default:
		port = "5672"
	}
	address := net.JoinHostPort(u.Hostname(), port)
	if secure == nil {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	return (&tls.Dialer{Config: secure}).DialContext(ctx, "tcp", address)
}
