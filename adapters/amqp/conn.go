package amqp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/doorway"
)

// conn is one connection. Its reader goroutine owns the protocol: it alone
// calls the house and changes which sessions and links there are. Its writer
// goroutine alone writes after the handshake. What the house calls back (an
// outcome, an offer) changes state under mu and wakes the writer.
type conn struct {
	server  *Server
	cfg     *Config
	gate    adapters.Gate
	metrics *metrics
	nc      net.Conn
	in      *bufio.Reader
	log     *slog.Logger

	principal device.Principal
	leave     func(device.Leaving) // tells the house that the session is over; nil before it was entered
	idled     bool                 // nothing was received for too long
	client    string               // the peer's container id
	peerFrame uint32               // the largest frame the peer takes
	peerIdle  time.Duration

	wake       chan struct{} // for the writer; holds one
	writerDone chan struct{} // nil until the writer runs

	mu       sync.Mutex
	changed  *sync.Cond // room to read on, or reason not to
	out      []byte     // frames to write
	after    []func()   // to call once out is written
	toSend   []func()   // commands of applications, in order; the first is under way
	sessions map[uint16]*session
	inflight int            // messages the house has and has not answered
	buffered int            // bytes of them
	partial  int            // bytes of messages not yet complete
	draining bool           // the server is stopping
	expelled device.Leaving // the house wants the connection ended; "" while it does not
	ending   bool           // our CLOSE is in out: write it and stop
	dead     bool           // the socket is closed
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{
		server: s, cfg: &s.cfg, gate: s.gate, metrics: s.metrics, nc: nc,
		in: bufio.NewReaderSize(nc, 4<<10), log: s.cfg.Logger.With("remote", nc.RemoteAddr().String()),
		wake: make(chan struct{}, 1), sessions: map[uint16]*session{},
	}
	c.changed = sync.NewCond(&c.mu)
	return c
}

// serve lives as long as the connection.
func (c *conn) serve() {
	defer c.kill()
	defer c.recover("reader")
	why := errPeerClosed
	defer func() {
		if c.leave != nil {
			c.leave(c.leaving(why))
		}
	}()
	if err := c.handshake(); err != nil {
		why = err
		c.metrics.connects.WithLabelValues("refused").Inc()
		c.log.Debug("handshake failed", "error", err)
		c.linger()
		return
	}
	c.metrics.connects.WithLabelValues("accepted").Inc()
	c.writerDone = make(chan struct{})
	go c.write()
	defer func() { // also when the reader panics
		c.kill()
		c.detachAll("connection lost")
		<-c.writerDone
	}()
	why = errPanicked
	why = c.read()
	c.finish(why)
}

// recover keeps a fault of ours from costing more than this connection.
func (c *conn) recover(where string) {
	if p := recover(); p != nil {
		c.metrics.panics.Inc()
		c.log.Error("a connection failed by our fault", "part", where, "panic", p, "stack", string(debug.Stack()))
		c.kill()
	}
}

// read handles frames until the connection ends, and answers why.
func (c *conn) read() error {
	buf := make([]byte, 0, 1<<10)
	for {
		if err := c.waitForRoom(); err != nil {
			return err
		}
		if err := c.armRead(c.cfg.IdleTimeout); err != nil {
			return err
		}
		channel, body, err := c.readFrame(wire.FrameAMQP, c.cfg.MaxFrameSize, &buf)
		if err != nil {
			return c.readError(err)
		}
		if len(body) == 0 {
			continue // a heartbeat
		}
		if err := c.dispatch(channel, body); err != nil {
			return err
		}
	}
}

// waitForRoom stops reading while the house or the peer's socket is behind.
func (c *conn) waitForRoom() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.dead && !c.draining && c.expelled == "" && (c.buffered > c.cfg.MaxBufferedBytes || len(c.out) > maxOutBytes) {
		c.changed.Wait()
	}
	if c.dead {
		return io.ErrClosedPipe
	}
	if c.partial > maxPartialFactor*c.cfg.maxTransferBytes() {
		return breach(ofConn, wire.CondResourceLimitExceeded, "too many unfinished messages: finish some before beginning others")
	}
	return nil
}

// armRead sets the deadline of the next read, unless a drain wants none.
func (c *conn) armRead(limit time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.expelled != "" {
		return expulsion(c.expelled)
	}
	if c.draining {
		return errDraining
	}
	return c.nc.SetReadDeadline(time.Now().Add(limit))
}

// readFrame reads one frame of the type into buf, which grows as needed.
func (c *conn) readFrame(frameType uint8, limit uint32, buf *[]byte) (uint16, []byte, error) {
	h, err := wire.ReadFrameHeader(c.in, limit)
	if err == nil && h.Type != frameType {
		err = fmt.Errorf("%w: a frame of type %d where type %d is expected", wire.ErrMalformed, h.Type, frameType)
	}
	if err != nil {
		return 0, nil, err
	}
	if n := int(h.Size); cap(*buf) < n {
		*buf = make([]byte, 0, n)
	}
	body, err := h.ReadBody(c.in, *buf)
	return h.Channel, body, err
}

