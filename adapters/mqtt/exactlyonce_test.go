package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/topic"
)

// fuse kills a node at its nth durable write: before that is done, or after it
// and before anybody is told.
type fuse struct {
	mu    sync.Mutex
	left  int // writes; it burns at 0
	after bool
	blow  func()
	blown chan struct{}
}

var errBlown = device.Errorf(device.Unavailable, "the node is dead")

// write does one write, unless the node is dead or dies of it; told is whether
// anybody is told of what was done.
func (f *fuse) write(do func(told bool) error) error {
	f.mu.Lock()
	f.left--
	left := f.left
	f.mu.Unlock()
	switch {
	case left < 0:
		return errBlown
	case left > 0:
		return do(true)
	}
	if f.after {
		_ = do(false)
	}
	f.blow()
	close(f.blown)
	return errBlown
}

type fusedLog struct {
	topic.Log
	*fuse
}

func (l fusedLog) Append(p *device.Publication, done func(error)) error {
	return l.write(func(told bool) error {
		if !told {
			done = func(error) {}
		}
		return l.Log.Append(p, done)
	})
}

type fusedSessions struct {
	topic.Sessions
	*fuse
}

func (s fusedSessions) Save(ctx context.Context, r *device.SessionRecord, rev uint64) (next uint64, err error) {
	err = s.write(func(bool) error {
		next, err = s.Sessions.Save(ctx, r, rev)
		return err
	})
	return next, err
}

// exact is a client that does all its half of QoS 2 asks for (4.3.3, 4.4), over
// as many connections as it takes.
type exact struct {
	t      testing.TB
	v      packet.Version
	name   string
	joined bool // it was told that its session is there
	door   func() (lives *broker, dies <-chan struct{})

	out  map[uint16]*sent     // published and not finished
	in   map[uint16]string    // received and not released
	got  []string             // released
	done func(c *exact) bool  // it has nothing left to do
	next func(c *exact) *sent // to publish, nil for nothing now
}

type sent struct {
	id       uint16
	payload  string
	released bool
}

// run serves until it has nothing left to do.
func (c *exact) run() {
	for !c.done(c) && !c.t.Failed() {
		door, dies := c.door()
		p := c.connect(door)
		if p == nil {
			continue
		}
		cut := make(chan struct{})
		go func() {
			select {
			case <-dies:
				_ = p.conn.Close()
			case <-cut:
			}
		}()
		c.resume(p)
		for !c.done(c) && c.step(p) {
		}
		close(cut)
		_ = p.conn.Close()
	}
}

// connect joins, or answers nil when the node dies of it.
func (c *exact) connect(door *broker) *wire {
	p := dial(c.t, door.Server, c.v)
	connect := &packet.Connect{Version: c.v, ClientID: c.name, KeepAlive: 60}
	if c.v >= packet.V5 {
		connect.Properties.AddNumber(packet.SessionExpiry, 3600)
	}
	c.say(p, connect)
	x, _ := p.next()
	ack, ok := x.(*packet.Connack)
	if !ok || ack.Reason != packet.Success {
		_ = p.conn.Close()
		return nil
	}
	if c.joined && !ack.SessionPresent {
		c.t.Error("the session is lost")
	}
	c.joined = true
	return p
}

// say sends what may be lost.
func (c *exact) say(p *wire, x packet.Packet) {
	b, err := x.Append(nil, c.v)
	if err != nil {
		c.t.Error(err)
	}
	_, _ = p.conn.Write(b)
}

func (c *exact) resume(p *wire) {
	for _, id := range slices.Sorted(maps.Keys(c.out)) {
		o := c.out[id]
		if o.released {
			c.say(p, &packet.Ack{Kind: packet.PUBREL, ID: id})
			continue
		}
		m := message(id, 2, "t", o.payload)
		m.Dup = true
		c.say(p, m)
	}
}

func (c *exact) step(p *wire) bool {
	for c.next != nil {
		o := c.next(c)
		if o == nil {
			break
		}
		c.out[o.id] = o
		c.say(p, message(o.id, 2, "t", o.payload))
	}
	x, err := p.next()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Errorf("nothing came for %s: published %v, received %v, released %v", c.name, c.out, c.in, c.got)
	}
	if err != nil {
		return false
	}
	switch x := x.(type) {
	case *packet.Publish:
		if _, known := c.in[x.ID]; known && !x.Dup {
			c.t.Errorf("identifier %d is used again before its release", x.ID)
		}
		c.in[x.ID] = string(x.Payload)
		c.say(p, &packet.Ack{Kind: packet.PUBREC, ID: x.ID})
	case *packet.Ack:
		c.acknowledged(p, x)
	case *packet.Disconnect:
		return false
	default:
		c.t.Errorf("got %T %+v", x, x)
	}
	return true
}

