package wire

import (
	"encoding/binary"
	"io"
)

// Frame types (part 2, section 3.1; part 5, section 3.1).
const (
	FrameAMQP uint8 = 0
	FrameSASL uint8 = 1
)

// Protocol ids of the protocol header (part 2, section 2; part 5, section 2).
const (
	ProtoAMQP uint8 = 0
	ProtoTLS  uint8 = 2
	ProtoSASL uint8 = 3
)

// MinMaxFrameSize is the frame size every peer must take (part 2, section 8.24).
const MinMaxFrameSize = 512

// FrameHeaderSize is the size of a frame without a body.
const FrameHeaderSize = 8

// ProtocolHeader is the eight bytes a connection starts with.
func ProtocolHeader(id uint8) [8]byte { return [8]byte{'A', 'M', 'Q', 'P', id, 1, 0, 0} }

// FrameHeader is the head of a frame.
type FrameHeader struct {
	Size    uint32 // of the whole frame
	Type    uint8
	Channel uint16
	body    uint32 // where it starts
}

// ReadFrameHeader reads the head of a frame. A size or data offset that cannot
// be, and a frame larger than limit, is an error before its body is read.
func ReadFrameHeader(r io.Reader, limit uint32) (FrameHeader, error) {
	var b [FrameHeaderSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return FrameHeader{}, err
	}
	h := FrameHeader{
		Size:    binary.BigEndian.Uint32(b[0:]),
		body:    uint32(b[4]) * 4,
		Type:    b[5],
		Channel: binary.BigEndian.Uint16(b[6:]),
	}
	switch {
	case h.Size < FrameHeaderSize:
		return h, malformed("a frame of %d bytes", h.Size)
	case h.Size > limit:
		return h, malformed("a frame of %d bytes, the limit is %d", h.Size, limit)
	case h.body < FrameHeaderSize || h.body > h.Size:
		return h, malformed("a data offset of %d in a frame of %d bytes", h.body, h.Size)
	}
	return h, nil
}

// ReadBody reads what follows the header into buf, which has room for the
// Size-8 bytes of it, and answers the body without the extended header.
func (h FrameHeader) ReadBody(r io.Reader, buf []byte) ([]byte, error) {
	buf = buf[:h.Size-FrameHeaderSize]
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, err
	}
	return buf[h.body-FrameHeaderSize:], nil
}

// AppendFrame writes a frame: head, performative (nil for an empty frame, which
// is a heartbeat) and payload.
func AppendFrame(dst []byte, frameType uint8, channel uint16, p Performative, payload []byte) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, 2, frameType, byte(channel>>8), byte(channel))
	if p != nil {
		dst = p.Append(dst)
	}
	dst = append(dst, payload...)
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst
}
