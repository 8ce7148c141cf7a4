package doorway

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"time"
)

// accept takes what comes to one listener, until Close.
func (d *Door) accept(l net.Listener, secure bool) {
	pause := 5 * time.Millisecond
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 5 * time.Millisecond
			d.admit(conn, secure)
		case d.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		default: // out of file descriptors, most likely: it passes
			d.cfg.Logger.Error("cannot accept, trying again", "error", err, "retry_in", pause)
			select {
			case <-time.After(pause):
			case <-d.ctx.Done():
				return
			}
			pause = min(2*pause, time.Second)
		}
	}
}

// admit gives a connection its place, or turns it away.
func (d *Door) admit(conn net.Conn, secure bool) {
	select {
	case d.free <- struct{}{}:
	default:
		d.refused.Inc()
		if d.cfg.Refuse != nil && !secure {
			// A fresh socket's buffer takes it at once, so accepting goes on.
			_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			d.cfg.Refuse(conn)
		}
		_ = conn.Close()
		return
	}
	d.sockets.Inc()
	s := &socket{Conn: conn, door: d}
	if !secure {
		d.hand(s)
		return
	}
	go d.shake(s)
}

// shake does the server's side of the TLS handshake.
func (d *Door) shake(s *socket) {
	defer func() {
		if p := recover(); p != nil {
			d.cfg.Logger.Error("a TLS handshake failed by our fault", "panic", p, "stack", string(debug.Stack()))
			_ = s.Close()
		}
	}()
	_ = s.SetDeadline(time.Now().Add(d.cfg.Timeout))
	conn := tls.Server(s, d.tls)
	if err := conn.HandshakeContext(d.ctx); err != nil {
		result := "failed"
		if errors.Is(err, errBusy) {
			result = "busy"
		}
		d.handshakes.WithLabelValues(result).Inc()
		d.cfg.Logger.Debug("TLS handshake failed", "remote", s.RemoteAddr().String(), "error", err)
		_ = s.Close()
		return
	}
	s.yield()
	d.handshakes.WithLabelValues("done").Inc()
	_ = s.SetDeadline(time.Time{})
	s.endWith(PeerCertificate(conn))
	d.hand(conn)
}

// hand gives a connection to whoever takes them.
func (d *Door) hand(conn net.Conn) {
	if d.each != nil {
		d.each(conn)
		return
	}
	select {
	case d.ready <- conn:
	case <-d.ctx.Done():
		Cut(conn)
	}
}

// RefuseHTTP is Config.Refuse of a listener that speaks HTTP (RFC 9110, section
// 15.6.4).
func RefuseHTTP(conn net.Conn) {
	_, _ = io.WriteString(conn, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
}
