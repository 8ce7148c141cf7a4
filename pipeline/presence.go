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

// presenceLogBytes bounds PRESENCE_EVENTS: some 300,000 beginnings and ends,
// the oldest going first.
const presenceLogBytes = 64 << 20

// Presence is who is connected: PRESENCE lists the open sessions of all nodes,
// each under a subject that begins with its node's incarnation, and
// PRESENCE_EVENTS tells of every beginning and end. The list is written without
// syncing, because the nodes know their own sessions: what is lost of it they
// enter again, and what a dead node left on it others take away.
type Presence struct {
	b      *Belt
	node   *Node
	events *publisher

	mu      sync.Mutex
	seqs    map[string]uint64 // where our open sessions stand on the list
	created time.Time         // the list's birth, as we know it
	lost    bool              // our sessions are to be entered again
	looks   int               // how often the list is still to be searched for sessions of dead nodes
	dying   map[uint64]bool   // found at the last look: they end at the next
}

// afterDeath is how often the list is searched once a node has ended: what it
// wrote last may come late, and another's first beat may be heard late.
const afterDeath = 2

// Presence makes what is missing. Close ends it.
func (b *Belt) Presence(ctx context.Context, node *Node) (*Presence, error) {
	p := &Presence{b: b, node: node, seqs: map[string]uint64{}, looks: afterDeath}
	node.OnGone(func(NodeInfo) { p.search(afterDeath) })
	cfg := jetstream.StreamConfig{
		Name: PresenceLogStream, Subjects: []string{presenceLogRoot + everything},
		Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Discard: jetstream.DiscardOld, MaxBytes: presenceLogBytes,
		Replicas: b.opts.Replicas, Duplicates: b.dedupWindow(), AllowAtomicPublish: true, AllowDirect: true,
	}
	if err := b.ensureStream(ctx, cfg); err != nil {
		return nil, fmt.Errorf("pipeline: stream %s: %w", cfg.Name, err)
	}
	if err := p.ensureList(ctx); err != nil {
		return nil, err
	}
	var err error
	if p.events, err = b.openPublisher(PresenceLogStream); err != nil {
		return nil, err
	}
	return p, nil
}

// Close finishes what was begun. The presence room stops before.
func (p *Presence) Close(ctx context.Context) error { return p.events.close(ctx) }

