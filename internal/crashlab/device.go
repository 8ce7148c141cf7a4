package main

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	window      = 8               // messages a device on MQTT or AMQP has unacknowledged
	ackPatience = 5 * time.Second // then it gives the connection up, and sends again on a new one
	dialTimeout = 5 * time.Second
)

// link is a device's connection, on its protocol's own client.
type link interface {
	// send hands a message over, in the order of the calls, and calls done once:
	// with nil when it was acknowledged.
	send(ctx context.Context, m *message, done func(error)) error
	close()
}

// protocol is a door and how devices come in by it.
type protocol struct {
	door    string
	window  int
	connect func(ctx context.Context, addr, device string) (link, error)
}

var protocols = []protocol{
	{"mqtt", window, connectMQTT},
	{"amqp", window, connectAMQP},
	{"http", 1, connectHTTP},
}

// device sends counters, one after the other, and again what was not
// acknowledged, as far as it has a key.
type device struct {
	protocol
	name  string
	every time.Duration // between two new messages
	book  *ledger
	addr  func(door string) string

	mu       sync.Mutex
	messages []*message
	closing  chan struct{} // closed: no new messages
}

// live runs until ctx ends, or, once closing, until nothing is left to be sent.
func (d *device) live(ctx context.Context) {
	for ctx.Err() == nil && !d.finished() {
		if addr := d.addr(d.door); addr != "" {
			d.visit(ctx, addr)
		}
		wait(ctx, 50*time.Millisecond)
	}
}

// visit is one connection.
func (d *device) visit(ctx context.Context, addr string) {
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	l, err := d.connect(dialing, addr, d.name)
	if err != nil {
		return
	}
	defer l.close()
	ctx, cancelTalk := context.WithCancel(ctx)
	defer cancelTalk()
	_ = d.talk(ctx, l) // whatever ended it, the next connection goes on
}

var (
	errSilence = errors.New("no acknowledgement in time")
	errDone    = errors.New("nothing left to be sent")
)

// result is what became of a message.
type result struct {
	m   *message
	err error
}

// talk sends until something goes wrong, or everything was said.
func (d *device) talk(ctx context.Context, l link) error {
	tick := time.NewTicker(d.every)
	defer tick.Stop()
	again := d.unacked()
	results := make(chan result, d.window)
	var flying []time.Time // when the unacknowledged were sent, oldest first
	for {
		if len(flying) == 0 && len(again) == 0 && d.isClosing() {
			return errDone
		}
		var fresh <-chan time.Time
		if len(flying) < d.window {
			if len(again) > 0 {
				if err := d.send(ctx, l, again[0], results); err != nil {
					return err
				}
				again, flying = again[1:], append(flying, time.Now())
				continue
			}
			if !d.isClosing() {
				fresh = tick.C
			}
		}
		silence := time.NewTimer(ackPatience)
		select {
		case <-fresh:
			if err := d.send(ctx, l, d.next(), results); err != nil {
				return err
			}
			flying = append(flying, time.Now())
		case r := <-results:
			if r.err != nil {
				return r.err
			}
			d.acked(r.m)
			flying = flying[1:]
		case <-silence.C:
		case <-d.closing:
			wait(ctx, 10*time.Millisecond)
		case <-ctx.Done():
			return ctx.Err()
		}
		silence.Stop()
		if len(flying) > 0 && time.Since(flying[0]) > ackPatience {
			return errSilence
		}
	}
}

func (d *device) send(ctx context.Context, l link, m *message, results chan<- result) error {
	d.mu.Lock()
	m.sends++
	d.mu.Unlock()
	d.book.enter(d.name, m, "sent")
	ctx, cancel := context.WithTimeout(ctx, ackPatience)
	err := l.send(ctx, m, func(err error) {
		cancel()
		results <- result{m, err}
	})
	if err != nil {
		cancel()
	}
	return err
}

func (d *device) acked(m *message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.book.ack(d.name, m)
}

func (d *device) next() *message {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := &message{n: len(d.messages) + 1}
	d.messages = append(d.messages, m)
	return m
}

// unacked are the messages to be sent again: those with a key.
func (d *device) unacked() (list []*message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.messages {
		if !m.acked && m.keyed() {
			list = append(list, m)
		}
	}
	return list
}

// known is a copy of what the device knows now.
func (d *device) known() []message {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]message, len(d.messages))
	for i, m := range d.messages {
		list[i] = *m
	}
	return list
}

func (d *device) isClosing() bool {
	select {
	case <-d.closing:
		return true
	default:
		return false
	}
}

func (d *device) finished() bool { return d.isClosing() && len(d.unacked()) == 0 }
