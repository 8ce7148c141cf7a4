package doorway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// socket is an accepted connection. It holds a place of its door until it is
// closed, and one of its turns while it computes its handshake.
type socket struct {
	net.Conn
	door   *Door
	turn   atomic.Bool
	closed sync.Once

	mu  sync.Mutex
	end *time.Timer // when the peer's certificate expires; nil: never
}

// errBusy ends a handshake whose turn did not come in time.
var errBusy = errors.New("too many handshakes at once")

// takeTurn waits until few enough handshakes are being computed. It is called
// once the client's hello is there and before anything is computed for it, so a
// peer that says nothing takes no turn; and the turn ends when we wait for the
// peer again. Those who wait are served in the order they came.
func takeTurn(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	s := hello.Conn.(*socket)
	patience := time.NewTimer(s.door.cfg.Timeout)
	defer patience.Stop()
	select {
	case s.door.turns <- struct{}{}:
	case <-patience.C:
		return nil, errBusy
	case <-hello.Context().Done():
		return nil, hello.Context().Err()
	}
	s.turn.Store(true)
	_ = s.SetDeadline(time.Now().Add(s.door.cfg.Timeout)) // the peer did not make us wait
	return nil, nil
}

// yield ends the socket's turn, if it has one.
func (s *socket) yield() {
	if s.turn.Load() && s.turn.CompareAndSwap(true, false) {
		<-s.door.turns
	}
}

// Read implements net.Conn.
func (s *socket) Read(b []byte) (int, error) {
	s.yield()
	return s.Conn.Read(b)
}

// CloseWrite half-closes the connection, so that the peer can read our last
// words and see that they are the last.
func (s *socket) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SyscallConn is the file behind the socket, for whoever waits for it in
// another way (package parking).
func (s *socket) SyscallConn() (syscall.RawConn, error) {
	if c, ok := s.Conn.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// Close implements net.Conn.
func (s *socket) Close() error {
	err := s.Conn.Close()
	s.closed.Do(func() {
		s.mu.Lock()
		if s.end != nil {
			s.end.Stop()
		}
		s.mu.Unlock()
		s.yield()
		s.door.sockets.Dec()
		<-s.door.free
	})
	return err
}

// endWith cuts the connection when the peer's certificate expires: it would not
// be let in then.
func (s *socket) endWith(cert *x509.Certificate) {
	if cert == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end = time.AfterFunc(time.Until(cert.NotAfter), func() { _ = s.Close() })
}

// wrapper is a connection that speaks over another one: *tls.Conn, WebSockets.
type wrapper interface{ NetConn() net.Conn }

// PeerCertificate is the certificate whose key the peer of a TLS connection
// proved to hold, below whatever is spoken over it; nil when it showed none.
func PeerCertificate(conn net.Conn) *x509.Certificate {
	for {
		if secure, ok := conn.(*tls.Conn); ok {
			if chain := secure.ConnectionState().PeerCertificates; len(chain) > 0 {
				return chain[0]
			}
			return nil
		}
		over, ok := conn.(wrapper)
		if !ok {
			return nil
		}
		conn = over.NetConn()
	}
}

// Cut closes a connection at once: no goodbye of TLS or WebSocket, which a peer
// that does not read would make wait.
func Cut(conn net.Conn) {
	for over, ok := conn.(wrapper); ok; over, ok = conn.(wrapper) {
		conn = over.NetConn()
	}
	_ = conn.Close()
}
