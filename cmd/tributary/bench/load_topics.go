package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// fanOutWindow is how many messages are under way to all subscribers: few enough
// that no server drops any with QoS 0.
const fanOutWindow = 100

// publishLoad publishes on raw MQTT 3.1.1 connections, each to a topic of its own
// that nobody is subscribed to. One goroutine a connection writes and reads: it
// fills the window, and waits for what frees some of it.
func publishLoad(qos byte) func(context.Context, string, Options) (result, error) {
	return func(ctx context.Context, addr string, o Options) (result, error) {
		return fanOut(ctx, o.Connections, func(ctx context.Context, i int) (result, error) {
			c, err := dialMQTT(ctx, addr, fmt.Sprintf("bench-%d", i))
			if err != nil {
				return result{}, err
			}
			defer c.conn.Close()
			packet := publishPacket(qos, fmt.Sprintf("bench/%d", i), payload(i, i))
			if qos == 0 {
				return c.publishLoose(ctx, packet)
			}
			return c.publishSure(ctx, packet, o.InFlight, qos)
		})
	}
}

// publishPacket is a PUBLISH of 128 to 16,383 bytes; its identifier, if it has
// one, is before the last len(body) bytes.
func publishPacket(qos byte, topic string, body []byte) []byte {
	remaining := 2 + len(topic) + len(body)
	if qos > 0 {
		remaining += 2
	}
	p := append([]byte{0x30 | qos<<1, byte(remaining&0x7f | 0x80), byte(remaining >> 7), 0, byte(len(topic))}, topic...)
	if qos > 0 {
		p = append(p, 0, 0)
	}
	return append(p, body...)
}

// looseBatch is how many messages with QoS 0 go before each PINGREQ.
const looseBatch = 500

// publishLoose sends QoS 0 until ctx ends. What was sent before a PINGREQ counts
// once that is answered: the server has read it. One batch more is on its way, not
// what the system's buffers hold.
func (c *mqttConn) publishLoose(ctx context.Context, packet []byte) (r result, err error) {
	for underWay := 0; ; {
		if ctx.Err() == nil && underWay < 2 {
			for range looseBatch {
				c.w.Write(packet)
			}
			c.w.Write([]byte{0xc0, 0})
			if err := c.w.Flush(); err != nil {
				return r, err
			}
			underWay++
			continue
		}
		if underWay == 0 {
			return r, nil
		}
		_ = c.conn.SetReadDeadline(time.Now().Add(ackPatience))
		var answer [2]byte
		if _, err := io.ReadFull(c.r, answer[:]); err != nil || answer[0] != 0xd0 {
			return r, fmt.Errorf("PINGRESP % x: %w", answer, errors.Join(err, errors.New("not answered")))
		}
		underWay--
		r.acked += looseBatch
	}
}

// publishSure keeps window messages with QoS 1 or 2 unfinished until ctx ends.
func (c *mqttConn) publishSure(ctx context.Context, packet []byte, window int, qos byte) (r result, err error) {
	id := packet[len(packet)-len(payload(0, 0))-2:][:2]
	free := make([]uint16, 0, window)
	for i := range window {
		free = append(free, uint16(i+1))
	}
	stopped := false
	var ack [4]byte
	for {
		if !stopped && ctx.Err() != nil {
			stopped = true
			_ = c.conn.SetReadDeadline(time.Now().Add(ackPatience))
		}
		if stopped && len(free) == window {
			return r, c.w.Flush()
		}
		for ; !stopped && len(free) > 0; free = free[:len(free)-1] {
			binary.BigEndian.PutUint16(id, free[len(free)-1])
			c.w.Write(packet)
		}
		if c.r.Buffered() < len(ack) {
			if err := c.w.Flush(); err != nil {
				return r, err
			}
		}
		if _, err := io.ReadFull(c.r, ack[:]); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				r.refused += window - len(free)
				return r, nil
			}
			return r, err
		}
		switch {
		case qos == 2 && ack[0] == 0x50: // PUBREC
			c.w.Write([]byte{0x62, 2, ack[2], ack[3]})
			continue
		case qos == 2 && ack[0] == 0x70, qos == 1 && ack[0] == 0x40:
			r.acked++
			free = append(free, binary.BigEndian.Uint16(ack[2:]))
		default:
			return r, fmt.Errorf("expected an acknowledgement, got % x", ack)
		}
	}
}

// fanOutLoad publishes with QoS 0 to one topic that n connections are subscribed
// to, and counts what arrives at all of them.
func fanOutLoad(n int) func(context.Context, string, Options) (result, error) {
	return func(ctx context.Context, addr string, _ Options) (r result, err error) {
		packet := publishPacket(0, "bench/all", payload(0, 0))
		var arrived atomic.Int64 // bytes
		news := make(chan struct{}, 1)
		subscribers, err := subscribeAll(ctx, addr, n, "bench/all")
		defer func() {
			for _, c := range subscribers {
				_ = c.conn.Close()
			}
		}()
		if err != nil {
			return r, err
		}
		for _, c := range subscribers {
			go c.count(&arrived, news)
		}
		publisher, err := dialMQTT(ctx, addr, "bench-publisher")
		if err != nil {
			return r, err
		}
		defer publisher.conn.Close()
		start := time.Now()
		sent := int64(0)
		for ctx.Err() == nil {
			for sent-arrived.Load()/int64(n*len(packet)) < fanOutWindow {
				publisher.w.Write(packet)
				sent++
			}
			if err := publisher.w.Flush(); err != nil {
				return r, err
			}
			select {
			case <-news:
			case <-ctx.Done():
			}
		}
		r.acked, r.elapsed = int(arrived.Load())/len(packet), time.Since(start)
		for limit := time.After(ackPatience); arrived.Load() < sent*int64(n*len(packet)); {
			select {
			case <-news:
				continue
			case <-limit:
			}
			break
		}
		r.refused = int(sent)*n - int(arrived.Load())/len(packet)
		return r, nil
	}
}

// subscribeAll connects n subscribers; those made before an error are answered with it.
func subscribeAll(ctx context.Context, addr string, n int, filter string) ([]*mqttConn, error) {
	all := make([]*mqttConn, 0, n)
	for i := range n {
		c, err := dialMQTT(ctx, addr, fmt.Sprintf("bench-sub-%d", i))
		if err != nil {
			return all, err
		}
		all = append(all, c)
		c.w.Write(append(append([]byte{0x82, byte(5 + len(filter)), 0, 1, 0, byte(len(filter))}, filter...), 0))
	}
	var group errgroup.Group
	for _, c := range all {
		group.Go(func() error {
			if err := c.w.Flush(); err != nil {
				return err
			}
			var ack [5]byte
			if _, err := io.ReadFull(c.r, ack[:]); err != nil || ack[0] != 0x90 || ack[4] != 0 {
				return fmt.Errorf("SUBACK % x: %w", ack, errors.Join(err, errors.New("subscription refused")))
			}
			return nil
		})
	}
	return all, group.Wait()
}

// count adds up the bytes that arrive: every packet has the same length, and a
// generator that looked into them would take from the server it shares the
// machine with.
func (c *mqttConn) count(arrived *atomic.Int64, news chan<- struct{}) {
	buffer := make([]byte, 16<<10)
	for {
		n, err := c.conn.Read(buffer)
		arrived.Add(int64(n))
		select {
		case news <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}
