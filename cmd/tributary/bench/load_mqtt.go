package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// loadMQTT publishes QoS 1 on raw MQTT 3.1.1 connections. The few packets it
// needs are written by hand, so that the generator costs as little as it can on
// the machine it shares with the server.
func loadMQTT(ctx context.Context, addr string, o Options) (result, error) {
	return fanOut(ctx, o.Connections, func(ctx context.Context, i int) (result, error) {
		c, err := dialMQTT(ctx, addr, fmt.Sprintf("bench-%d", i))
		if err != nil {
			return result{}, err
		}
		defer c.conn.Close()
		return c.publish(ctx, i, o)
	})
}

type mqttConn struct {
	conn net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	name string
}

func dialMQTT(ctx context.Context, addr, name string) (*mqttConn, error) {
	conn, err := dial(ctx, &net.Dialer{}, addr)
	if err != nil {
		return nil, err
	}
	c := &mqttConn{conn, bufio.NewReaderSize(conn, 16<<10), bufio.NewWriterSize(conn, 16<<10), name}
	c.w.Write(connectPacket(name, 60))
	if err := c.w.Flush(); err != nil {
		return nil, err
	}
	var ack [4]byte
	if _, err := io.ReadFull(c.r, ack[:]); err != nil || ack[0] != 0x20 || ack[3] != 0 {
		return nil, fmt.Errorf("CONNACK % x: %w", ack, errors.Join(err, errors.New("connection refused")))
	}
	return c, nil
}

// connectPacket asks for a clean session of MQTT 3.1.1; keepAlive is in seconds, at most 255.
func connectPacket(name string, keepAlive byte) []byte {
	return append([]byte{0x10, byte(12 + len(name)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, keepAlive, 0, byte(len(name))}, name...)
}

// publish keeps o.InFlight messages unacknowledged until ctx ends, or sends one
// whenever o.Rate says, then waits for the acks still under way. One goroutine
// writes, this one reads acks.
func (c *mqttConn) publish(ctx context.Context, connection int, o Options) (result, error) {
	window := make(chan uint16, o.InFlight)
	for i := range o.InFlight {
		window <- uint16(i + 1)
	}
	pace := newPacer(o.Rate, connection, o.Connections)
	sent := make([]time.Time, o.InFlight+1)
	var mu sync.Mutex
	writing := make(chan error, 1)
	bodies := payloads(connection)
	count := 0
	go func() {
		defer close(writing)
		for {
			select {
			case <-ctx.Done():
				if err := c.w.Flush(); err != nil {
					writing <- err
				}
				c.lastAcks(len(window) < cap(window))
				return
			case id := <-window:
				due := pace.wait(ctx)
				mu.Lock()
				sent[id] = due
				mu.Unlock()
				count++
				c.writePublish(id, bodies[count%len(bodies)])
				if len(window) == 0 || pace != nil {
					if err := c.w.Flush(); err != nil {
						writing <- err
						return
					}
				}
			}
		}
	}()
	return c.readAcks(ctx, window, writing, func(id uint16) time.Time {
		mu.Lock()
		defer mu.Unlock()
		return sent[id]
	})
}

// lastAcks bounds the wait for acks now that nothing more is sent; with none
// under way it ends the reading at once.
func (c *mqttConn) lastAcks(underWay bool) {
	deadline := time.Now()
	if underWay {
		deadline = deadline.Add(ackPatience)
	}
	c.conn.SetReadDeadline(deadline)
}

func (c *mqttConn) writePublish(id uint16, body []byte) {
	const channel = "/telemetry/line"
	topic := len(c.name) + len(channel)
	remaining := 2 + topic + 2 + len(body)
	packet := append(c.w.AvailableBuffer(), 0x32, byte(remaining&0x7f|0x80), byte(remaining>>7), 0, byte(topic))
	packet = append(append(packet, c.name...), channel...)
	packet = append(binary.BigEndian.AppendUint16(packet, id), body...)
	c.w.Write(packet)
}

// readAcks takes PUBACKs until the window is whole again after ctx ended.
func (c *mqttConn) readAcks(ctx context.Context, window chan uint16, writing <-chan error, sentAt func(uint16) time.Time) (result, error) {
	var r result
	var ack [4]byte
	for {
		if ctx.Err() != nil && len(window) == cap(window) {
			return r, <-writing
		}
		if _, err := io.ReadFull(c.r, ack[:]); err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() && ctx.Err() != nil {
				r.refused += cap(window) - len(window)
				return r, nil
			}
			return r, err
		}
		if ack[0] != 0x40 {
			return r, fmt.Errorf("expected PUBACK, got % x", ack)
		}
		id := binary.BigEndian.Uint16(ack[2:])
		r.acked++
		r.latencies = append(r.latencies, time.Since(sentAt(id)))
		window <- id
	}
}