// ensureList makes the list. One server keeps it on disk, so that it outlives a
// restart; several keep it in their memories, which R3 on disk would sync, and
// number its lives, as those of the leases. On disk it is numbered from 1: the
// server's recovery counts from the last sequence it can still read to the last
// it had, one by one, and where a power cut tore the block that would be for ever.
func (p *Presence) ensureList(ctx context.Context) error {
	cfg := jetstream.StreamConfig{
		Name: PresenceStream, Subjects: []string{presenceRoot + everything}, MaxMsgsPerSubject: 1, AllowDirect: true,
		Storage: jetstream.FileStorage, PersistMode: jetstream.AsyncPersistMode, Replicas: p.b.opts.Replicas,
	}
	ensure := p.b.ensureDisposable
	if cfg.Replicas > 1 {
		cfg.Storage, cfg.PersistMode = jetstream.MemoryStorage, jetstream.DefaultPersistMode
		ensure = p.b.ensureCounted
	}
	if err := ensure(ctx, cfg); err != nil {
		return fmt.Errorf("pipeline: stream %s: %w", cfg.Name, err)
	}
	s, err := p.b.js.Stream(ctx, PresenceStream)
	if err != nil {
		return fmt.Errorf("pipeline: stream %s: %w", cfg.Name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := s.CachedInfo().Created; !at.Equal(p.created) {
		p.lost, p.created = !p.created.IsZero(), at
	}
	return nil
}

// Write implements presence.Log. A session is on the list from before its
// beginning is told until after its end is: whenever this node dies, another
// finds there what is left to tell. An end may so be told twice. One that is
// over already is entered as its end: nobody takes it for open.
func (p *Presence) Write(ctx context.Context, events []device.PresenceEvent) error {
	ctx, cancel := context.WithTimeout(ctx, 2*p.b.opts.AckTimeout)
	defer cancel()
	var begun []device.PresenceEvent
	at := map[string]int{}
	for _, e := range events {
		if e.Connected {
			at[e.ID] = len(begun)
			begun = append(begun, e)
		} else if i, here := at[e.ID]; here {
			begun[i] = e
		}
	}
	if err := p.enter(ctx, begun); err != nil {
		return fmt.Errorf("pipeline: list sessions: %w", err)
	}
	if err := p.log(ctx, events); err != nil {
		return fmt.Errorf("pipeline: tell presence: %w", err)
	}
	if err := p.leave(ctx, events); err != nil {
		return fmt.Errorf("pipeline: list sessions: %w", err)
	}
	return nil
}

// leave takes what has ended off the list.
func (p *Presence) leave(ctx context.Context, events []device.PresenceEvent) error {
	s, err := p.b.js.Stream(ctx, PresenceStream)
	if err != nil {
		return err
	}
	p.mu.Lock()
	another := !s.CachedInfo().Created.Equal(p.created)
	p.mu.Unlock()
	if another { // made anew: what we know the places of is not there, and Restore enters what is open
		return nil
	}
	for _, e := range events {
		p.mu.Lock()
		seq, listed := p.seqs[e.ID]
		p.mu.Unlock()
		if e.Connected || !listed {
			continue
		}
		if err := p.strike(ctx, s, seq); err != nil {
			return err
		}
		p.mu.Lock()
		delete(p.seqs, e.ID)
		p.mu.Unlock()
	}
	return nil
}

// enter writes sessions of ours on the list, all of them under way at once.
func (p *Presence) enter(ctx context.Context, open []device.PresenceEvent) error {
	incarnation := p.node.Info().Incarnation
	futures := make([]jetstream.PubAckFuture, len(open))
	for i := range open {
		e := &open[i]
		var err error
		if futures[i], err = p.b.js.PublishAsync(presenceSubject(incarnation, e.Device, e.ID), devicepb.MarshalPresence(e)); err != nil {
			return err
		}
	}
	for i, f := range futures {
		select {
		case ack := <-f.Ok():
			p.mu.Lock()
			p.seqs[open[i].ID] = ack.Sequence
			p.mu.Unlock()
		case err := <-f.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// strike takes one entry off the list; what is gone already is no error.
func (p *Presence) strike(ctx context.Context, s jetstream.Stream, seq uint64) error {
	err := s.DeleteMsg(ctx, seq)
	if err == nil {
		return nil
	}
	if has, herr := p.b.holds(ctx, PresenceStream, seq); !has && herr == nil {
		return nil
	}
	return err
}

// log appends events and waits until they are durable.
func (p *Presence) log(ctx context.Context, events []device.PresenceEvent) error {
	done := make(chan error, len(events))
	for i := range events {
		e := &events[i]
		err := p.events.publish(item{subject: presenceLogSubject(e.Device), body: devicepb.MarshalPresence(e), done: func(_ uint64, err error) { done <- err }})
		if err != nil {
			return err
		}
	}
	var failed error
	for range events {
		select {
		case err := <-done:
			failed = errors.Join(failed, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return failed
}

// Restore implements presence.Log: it enters the open sessions again after the
// list was lost, or this node began another incarnation.
func (p *Presence) Restore(ctx context.Context, open func() []device.PresenceEvent) error {
	look, cancel := context.WithTimeout(ctx, p.b.opts.AckTimeout) // an answer may be lost with a connection, and events wait behind this
	err := p.ensureList(look)
	cancel()
	if err != nil {
		return err
	}
	p.mu.Lock()
	lost := p.lost
	if lost {
		clear(p.seqs)
	}
	p.mu.Unlock()
	if lost {
		p.b.log.Warn("the list of open sessions was lost; this node's are entered again")
		if err := p.enter(ctx, open()); err != nil {
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
	dead := map[uint64]device.PresenceEvent{}
	err := p.b.readSubject(ctx, PresenceStream, presenceRoot+everything, func(r raw) {
		e, err := devicepb.UnmarshalPresence(r.body)
		switch {
		case err != nil || p.node.Lives(incarnationOf(r.subject)):
		case dying[r.seq]:
			dead[r.seq] = *e
		default:
			found[r.seq] = true
		}
	})
	if err == nil {
		err = p.endDead(ctx, dead)
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

// endDead tells that sessions on the list have ended with their node, and takes
// them off it.
func (p *Presence) endDead(ctx context.Context, dead map[uint64]device.PresenceEvent) error {
	if len(dead) == 0 {
		return nil
	}
	s, err := p.b.js.Stream(ctx, PresenceStream)
	if err != nil {
		return fmt.Errorf("pipeline: list sessions: %w", err)
	}
	var ends []device.PresenceEvent
	for _, e := range dead {
		if e.Connected {
			e.Connected, e.Reason, e.At = false, device.LeftNodeLost, time.Now().UTC()
		}
		ends = append(ends, e)
	}
	p.b.log.Info("sessions of a dead node have ended", "sessions", len(ends))
	if err := p.log(ctx, ends); err != nil {
		return err
	}
	for seq := range dead {
		if err := p.strike(ctx, s, seq); err != nil {
			return err
		}
	}
	return nil
}