// readError says what a failed read means for the peer.
func (c *conn) readError(err error) error {
	c.mu.Lock()
	draining, expelled := c.draining, c.expelled
	c.mu.Unlock()
	var timeout net.Error
	switch {
	case expelled != "":
		return expulsion(expelled)
	case draining:
		return errDraining
	case errors.Is(err, wire.ErrMalformed):
		return breach(ofConn, wire.CondFramingError, err.Error())
	case errors.As(err, &timeout) && timeout.Timeout():
		c.idled = true
		return breach(ofConn, wire.CondResourceLimitExceeded, fmt.Sprintf("nothing was received for %s; send a heartbeat more often", c.cfg.IdleTimeout))
	}
	return err
}

// dispatch hands one frame to whom it concerns. An error ends the connection.
func (c *conn) dispatch(channel uint16, body []byte) error {
	p, payload, err := wire.DecodePerformative(body)
	if err != nil {
		return breach(ofConn, wire.CondDecodeError, err.Error())
	}
	switch p := p.(type) {
	case *wire.Open:
		return breach(ofConn, wire.CondNotAllowed, "the connection is already open")
	case *wire.Close:
		return errPeerClosed
	case *wire.Begin:
		return c.begin(channel, p)
	}
	s := c.sessions[channel]
	if s == nil {
		return breach(ofConn, wire.CondNotAllowed, fmt.Sprintf("no session has begun on channel %d", channel))
	}
	return s.handle(p, payload)
}

// finish says goodbye: after a drain when everything was answered, after a
// fault with its condition.
func (c *conn) finish(why error) {
	var f *fault
	goodbye := &wire.Close{}
	condition := wire.Symbol("none")
	switch {
	case errors.Is(why, errDraining):
		c.mu.Lock()
		for c.inflight > 0 && !c.dead {
			c.changed.Wait()
		}
		c.mu.Unlock()
		goodbye.Error = &wire.Error{Condition: wire.CondConnectionForced, Description: "the server is stopping; connect again"}
	case errors.As(why, &f):
		goodbye.Error = f.err
	case !errors.Is(why, errPeerClosed): // the socket is gone
		c.metrics.closed("lost")
		c.log.Debug("connection lost", "error", why)
		return
	}
	if goodbye.Error != nil {
		condition = goodbye.Error.Condition
		c.log.Debug("closing", "error", goodbye.Error)
	}
	c.metrics.closed(condition)
	c.detachAll(why.Error())
	c.mu.Lock()
	c.flush()
	c.send(0, goodbye, nil)
	c.ending = true
	c.mu.Unlock()
	c.poke()
	<-c.writerDone
	c.linger()
}

// linger reads on until the peer closes its side, so that what we wrote last is
// not lost to a reset.
func (c *conn) linger() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() != nil {
		return
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerTimeout))
	_, _ = io.Copy(io.Discard, io.LimitReader(c.nc, 16<<20))
}

// drain is told that the server is stopping.
func (c *conn) drain() {
	c.mu.Lock()
	c.draining = true
	_ = c.nc.SetReadDeadline(time.Now())
	c.mu.Unlock()
	c.changed.Broadcast()
}

// expel is told by the house that the session has to end.
func (c *conn) expel(why device.Leaving) {
	c.mu.Lock()
	c.expelled = why
	_ = c.nc.SetReadDeadline(time.Now())
	c.mu.Unlock()
	c.changed.Broadcast()
}

// leaving is why the session was over, from the error that ended it.
func (c *conn) leaving(err error) device.Leaving {
	c.mu.Lock()
	defer c.mu.Unlock()
	var f *fault
	switch {
	case c.expelled != "":
		return c.expelled
	case c.idled:
		return device.LeftKeepAlive
	case errors.Is(err, errPeerClosed):
		return device.LeftClosed
	case errors.Is(err, errDraining):
		return device.LeftDrain
	case errors.As(err, &f):
		return device.LeftFaulty
	}
	return device.LeftLost
}

// kill cuts the connection. It may be called often.
func (c *conn) kill() {
	c.mu.Lock()
	c.dead = true
	c.mu.Unlock()
	doorway.Cut(c.nc)
	c.changed.Broadcast()
	c.poke()
}

// detachAll ends every session and gives the commands back to the house.
func (c *conn) detachAll(reason string) {
	c.mu.Lock()
	var held []supply
	for channel, s := range c.sessions {
		held = append(held, s.shut()...)
		delete(c.sessions, channel)
	}
	c.mu.Unlock()
	for _, a := range held {
		a.Detach(reason)
	}
}

// background is the context of calls to the house on the peer's behalf.
func (c *conn) background() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), c.cfg.HandshakeTimeout)
}
