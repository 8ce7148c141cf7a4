package mqtt

import (
	"runtime"
	"slices"
	"time"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/internal/doorway"
)

// output is what waits to be written. The writer runs only while there is
// something, so an idle connection costs one goroutine, and everything that
// gathers during a write leaves in the next one.
type output struct {
	out     []byte
	after   []*delivery // QoS 0 deliveries in out, settled once it is written
	writing bool
	inHand  bool   // the reading goroutine writes what is queued, before it reads on
	spoke   bool   // something was queued at least once
	broken  bool   // the peer cannot be written to
	left    uint16 // bytes that left the queue so far, up to easyOutput
}

const (
	keptBuffer    = 64 << 10 // larger buffers are left to the collector
	writeAtOnce   = 64 << 10 // what a peer must take within Config.WriteTimeout
	maxReasonText = 400      // bytes of a Reason String

	// easyOutput is how many bytes a new connection's socket takes at once, though
	// the peer reads nothing.
	easyOutput = 2 << 10
)

// send queues a packet.
func (s *session) send(p packet.Packet) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.append(p)
	return nil
}

// append queues a packet of ours, which always can be encoded; one the client
// said it cannot take is left out (3.1.2.11.4). It reports whether it was
// queued. The lock is held.
func (s *session) append(p packet.Packet) bool {
	if s.sealed || s.broken {
		return false
	}
	start := len(s.room())
	out, err := p.Append(s.out, s.version)
	if err == nil && len(out)-start > s.peerPacketLimit() {
		out = out[:start]
	}
	if err != nil {
		s.srv.cfg.Logger.Error("cannot encode a packet", "type", p.Type().String(), "error", err)
	}
	s.out, s.spoke = out, true
	s.kick()
	return len(out) > start
}

// appendReason queues a refusal with its reason in words, where the client
// wants them and can take them.
func (s *session) appendReason(p packet.Packet, text string) {
	props := reasonText(text)
	switch p := p.(type) {
	case *packet.Ack:
		if s.problems {
			with := *p
			with.Properties = props
			if s.append(&with) {
				return
			}
		}
	case *packet.Connack:
		with := *p
		with.Properties = slices.Concat(p.Properties, props)
		if s.append(&with) {
			return
		}
	case *packet.Disconnect:
		with := *p
		with.Properties = slices.Concat(p.Properties, props)
		if s.append(&with) {
			return
		}
	}
	s.append(p)
}

func reasonText(text string) packet.Properties {
	if text == "" {
		return nil
	}
	var p packet.Properties
	p.AddText(packet.ReasonString, cutTo(text, maxReasonText))
	return p
}

func (s *session) peerPacketLimit() int {
	if s.peerPacket == 0 {
		return packet.MaxPacketBytes // before CONNECT
	}
	return int(s.peerPacket)
}

// room makes sure there is a buffer to append to.
func (s *session) room() []byte {
	if s.out == nil {
		if b, ok := s.srv.buffers.Get().(*[]byte); ok {
			s.out = (*b)[:0]
		} else {
			s.out = make([]byte, 0, 512)
		}
	}
	return s.out
}

// kick starts the writer when there is something to write.
func (s *session) kick() {
	if len(s.out) > 0 && !s.writing && !s.broken && !s.inHand {
		s.writing = true
		go s.write()
	}
}

// hold leaves what is queued from now on to the reading goroutine, which calls it, if a
// new connection takes that at once: CONNACK and the first SUBACK need no goroutine of
// their own. The lock is held.
func (s *session) hold() {
	s.inHand = !s.writing && int(s.left)+len(s.out) < easyOutput
}

// holds reports whether something is held.
func (s *session) holds() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inHand && len(s.out) > 0
}

// letGo has what was held written by a goroutine of its own: the one that reads is busy.
func (s *session) letGo() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inHand = false
	s.kick()
}

// release writes what was held. The lock is held; it is let go meanwhile.
func (s *session) release() {
	if !s.inHand {
		return
	}
	s.inHand = false
	if len(s.out) == 0 || s.writing || s.broken {
		return
	}
	s.writing = true
	s.mu.Unlock()
	defer s.mu.Lock()
	s.writeOut(true)
}

// flush waits until everything is written or the peer is lost. The lock is held.
func (s *session) flush() {
	s.inHand = false
	s.kick()
	for s.writing {
		s.awaitChange()
	}
}

func (s *session) write() {
	runtime.Gosched() // let whoever is acknowledging a batch finish: fewer, larger writes
	s.writeOut(false)
}

// writeOut writes what is queued; what is not easy any more it leaves to a goroutine
// of its own, if it is to.
func (s *session) writeOut(easy bool) {
	var err error
	defer func() {
		if err != nil {
			s.writeFailed(err)
		}
	}()
	defer s.contain(&err)
	for {
		buf, after, first := s.take(easy)
		if buf == nil {
			return
		}
		err = s.writeAll(buf, easy && first)
		if cap(buf) <= keptBuffer {
			s.srv.buffers.Put(&buf)
		}
		if err != nil {
			return
		}
		for _, d := range after {
			d.written()
		}
		s.wrote()
	}
}

// writeAll gives a peer that is slow, but takes bytes, the time it needs. What is taken at
// once needs no deadline, if there is none from before.
func (s *session) writeAll(buf []byte, atOnce bool) error {
	for len(buf) > 0 {
		if !atOnce {
			_ = s.conn.SetWriteDeadline(time.Now().Add(s.srv.cfg.WriteTimeout))
		}
		n, err := s.conn.Write(buf[:min(len(buf), writeAtOnce)])
		if err != nil {
			return err
		}
		if buf = buf[n:]; len(buf) > 0 {
			s.mu.Lock()
			s.going = int32(len(buf))
			s.mu.Unlock()
		}
	}
	return nil
}

// behind is how many bytes wait for the peer to take them. The lock is held.
func (s *session) behind() int {
	if !s.writing {
		return len(s.out)
	}
	return len(s.out) + int(s.going)
}

// take hands over what is queued; nil when the writer shall stop. It reports whether
// nothing was written before.
func (s *session) take(easy bool) (buf []byte, after []*delivery, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if easy && int(s.left)+len(s.out) > easyOutput {
		go s.write()
		return nil, nil, false
	}
	buf, after, first = s.out, s.after, s.left == 0
	s.out, s.after = nil, nil
	s.left, s.going = uint16(min(int(s.left)+len(buf), easyOutput)), int32(len(buf))
	if len(buf) == 0 {
		s.writing = false
		buf = nil
	}
	s.changed()
	return buf, after, first
}

// wrote shows what waited for the output to shrink.
func (s *session) wrote() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serveWaiting()
}

func (s *session) writeFailed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken, s.writing = true, false
	s.endLocked(err)
	s.changed()
	doorway.Cut(s.conn) // nothing more can be said; wakes the reader
}
