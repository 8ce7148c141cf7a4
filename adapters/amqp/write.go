package amqp

import (
	"time"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
)

// send queues a frame for the writer. The caller holds mu.
func (c *conn) send(channel uint16, p wire.Performative, payload []byte) {
	c.out = wire.AppendFrame(c.out, wire.FrameAMQP, channel, p, payload)
}

// poke wakes the writer.
func (c *conn) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// request asks a supply for deliveries.
type request struct {
	from supply
	n    int
}

// flush queues what has become due: outcomes, and commands as far as credit and
// windows go. The caller holds mu.
func (c *conn) flush() (wanted []request) {
	for _, s := range c.sessions {
		s.flushOutcomes()
		for _, l := range s.outgoing {
			l.pump()
			if n := l.want(); n > 0 {
				wanted = append(wanted, request{l.supply, n})
			}
		}
	}
	return wanted
}

// write is the writer: it writes what is queued, and a heartbeat when nothing
// was for half of the peer's patience (part 2, section 4.5).
func (c *conn) write() {
	defer close(c.writerDone)
	defer c.recover("writer")
	var spare []byte
	var heartbeat <-chan time.Time
	if c.peerIdle > 0 {
		ticker := time.NewTicker(c.peerIdle / 4)
		defer ticker.Stop()
		heartbeat = ticker.C
	}
	idle := false // nothing was written since the last tick
	for {
		c.mu.Lock()
		wanted := c.flush()
		out, after, ending, dead := c.out, c.after, c.ending, c.dead
		c.out, c.after = spare[:0], nil
		c.mu.Unlock()
		if dead {
			return
		}
		for _, w := range wanted {
			w.from.Request(w.n)
		}
		if len(out) > 0 {
			if !c.writeOut(out, after) {
				return
			}
			spare, idle = recycle(out), false
			continue
		}
		spare = recycle(out)
		if ending {
			return
		}
		select {
		case <-c.wake:
		case <-heartbeat:
			if idle {
				c.mu.Lock()
				c.send(0, nil, nil)
				c.mu.Unlock()
			}
			idle = true
		}
	}
}

// writeOut writes to the socket and lets the reader go on.
func (c *conn) writeOut(out []byte, after []func()) bool {
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.cfg.WriteTimeout))
	if _, err := c.nc.Write(out); err != nil {
		c.log.Debug("cannot write", "error", err)
		c.kill()
		return false
	}
	for _, f := range after {
		f()
	}
	c.changed.Broadcast()
	return true
}

// recycle keeps a buffer for the next round, unless it grew beyond what an idle
// connection should hold.
func recycle(b []byte) []byte {
	if cap(b) > 16<<10 {
		return nil
	}
	return b[:0]
}
