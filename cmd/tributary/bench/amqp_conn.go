package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// amqpConn is one AMQP 1.0 connection with one session and one sending link. Like
// mqttConn it writes the few frames it needs by hand, so that the generator costs
// as little as it can on the machine it shares with the server.
type amqpConn struct {
	conn net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	body []byte // of the newest frame, until the next is read

	sent     uint64 // deliveries, each one transfer, whose number is its delivery-id
	credit   uint64 // sent may come this far on the link
	window   uint64 // and this far in the session
	message  []byte // header and properties sections of every message
	transfer []byte // the frame in the making
}

// The descriptors of what we read and write (AMQP 1.0, parts 2.7, 2.8, 3.4, 5.3).
const (
	amqpOpen        = 0x10
	amqpBegin       = 0x11
	amqpAttach      = 0x12
	amqpFlow        = 0x13
	amqpTransfer    = 0x14
	amqpDisposition = 0x15
	amqpAccepted    = 0x24
	saslMechanisms  = 0x40
	saslInit        = 0x41
	saslOutcome     = 0x44
)

// amqpSASL is how a connection says who it is: a mechanism and its response.
type amqpSASL struct{ mechanism, response string }

// dialAMQP opens a connection and attaches a sender to target.
func dialAMQP(ctx context.Context, addr, name, target string, sasl amqpSASL) (*amqpConn, error) {
	conn, err := dial(ctx, &net.Dialer{}, addr)
	if err != nil {
		return nil, err
	}
	c := &amqpConn{conn: conn, r: bufio.NewReaderSize(conn, 16<<10), w: bufio.NewWriterSize(conn, 32<<10)}
	conn.SetDeadline(time.Now().Add(ackPatience))
	if err := c.open(name, target, sasl); err != nil {
		conn.Close()
		return nil, fmt.Errorf("AMQP connection %s: %w", name, err)
	}
	conn.SetDeadline(time.Time{})
	return c, nil
}

func (c *amqpConn) open(name, target string, sasl amqpSASL) error {
	if err := c.header(3); err != nil {
		return err
	}
	if _, err := c.await(saslMechanisms); err != nil {
		return err
	}
	c.write(1, saslInit, amqpSymbol(sasl.mechanism), amqpBinary(sasl.response))
	outcome, err := c.await(saslOutcome)
	if err != nil {
		return err
	}
	if code := outcome.next(); len(code) != 2 || code[1] != 0 {
		return fmt.Errorf("SASL %s is refused", sasl.mechanism)
	}
	if err := c.header(0); err != nil {
		return err
	}
	c.write(0, amqpOpen, amqpString(name), amqpString("localhost"))
	const window = 0x7fffffff
	c.write(0, amqpBegin, amqpNull, amqpUint(0), amqpUint(window), amqpUint(window))
	source := amqpDescribed(0x28, amqpString(name))
	c.write(0, amqpAttach, amqpString(name), amqpUint(0), amqpFalse, amqpNull, amqpNull, source, amqpDescribed(0x29, amqpString(target)), amqpNull, amqpNull, amqpUint(0))
	if _, err := c.await(amqpOpen); err != nil {
		return err
	}
	begun, err := c.await(amqpBegin)
	if err != nil {
		return err
	}
	begun.skip(2)
	c.window = uint64(begun.uint())
	if _, err := c.await(amqpAttach); err != nil {
		return err
	}
	c.message = append(amqpDescribed(0x70, amqpTrue), amqpDescribed(0x73, amqpNull, amqpNull, amqpNull, amqpNull, amqpNull, amqpNull, amqpSymbol("application/json"))...)
	return nil
}

// header exchanges the protocol header: 3 for SASL, 0 for AMQP itself.
func (c *amqpConn) header(protocol byte) error {
	ours := [8]byte{'A', 'M', 'Q', 'P', protocol, 1, 0, 0}
	c.w.Write(ours[:])
	if err := c.w.Flush(); err != nil {
		return err
	}
	var theirs [8]byte
	if _, err := io.ReadFull(c.r, theirs[:]); err != nil {
		return err
	}
	if theirs != ours {
		return fmt.Errorf("protocol header % x is answered with % x", ours, theirs)
	}
	return nil
}

// write buffers one frame of channel 0.
func (c *amqpConn) write(kind, descriptor byte, fields ...[]byte) {
	body := amqpDescribed(descriptor, fields...)
	c.w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(8+len(body))), 2, kind, 0, 0))
	c.w.Write(body)
}

// await flushes and reads on until a frame of the descriptor comes.
func (c *amqpConn) await(descriptor byte) (*amqpFields, error) {
	if err := c.w.Flush(); err != nil {
		return nil, err
	}
	for {
		got, fields, err := c.frame()
		if err != nil {
			return nil, err
		}
		if got == descriptor {
			return fields, nil
		}
		if err := c.take(got, fields); err != nil {
			return nil, err
		}
	}
}

