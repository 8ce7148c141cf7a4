package bridge

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
)

// guard stands between the socket and the client library, which trusts its broker:
// an annotation whose key is binary, or values nested without end, would end the
// process from a goroutine of the library. Any device may have sent them where a
// broker passes messages on as they are. A message like that costs the connection;
// brokers count the deliveries that end so, and give up on it.
//
// It also holds the bound on a message's size, which the library forgets when the
// broker names none.
type guard struct {
	net.Conn
	in      *bufio.Reader
	frame   []byte            // read and not handed on yet
	partial map[uint64][]byte // messages under way, by channel and handle
	held    int               // bytes in partial
}

const maxFrame = 64 << 10 // the library's default, which it announces

func newGuard(c net.Conn) *guard {
	return &guard{Conn: c, in: bufio.NewReaderSize(c, maxFrame), partial: map[uint64][]byte{}}
}

// Read implements net.Conn, a frame at a time.
func (g *guard) Read(p []byte) (int, error) {
	if len(g.frame) == 0 {
		if err := g.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, g.frame)
	g.frame = g.frame[n:]
	return n, nil
}

// next reads a protocol header or a frame, and looks at it.
func (g *guard) next() error {
	head, err := g.in.Peek(wire.FrameHeaderSize)
	if err == io.EOF && len(head) > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	size := uint32(wire.FrameHeaderSize)
	if !bytes.HasPrefix(head, []byte("AMQP")) {
		size = binary.BigEndian.Uint32(head)
	}
	if size < wire.FrameHeaderSize || size > maxFrame {
		return fmt.Errorf("the broker sent a frame of %d bytes", size)
	}
	frame := make([]byte, size)
	if _, err := io.ReadFull(g.in, frame); err != nil {
		return err
	}
	if err := g.look(frame); err != nil {
		return err
	}
	g.frame = frame
	return nil
}

// look takes the message out of a TRANSFER.
func (g *guard) look(frame []byte) error {
	start := int(frame[4]) * 4
	if frame[5] != wire.FrameAMQP || start < wire.FrameHeaderSize || start > len(frame) || !isTransfer(frame[start:]) {
		return nil
	}
	performative, payload, err := wire.DecodePerformative(frame[start:])
	if err != nil {
		return fmt.Errorf("the broker sent a transfer that cannot be read: %w", err)
	}
	t, ok := performative.(*wire.Transfer)
	if !ok {
		return nil
	}
	link := uint64(binary.BigEndian.Uint16(frame[6:]))<<32 | uint64(t.Handle)
	before := g.partial[link]
	g.held -= len(before)
	delete(g.partial, link)
	switch {
	case t.Aborted:
		return nil
	case g.held+len(before)+len(payload) > maxTransferBytes:
		return fmt.Errorf("the broker sent a message of more than %d bytes", maxTransferBytes)
	case t.More:
		g.partial[link] = append(before, payload...)
		g.held += len(before) + len(payload)
		return nil
	case before != nil:
		payload = append(before, payload...)
	}
	return sound(payload)
}

// isTransfer tells a TRANSFER by its descriptor, in each form it may have.
func isTransfer(body []byte) bool {
	return bytes.HasPrefix(body, []byte{0, 0x53, 0x14}) || bytes.HasPrefix(body, []byte{0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x14}) ||
		bytes.HasPrefix(body, []byte("\x00\xa3\x12amqp:transfer:list"))
}
