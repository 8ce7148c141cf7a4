package https

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// webConn is a WebSocket as a net.Conn: a stream of bytes, whose bounds of
// messages mean nothing (MQTT 5, section 6; OASIS AMQP WebSocket binding 2.4).
// What is read is bounded by who reads: a message is never gathered. One
// goroutine reads at a time, any may write.
type webConn struct {
	ws      *websocket.Conn
	message io.Reader // what is left of the message being read; nil: none
	failed  error     // of an earlier Read: a WebSocket does not recover

	half atomic.Bool // our close frame is sent

	mu       sync.Mutex // of writing
	deadline time.Time
}

var _ net.Conn = (*webConn)(nil)

// errText ends a connection on which a peer sent text (MQTT 5, section 6).
var errText = errors.New("a WebSocket message of text came where only binary ones are spoken")

// Read implements net.Conn. io.EOF is a peer that closed in an orderly way.
func (c *webConn) Read(b []byte) (int, error) {
	if c.half.Load() { // what still comes is only read so that our last words arrive
		return c.ws.NetConn().Read(b)
	}
	for c.failed == nil {
		if c.message == nil {
			c.message, c.failed = c.next()
			continue
		}
		n, err := c.message.Read(b)
		switch {
		case err == io.EOF:
			c.message = nil
		case err != nil:
			c.failed = orderly(err)
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, c.failed
}

// next begins the next message.
func (c *webConn) next() (io.Reader, error) {
	kind, r, err := c.ws.NextReader()
	switch {
	case err != nil:
		return nil, orderly(err)
	case kind != websocket.BinaryMessage:
		c.goodbye(websocket.CloseUnsupportedData, "binary messages only")
		return nil, errText
	}
	return r, nil
}

// orderly makes io.EOF of a peer's close frame, and gives a deadline its name,
// which the library takes away.
func orderly(err error) error {
	var closed *websocket.CloseError
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return os.ErrDeadlineExceeded
	}
	if errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure {
		return io.EOF
	}
	return err
}

// Write implements net.Conn: b is one message.
func (c *webConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.half.Load() {
		return 0, net.ErrClosed
	}
	_ = c.ws.SetWriteDeadline(c.deadline) // keeps it only
	if err := c.ws.WriteMessage(websocket.BinaryMessage, b); err != nil {
		return 0, fmt.Errorf("websocket: %w", err)
	}
	return len(b), nil
}

// CloseWrite says goodbye; Read goes on without looking at what comes.
func (c *webConn) CloseWrite() error {
	c.goodbye(websocket.CloseNormalClosure, "")
	return nil
}

// goodbye sends the one close frame. A peer that does not read is not waited for.
func (c *webConn) goodbye(code int, text string) {
	if c.half.CompareAndSwap(false, true) {
		_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, text), time.Now().Add(time.Second))
	}
}

// Close implements net.Conn.
func (c *webConn) Close() error {
	c.goodbye(websocket.CloseNormalClosure, "")
	return c.ws.Close()
}

// NetConn is the connection below.
func (c *webConn) NetConn() net.Conn { return c.ws.NetConn() }

// LocalAddr implements net.Conn.
func (c *webConn) LocalAddr() net.Addr { return c.ws.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *webConn) RemoteAddr() net.Addr { return c.ws.RemoteAddr() }

// SetDeadline implements net.Conn.
func (c *webConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn. A Read that it ends is the last one.
func (c *webConn) SetReadDeadline(t time.Time) error { return c.ws.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn, for the next Write.
func (c *webConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return nil
}
