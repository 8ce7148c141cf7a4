package packet

import (
	"errors"
	"io"
)

// Sizes of a Reader's buffer, in bytes. It starts small, so that an idle
// connection costs little, and grows while reads keep filling it.
const (
	minBuffer = 512
	maxAhead  = 16 << 10 // beyond this only a packet in the making lets it grow
)

// Reader decodes control packets from a byte stream. It is not safe for
// concurrent use.
type Reader struct {
	src     io.Reader
	buf     []byte
	r, w    int // buf[r:w] is buffered and not decoded
	limit   int
	version Version
	idle    int // reads in a row that used little of the buffer

	publish Publish // reused by every PUBLISH
	ack     Ack     // reused by every acknowledgement
}

// NewReader reads packets of at most limit bytes, fixed header included. With
// version 0 the first packet must be a CONNECT, which then sets the version.
func NewReader(src io.Reader, version Version, limit int) *Reader {
	return &Reader{src: src, version: version, limit: limit}
}

// Renew makes a Reader, of which nothing is needed any more, what NewReader answers, in
// the room it has; with no source it lets go of the one it had.
func (r *Reader) Renew(src io.Reader, version Version, limit int) {
	*r = Reader{src: src, buf: r.buf, version: version, limit: limit}
}

// SetLimit changes the largest packet accepted from here on.
func (r *Reader) SetLimit(limit int) { r.limit = limit }

// Version is the one in use; 0 before a CONNECT was read.
func (r *Reader) Version() Version { return r.version }

// Buffered is how many bytes are read and not yet decoded.
func (r *Reader) Buffered() int { return r.w - r.r }

// Holds reports whether the next packet is of a kind, and all of it is buffered.
func (r *Reader) Holds(kind Type) bool {
	h, err := r.header()
	return err == nil && h.kind == kind && h.size > 0 && r.Buffered() >= h.size
}

// Next decodes the next packet. A Publish and an Ack, with all they hold, are
// valid until the following call; other packets keep nothing of the buffer.
//
// Errors: *Error when the peer broke a rule, after which the stream is lost;
// io.EOF at the end between packets, io.ErrUnexpectedEOF inside one; else the
// source's own, after a time-out of which Next may be called again.
func (r *Reader) Next() (Packet, error) {
	for {
		h, err := r.header()
		if err != nil {
			return nil, err
		}
		if h.size > 0 && r.w-r.r >= h.size {
			body := r.buf[r.r+h.head : r.r+h.size]
			r.r += h.size
			return r.decode(h, body)
		}
		if err := r.fill(h.size); err != nil {
			return nil, err
		}
	}
}

// header describes the packet at the front of the buffer.
type header struct {
	kind  Type
	flags byte
	head  int // bytes of the fixed header
	size  int // bytes of the whole packet; 0 while the fixed header is incomplete
}

func (r *Reader) header() (header, error) {
	b := r.buf[r.r:r.w]
	if len(b) == 0 {
		return header{}, nil
	}
	h := header{kind: Type(b[0] >> 4), flags: b[0] & 15}
	if err := r.checkHeader(h); err != nil {
		return header{}, err
	}
	body, n, err := varint(b[1:], r.version >= V5)
	if err != nil {
		return header{}, err
	}
	if n == 0 {
		return h, nil
	}
	h.head = 1 + n
	h.size = h.head + body
	if h.size > r.limit {
		return header{}, violation(PacketTooLarge, "%s of %d bytes is over the limit of %d", h.kind, h.size, r.limit)
	}
	return h, nil
}

// checkHeader judges the first byte before anything more is read.
func (r *Reader) checkHeader(h header) error {
	switch {
	case r.version == 0 && h.kind != CONNECT:
		return violation(ProtocolError, "the first packet is %s, it must be CONNECT", h.kind)
	case h.kind == 0:
		return malformed("packet type 0 is reserved")
	case h.kind == PUBLISH:
		if err := checkPublishFlags(h.flags); err != nil {
			return err
		}
	case h.flags != h.kind.flags():
		return malformed("%s has the flags %04b, they must be %04b", h.kind, h.flags, h.kind.flags())
	}
	return nil
}

// decode turns a whole body into a packet.
func (r *Reader) decode(h header, body []byte) (Packet, error) {
	d := decoder{b: body, version: r.version}
	var p Packet
	switch h.kind {
	case PUBLISH:
		r.publish.decode(&d, h.flags)
		p = &r.publish
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		r.ack.decode(&d, h.kind)
		p = &r.ack
	case CONNECT:
		c, err := decodeConnect(body)
		if err != nil {
			return nil, err
		}
		r.version = c.Version
		return c, nil
	default:
		p = decodeOther(&d, h.kind)
	}
	if d.err != nil {
		return nil, d.err
	}
	return p, nil
}

func decodeOther(d *decoder, t Type) Packet {
	switch t {
	case CONNACK:
		return decodeConnack(d)
	case SUBSCRIBE:
		return decodeSubscribe(d)
	case SUBACK:
		return decodeSuback(d)
	case UNSUBSCRIBE:
		return decodeUnsubscribe(d)
	case UNSUBACK:
		return decodeUnsuback(d)
	case DISCONNECT:
		return decodeDisconnect(d)
	case AUTH:
		return decodeAuth(d)
	case PINGREQ:
		d.end()
		return Pingreq{}
	default: // checkHeader leaves nothing else
		d.end()
		return Pingresp{}
	}
}

// fill reads once from the source, having made room. need is the size of the
// packet in the making, 0 when it is not known.
func (r *Reader) fill(need int) error {
	r.makeRoom(need)
	for range 100 {
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		if n > 0 {
			return nil
		}
		if errors.Is(err, io.EOF) && r.w > r.r {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// makeRoom guarantees free space behind w. The buffer never grows past twice
// what has really arrived, whatever length was announced.
func (r *Reader) makeRoom(need int) {
	have := r.w - r.r
	full := r.w == len(r.buf)
	size := len(r.buf)
	switch {
	case size == 0:
		size = minBuffer
	case have == 0 && size > maxAhead:
		size = maxAhead
	case have == 0 && r.shrinks():
		size /= 2
	case full && r.r == 0 && have < max(need, maxAhead):
		size = min(2*size, max(need, maxAhead))
	case full && size < maxAhead:
		size *= 2 // reads fill it: read more at a time
	}
	if size != len(r.buf) {
		buf := make([]byte, size)
		copy(buf, r.buf[r.r:r.w])
		r.buf, r.r, r.w = buf, 0, have
		return
	}
	if have == 0 || full || need > len(r.buf)-r.r {
		copy(r.buf, r.buf[r.r:r.w])
		r.r, r.w = 0, have
	}
}

// shrinks reports whether the buffer has been too large for the last reads.
func (r *Reader) shrinks() bool {
	if r.w > len(r.buf)/4 || len(r.buf) <= minBuffer {
		r.idle = 0
		return false
	}
	r.idle++
	if r.idle < 8 {
		return false
	}
	r.idle = 0
	return true
}