func (c *exact) acknowledged(p *wire, x *packet.Ack) {
	switch o := c.out[x.ID]; x.Kind {
	case packet.PUBREC:
		if o == nil || x.Reason.Failed() {
			c.t.Errorf("PUBREC of %d: %v", x.ID, x.Reason)
			return
		}
		o.released = true
		c.say(p, &packet.Ack{Kind: packet.PUBREL, ID: x.ID})
	case packet.PUBCOMP:
		if o == nil || !o.released {
			c.t.Errorf("PUBCOMP of %d", x.ID)
		}
		delete(c.out, x.ID)
	case packet.PUBREL:
		if payload, known := c.in[x.ID]; known {
			c.got = append(c.got, payload)
			delete(c.in, x.ID)
		}
		c.say(p, &packet.Ack{Kind: packet.PUBCOMP, ID: x.ID})
	}
}

const exactMessages = 6

// TestExactlyOnceCutAnywhere: a node is killed at each of its durable writes in
// turn, before it and after it; its clients go on at another node. Each message
// is stored once, in order, and received once.
func TestExactlyOnceCutAnywhere(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		t.Parallel()
		for _, after := range []bool{false, true} {
			cuts := 0
			for cutOnce(t, v, cuts+1, after) {
				cuts++
			}
			if t.Logf("%d cuts, after the write: %v", cuts, after); cuts < 3*exactMessages/2 {
				t.Errorf("only %d writes were cut", cuts)
			}
		}
	})
}

// cutOnce kills a node at its nth write, and reports whether it came to that.
func cutOnce(t *testing.T, v packet.Version, n int, after bool) (cut bool) {
	f := &fuse{left: 1 << 30, after: after, blown: make(chan struct{})}
	house := newHouse(&adaptertest.Gate{})
	house.wrap = func(l topic.Log, s topic.Sessions) (topic.Log, topic.Sessions) {
		return fusedLog{l, f}, fusedSessions{s, f}
	}
	a := house.door(t, mqtt.Config{}, "a")
	house.wrap = nil
	b := house.door(t, mqtt.Config{}, "b")
	f.blow = a.kill
	door := func() (*broker, <-chan struct{}) {
		select {
		case <-f.blown:
			return b, nil
		default:
			return a, f.blown
		}
	}
	sub := a.stay(t, v, "sub", false, false)
	if got := sub.subscribe("t", 2); got != 2 {
		t.Fatalf("SUBACK %v", got)
	}
	a.lose(t, sub, "sub")
	f.mu.Lock()
	f.left = n
	f.mu.Unlock()

	client := func(name string) *exact {
		return &exact{t: t, v: v, name: name, door: door, out: map[uint16]*sent{}, in: map[uint16]string{}}
	}
	from, to := client("pub"), client("sub")
	to.joined = true
	published := 0
	from.done = func(c *exact) bool { return published == exactMessages && len(c.out) == 0 }
	from.next = func(c *exact) *sent {
		if len(c.out) == 3 || published == exactMessages {
			return nil
		}
		published++
		return &sent{id: uint16(published), payload: fmt.Sprint(published)}
	}
	to.done = func(c *exact) bool { return len(c.got) >= exactMessages && len(c.in) == 0 }
	var work sync.WaitGroup
	work.Go(from.run)
	work.Go(to.run)
	work.Wait()
	check(t, fmt.Sprintf("cut at write %d, after it: %v", n, after), house, to.got)
	select {
	case <-f.blown:
		return true
	default:
		return false
	}
}

// check compares what was stored, and what was received, with what was sent.
func check(t *testing.T, what string, house *broker, got []string) {
	t.Helper()
	var want, stored []string
	for i := range exactMessages {
		want = append(want, fmt.Sprint(i+1))
	}
	_, _ = house.log.Read(context.Background(), device.SourceTopics, "default", []string{"t"}, 0, func(a device.Arrival) bool {
		p, _ := a.Open()
		stored = append(stored, string(p.Payload))
		return true
	})
	if !slices.Equal(stored, want) {
		t.Errorf("%s: stored %q", what, stored)
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("%s: received %q", what, got)
	}
}
