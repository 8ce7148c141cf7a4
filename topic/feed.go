package topic

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tributary-iot/tributary/device"
)

// sources is how many sources a session is served from, counted from 1.
const sources = 3

// feed is the node's one reader of a source. It runs while a subscription on
// this node takes something of it.
type feed struct {
	s   *Service
	src device.Source

	mu    sync.Mutex // held while a message is handed out
	pos   atomic.Uint64
	epoch atomic.Uint64

	turn  sync.Mutex // of starting and stopping
	users int
	stop  func()
}

// use makes the feed run for one more subscription; it runs when use returns.
func (f *feed) use(ctx context.Context) error {
	f.turn.Lock()
	defer f.turn.Unlock()
	if f.users == 0 {
		end, err := f.s.log.End(ctx, f.src)
		if err != nil {
			return err
		}
		f.mu.Lock()
		f.pos.Store(end.Seq)
		f.epoch.Store(end.Epoch)
		f.mu.Unlock()
		run, cancel := context.WithCancel(f.s.ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			f.follow(run, end.Seq)
		}()
		f.stop = func() { cancel(); <-ended }
	}
	f.users++
	return nil
}

func (f *feed) drop() {
	f.turn.Lock()
	defer f.turn.Unlock()
	if f.users--; f.users == 0 {
		f.stop()
	}
}

func (f *feed) follow(ctx context.Context, after uint64) {
	for ctx.Err() == nil {
		err := f.s.log.Follow(ctx, f.src, after, f.hand)
		if ctx.Err() == nil {
			f.s.cfg.Logger.Warn("a feed of topics ended, it is begun again", "error", err)
			pause(ctx, f.s.cfg.RetryAfter)
			after = f.pos.Load()
		}
	}
}

// hand gives a message to everybody subscribed to it. A fault of ours costs
// this message, not the feed.
func (f *feed) hand(a device.Arrival) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.pos.Store(a.Seq)
	defer f.s.contain(fmt.Sprintf("message %d of source %d", a.Seq, a.Source))
	t := f.s.tenantIf(a.Tenant)
	if t == nil {
		return
	}
	subs := t.tree.match(a.Topic, nil)
	if len(subs) == 0 {
		return
	}
	p, err := a.Open()
	if err != nil {
		f.s.metrics.unread.Inc()
		return
	}
	deliver(f.ref(a), p, subs)
}

// ref is a message's place in this life of the source.
func (f *feed) ref(a device.Arrival) device.Ref {
	return device.Ref{Source: a.Source, Epoch: f.epoch.Load(), Seq: a.Seq}
}

// deliver gives a message to the members of subscriptions, once to each.
func deliver(ref device.Ref, p *device.Publication, subs []*subscription) {
	if len(subs) == 1 {
		subs[0].member.take(ref, p, subs)
		return
	}
	var several map[*member][]*subscription
	for i, sub := range subs {
		if sub.member.single.Load() {
			sub.member.take(ref, p, subs[i:i+1])
			continue
		}
		if several == nil {
			several = map[*member][]*subscription{}
		}
		several[sub.member] = append(several[sub.member], sub)
	}
	for m, theirs := range several {
		m.take(ref, p, theirs)
	}
}