// frame reads one; an empty one is of descriptor 0.
func (c *amqpConn) frame() (descriptor byte, fields *amqpFields, err error) {
	head, err := c.r.Peek(8)
	if err != nil {
		return 0, nil, err
	}
	size, offset := int(binary.BigEndian.Uint32(head)), 4*int(head[4])
	if offset < 8 || size < offset || size > 1<<20 {
		return 0, nil, fmt.Errorf("frame of %d bytes that begins at %d", size, offset)
	}
	if cap(c.body) < size {
		c.body = make([]byte, size)
	}
	c.body = c.body[:size]
	if _, err := io.ReadFull(c.r, c.body); err != nil {
		return 0, nil, err
	}
	if size == offset {
		return 0, nil, nil
	}
	return amqpList(c.body[offset:])
}

// take notes what a flow grants; the end of the link, the session or the
// connection is an error.
func (c *amqpConn) take(descriptor byte, f *amqpFields) error {
	switch descriptor {
	case 0, amqpAttach, saslMechanisms:
	case amqpFlow:
		next, window := f.uint(), f.uint()
		c.window = c.ahead(next, window)
		f.skip(2)
		if handle := f.next(); len(handle) > 0 && handle[0] != amqpNull[0] {
			count, credit := f.uint(), f.uint()
			c.credit = c.ahead(count, credit)
		}
	default:
		return fmt.Errorf("expected no frame %#x: % x", descriptor, c.body)
	}
	return nil
}

// ahead is how far sent may come when the peer, having seen seen of it modulo 2^32,
// takes more.
func (c *amqpConn) ahead(seen, more uint32) uint64 {
	return c.sent - uint64(uint32(c.sent)-seen) + uint64(more)
}

// publish keeps inFlight messages unsettled until ctx ends, then waits for what is
// under way. One goroutine does it all: it writes what it may, and reads.
func (c *amqpConn) publish(ctx context.Context, inFlight int, bodies [][]byte) (result, error) {
	defer context.AfterFunc(ctx, func() { c.conn.SetReadDeadline(time.Now().Add(ackPatience)) })()
	var r result
	open := make(map[uint32]time.Time, inFlight) // by delivery-id: when it was sent
	for {
		for len(open) < inFlight && ctx.Err() == nil && c.sent < min(c.credit, c.window) {
			open[uint32(c.sent)] = time.Now()
			c.send(bodies[c.sent%uint64(len(bodies))])
		}
		if len(open) == 0 && ctx.Err() != nil {
			return r, c.w.Flush()
		}
		if c.r.Buffered() == 0 {
			if err := c.w.Flush(); err != nil {
				return r, err
			}
		}
		descriptor, fields, err := c.frame()
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout() && ctx.Err() != nil:
			r.refused += len(open)
			return r, nil
		case err != nil:
			return r, err
		case descriptor == amqpDisposition:
			err = r.settle(fields, open)
		default:
			err = c.take(descriptor, fields)
		}
		if err != nil {
			return r, err
		}
	}
}

// settle takes a disposition.
func (r *result) settle(f *amqpFields, open map[uint32]time.Time) error {
	f.skip(1)
	first := f.uint()
	last := max(first, f.uint())
	f.skip(1)
	state := f.next()
	if last-first > 1<<16 {
		return fmt.Errorf("disposition of %d to %d", first, last)
	}
	for id := first; id <= last; id++ {
		sent, ours := open[id]
		switch delete(open, id); {
		case !ours:
		case len(state) > 2 && state[2] == amqpAccepted:
			r.acked++
			r.latencies = append(r.latencies, time.Since(sent))
		default:
			r.refused++
		}
	}
	return nil
}

// send buffers the next message in one transfer.
func (c *amqpConn) send(body []byte) {
	id := binary.BigEndian.AppendUint32(nil, uint32(c.sent))
	c.sent++
	f := append(c.transfer[:0], 0, 0, 0, 0, 2, 0, 0, 0, 0, 0x53, amqpTransfer, 0xc0, 15, 5, 0x43, 0x70)
	f = append(append(append(f, id...), 0xa0, 4), id...) // the delivery-tag is the delivery-id
	f = append(append(f, 0x43, amqpFalse[0]), c.message...)
	f = append(f, 0, 0x53, 0x75, 0xb0)
	f = append(binary.BigEndian.AppendUint32(f, uint32(len(body))), body...)
	binary.BigEndian.PutUint32(f, uint32(len(f)))
	c.transfer = f
	c.w.Write(f)
}
