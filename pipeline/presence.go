package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// presenceLogBytes bounds PRESENCE_EVENTS: some 400,000 beginnings and ends,
// the oldest going first.
const presenceLogBytes = 64 << 20

// Presence is who is connected: PRESENCE lists the open sessions of all nodes,
// each under a subject that begins with its node's incarnation, and
// PRESENCE_EVENTS tells of every beginning and end. The list is written without
// syncing, because the nodes know their own sessions: what is lost of it they
// enter again, and what a dead node left on it others take away. With an embedded
// server the list is a journal, for the next life of this node.
type Presence struct {
	b       *Belt
	node    *Node
	events  *publisher
	journal *journal // the list, with an embedded server; else nil

	acks *inbox // of what is written on the list

	mu      sync.Mutex
	created time.Time       // the list's birth, as we know it
	lost    bool            // our sessions are to be entered again
	looks   int             // how often the list is still to be searched for sessions of dead nodes
	dying   map[uint64]bool // found at the last look: they end at the next
}

// afterDeath is how often the list is searched once a node has ended: what it
// wrote last may come late, and another's first beat may be heard late.
const afterDeath = 2

// Presence makes what is missing. Close ends it.
func (b *Belt) Presence(ctx context.Context, node *Node) (*Presence, error) {
	p := &Presence{b: b, node: node, looks: afterDeath}
	node.OnGone(func(NodeInfo) { p.search(afterDeath) })
	cfg := jetstream.StreamConfig{
		Name: PresenceLogStream, Subjects: []string{presenceLogRoot + everything},
		Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Discard: jetstream.DiscardOld, MaxBytes: presenceLogBytes,
		Replicas: b.opts.Replicas, Duplicates: b.dedupWindow(), AllowAtomicPublish: true, AllowDirect: true,
	}
	if err := b.ensureStream(ctx, cfg); err != nil {
		return nil, fmt.Errorf("pipeline: stream %s: %w", cfg.Name, err)
	}
	var err error
	if b.opts.Server != nil {
		p.journal, err = openJournal(ctx, p)
	} else {
		err = p.ensureList(ctx)
	}
	if err != nil {
		return nil, err
	}
	if p.acks, err = openInbox(b.nc); err != nil {
		return nil, fmt.Errorf("pipeline: open the list of sessions: %w", err)
	}
	if p.events, err = b.openPublisher(ctx, PresenceLogStream); err != nil {
		p.acks.close()
		return nil, err
	}
	return p, nil
}

// Close finishes what was begun. The presence room stops before.
func (p *Presence) Close(ctx context.Context) error {
	p.acks.close()
	return p.events.close(ctx)
}

// Write implements presence.Log. A session is on the list from before its
// beginning is told until after its end is: whenever this node dies, another
// finds there what is left to tell. An end may so be told twice. One that is
// over already is entered as its end: nobody takes it for open.
func (p *Presence) Write(ctx context.Context, events []device.PresenceEvent) error {
	ctx, cancel := context.WithTimeout(ctx, 2*p.b.opts.AckTimeout)
	defer cancel()
	parcels := parcelsOf(events)
	if p.journal != nil {
		return p.journal.around(ctx, events, parcels, func() error { return p.log(ctx, parcels) })
	}
	if err := p.list(ctx, p.entered(events)); err != nil {
		return err
	}
	if err := p.log(ctx, parcels); err != nil {
		return err
	}
	return p.list(ctx, p.left(events))
}

// log appends events and waits until they are durable.
func (p *Presence) log(ctx context.Context, parcels []parcel) error {
	done := make(chan error, len(parcels))
	answer := func(_ uint64, err error) { done <- err }
	items := make([]item, len(parcels))
	for i := range parcels {
		items[i] = item{subject: presenceLogSubject(parcels[i].tenant), body: parcels[i].body, done: answer}
	}
	if err := p.events.publishAll(items); err != nil {
		return fmt.Errorf("pipeline: tell presence: %w", err)
	}
	var failed error
	for range items {
		select {
		case err := <-done:
			failed = errors.Join(failed, err)
		case <-ctx.Done():
			return fmt.Errorf("pipeline: tell presence: %w", ctx.Err())
		}
	}
	if failed != nil {
		return fmt.Errorf("pipeline: tell presence: %w", failed)
	}
	return nil
}

// Restore implements presence.Log: it enters the open sessions again after the
// list was lost, or this node began another incarnation.
func (p *Presence) Restore(ctx context.Context, open func() []device.PresenceEvent) error {
	if p.journal != nil {
		return p.journal.restore(ctx, open)
	}
	look, cancel := context.WithTimeout(ctx, p.b.opts.AckTimeout) // an answer may be lost with a connection, and events wait behind this
	err := p.ensureList(look)
	cancel()
	if err != nil {
		return err
	}
	p.mu.Lock()
	lost := p.lost
	p.mu.Unlock()
	if lost {
		p.b.log.Warn("the list of open sessions was lost; this node's are entered again")
		if err := p.list(ctx, p.entered(open())); err != nil {
			return err
		}
		p.mu.Lock()
		p.lost = false
		p.mu.Unlock()
	}
	p.mu.Lock()
	looks := p.looks
	p.mu.Unlock()
	if looks == 0 || !p.node.Elder() {
		return nil
	}
	return p.bury(ctx)
}

// search has the list searched at least so often from now on.
func (p *Presence) search(looks int) {
	p.mu.Lock()
	p.looks = max(p.looks, looks)
	p.mu.Unlock()
}

// bury ends the sessions that dead nodes left on the list, "node-lost", when it
// finds them for the second time.
func (p *Presence) bury(ctx context.Context) error {
	p.mu.Lock()
	p.looks--
	dying := p.dying
	p.mu.Unlock()
	found := map[uint64]bool{}
	var ends []device.PresenceEvent
	var struck []listEntry
	err := p.b.readSubject(ctx, PresenceStream, presenceRoot+everything, func(r raw) {
		e, err := devicepb.UnmarshalPresence(r.body)
		switch {
		case err != nil || len(r.body) == 0 || p.node.Lives(incarnationOf(r.subject)):
		case !dying[r.seq]:
			found[r.seq] = true
		default:
			ends, struck = append(ends, lost(e)), append(struck, listEntry{subject: r.subject})
		}
	})
	if err == nil && len(ends) > 0 {
		err = p.endDead(ctx, ends, struck)
	}
	if err != nil {
		p.search(1) // what is dying stays so
		return err
	}
	if len(found) > 0 {
		p.search(afterDeath)
	}
	p.mu.Lock()
	p.dying = found
	p.mu.Unlock()
	return nil
}

// lost is the end of a session that its node left on the list: it ended with the node,
// unless it was over before, and its end is there.
func lost(e *device.PresenceEvent) device.PresenceEvent {
	end := *e
	if end.Connected {
		end.Connected, end.Reason, end.At = false, device.LeftNodeLost, time.Now().UTC()
	}
	return end
}

// endDead tells that sessions on the list have ended with their node, and takes
// them off it.
func (p *Presence) endDead(ctx context.Context, ends []device.PresenceEvent, struck []listEntry) error {
	p.b.log.Info("sessions of a dead node have ended", "sessions", len(ends))
	if err := p.log(ctx, parcelsOf(ends)); err != nil {
		return err
	}
	return p.list(ctx, struck)
}
