package https

import (
	"net"
	"sync"
	"time"
)

// cappedListener turns connections above its capacity away in HTTP's own words.
type cappedListener struct {
	net.Listener
	free    chan struct{} // one slot a connection
	metrics *metrics
}

const full = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

// Accept implements net.Listener.
func (l *cappedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			l.metrics.connections.Inc()
			return &cappedConn{Conn: conn, release: sync.OnceFunc(l.release)}, nil
		default:
			l.metrics.refused.Inc()
			// A fresh socket's buffer takes this at once, so accepting goes on.
			_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			_, _ = conn.Write([]byte(full))
			_ = conn.Close()
		}
	}
}

func (l *cappedListener) release() {
	<-l.free
	l.metrics.connections.Dec()
}

// cappedConn gives its slot back when it is closed.
type cappedConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *cappedConn) Close() error {
	err := c.Conn.Close()
	c.release()
	return err
}
