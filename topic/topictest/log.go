// Package topictest keeps topics in memory, for the tests of the room that
// serves them and of the doors: what is appended is stored at once, in order.
package topictest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// Log is a topic.Log in memory. The zero value is empty and ready.
type Log struct {
	mu       sync.Mutex
	streams  [3][]device.Arrival // by source; place is sequence less one
	grown    chan struct{}
	retained []device.Arrival
	nextKept uint64
	ears     map[*ear]struct{}
	marks    map[string]device.Arrival // by mark
	reads    int
	lives    uint64     // before this one
	casting  sync.Mutex // one message is told at a time
	shares
}

type ear struct {
	tenant string
	fn     func(*device.Publication)
}

// Append implements topic.Log.
func (l *Log) Append(p *device.Publication, done func(error)) error {
	if err := p.Validate(); err != nil {
		return err
	}
	l.Put(device.SourceTopics, p)
	go done(nil)
	return nil
}

// Put stores p in a source.
func (l *Log) Put(src device.Source, p *device.Publication) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	seq := uint64(len(l.streams[src]) + 1)
	l.streams[src] = append(l.streams[src], arrival(src, seq, p))
	if p.Mark != "" { // telemetry has none here
		if l.marks == nil {
			l.marks = map[string]device.Arrival{}
		}
		l.marks[p.Mark] = l.streams[src][seq-1]
	}
	if l.grown != nil {
		close(l.grown)
		l.grown = nil
	}
	l.wake()
	return seq
}

func arrival(src device.Source, seq uint64, p *device.Publication) device.Arrival {
	return device.Arrival{
		Ref: device.Ref{Source: src, Seq: seq}, Tenant: p.Tenant, Topic: p.Topic, Open: func() (*device.Publication, error) { return p, nil },
	}
}

// Reads is how many times Read was called.
func (l *Log) Reads() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reads
}

// Known implements topic.Log.
func (l *Log) Known(src device.Source) device.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return device.Position{Epoch: 1 + l.lives, Seq: uint64(len(l.streams[src]))}
}

// Find implements topic.Log.
func (l *Log) Find(_ context.Context, src device.Source, tenant, topic, mark string, after uint64) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, found := l.marks[mark]
	return found && a.Source == src && a.Tenant == tenant && a.Topic == topic && a.Seq > after, nil
}

// Cast implements topic.Log.
func (l *Log) Cast(p *device.Publication) error {
	if err := p.Validate(); err != nil {
		return err
	}
	l.casting.Lock()
	defer l.casting.Unlock()
	l.mu.Lock()
	fns := l.shareEars(p)
	for e := range l.ears {
		if e.tenant == p.Tenant {
			fns = append(fns, e.fn)
		}
	}
	l.mu.Unlock()
	for _, fn := range fns {
		fn(p)
	}
	return nil
}

// Hear implements topic.Log.
func (l *Log) Hear(_ context.Context, tenant string, fn func(*device.Publication)) (func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &ear{tenant, fn}
	if l.ears == nil {
		l.ears = map[*ear]struct{}{}
	}
	l.ears[e] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.ears, e)
	}, nil
}

// End implements topic.Log.
func (l *Log) End(_ context.Context, src device.Source) (device.Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if src == device.SourceRetained {
		return device.Position{Epoch: 1 + l.lives, Seq: l.nextKept}, nil
	}
	return device.Position{Epoch: 1 + l.lives, Seq: uint64(len(l.streams[src]))}, nil
}

// Renew loses everything that is stored, and begins anew. Nobody may be reading.
func (l *Log) Renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lives++
	l.streams, l.marks, l.retained, l.nextKept, l.groups = [3][]device.Arrival{}, nil, nil, 0, nil
}

// Follow implements topic.Log.
func (l *Log) Follow(ctx context.Context, src device.Source, after uint64, fn func(device.Arrival)) error {
	for {
		l.mu.Lock()
		if l.grown == nil {
			l.grown = make(chan struct{})
		}
		grown, news := l.grown, slices.Clone(l.streams[src][after:])
		l.mu.Unlock()
		for _, a := range news {
			fn(a)
		}
		after += uint64(len(news))
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Read implements topic.Log.
func (l *Log) Read(ctx context.Context, src device.Source, tenant string, filters []string, after uint64, each func(device.Arrival) bool) (bool, error) {
	l.mu.Lock()
	l.reads++
	all := slices.Clone(l.streams[src][min(after, uint64(len(l.streams[src]))):])
	l.mu.Unlock()
	for _, a := range all {
		takes := func(filter string) bool { return device.FilterMatches(filter, a.Topic) }
		if a.Tenant == tenant && slices.ContainsFunc(filters, takes) && !each(a) {
			return false, nil
		}
	}
	return true, ctx.Err()
}

// Get implements topic.Log.
func (l *Log) Get(_ context.Context, ref device.Ref) (*device.Publication, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.retained
	if ref.Source != device.SourceRetained {
		all = l.streams[ref.Source]
	}
	for _, a := range all {
		if a.Seq == ref.Seq {
			return a.Open()
		}
	}
	return nil, device.Errorf(device.NotFound, "the message is not kept any more")
}

// Retain implements topic.Log.
func (l *Log) Retain(p *device.Publication, done func(uint64, error)) error {
	if err := p.Validate(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retained = slices.DeleteFunc(l.retained, func(a device.Arrival) bool { return a.Tenant == p.Tenant && a.Topic == p.Topic })
	if l.nextKept++; len(p.Payload) > 0 {
		as := *p // who retained it publishes it next, and says so in it
		l.retained = append(l.retained, arrival(device.SourceRetained, l.nextKept, &as))
	}
	go done(l.nextKept, nil)
	return nil
}

// LastRetained implements topic.Log.
func (l *Log) LastRetained(_ context.Context, tenant, filter string) (last uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.retained {
		if a.Tenant == tenant && device.FilterMatches(filter, a.Topic) {
			last = a.Seq // they are in order
		}
	}
	return last, nil
}

// Retained implements topic.Log.
func (l *Log) Retained(_ context.Context, tenant, filter string, last uint64, each func(device.Ref, *device.Publication) bool) error {
	l.mu.Lock()
	all := slices.Clone(l.retained)
	l.mu.Unlock()
	for _, a := range all {
		p, _ := a.Open()
		if a.Seq <= last && a.Tenant == tenant && device.FilterMatches(filter, a.Topic) && !p.Expired(time.Now()) && !each(a.Ref, p) {
			return nil
		}
	}
	return nil
}

// Commands keeps the commands it is sent.
type Commands struct {
	mu   sync.Mutex
	sent []device.Command
}

// Send implements topic.Commands.
func (c *Commands) Send(_ context.Context, cmd device.Command) (device.CommandRecord, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, old := range c.sent {
		if cmd.Key != "" && old.Key == cmd.Key {
			return device.CommandRecord{Command: old}, nil
		}
	}
	cmd.ID = "01COMMAND" + string(rune('A'+len(c.sent)))
	c.sent = append(c.sent, cmd)
	return device.CommandRecord{Command: cmd}, nil
}

// Sent is every command sent so far.
func (c *Commands) Sent() []device.Command {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.sent)
}
