package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// struckFor is how long the mark of a session taken off the list stays in its place:
// nobody looks for it.
const struckFor = time.Second

// listFlight is how many entries of the list are under way at once.
const listFlight = 1000

// listEntry is a message of the list. One without a body takes what is there off it.
type listEntry struct {
	subject string
	body    []byte
}

// ensureList makes the list of several nodes. One server keeps it on disk, so that it
// outlives a restart; several keep it in their memories, which R3 on disk would sync, and
// number its lives, as those of the leases. On disk it is numbered from 1: the
// server's recovery counts from the last sequence it can still read to the last
// it had, one by one, and where a power cut tore the block that would be for ever.
func (p *Presence) ensureList(ctx context.Context) error {
	cfg := jetstream.StreamConfig{
		Name: PresenceStream, Subjects: []string{presenceRoot + everything}, MaxMsgsPerSubject: 1, AllowDirect: true, AllowMsgTTL: true,
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

// entered is what events are on the list before they are told: their beginnings. A
// session that began and ended among them is entered as its end.
func (p *Presence) entered(events []device.PresenceEvent) (entries []listEntry) {
	at := map[string]int{}
	for i := range events {
		e := &events[i]
		if n, here := at[e.ID]; here && !e.Connected {
			entries[n].body = devicepb.MarshalPresence(e)
		} else if e.Connected {
			at[e.ID] = len(entries)
			entries = append(entries, listEntry{presenceSubject(p.node.Info().Incarnation, e.Device, e.ID), devicepb.MarshalPresence(e)})
		}
	}
	return entries
}

// left is what takes those that ended with events off the list, once they are told.
func (p *Presence) left(events []device.PresenceEvent) (entries []listEntry) {
	for i := range events {
		if e := &events[i]; !e.Connected {
			entries = append(entries, listEntry{subject: presenceSubject(p.node.Info().Incarnation, e.Device, e.ID)})
		}
	}
	return entries
}

// list writes entries, many of them under way at once, and waits until they are there.
func (p *Presence) list(ctx context.Context, entries []listEntry) error {
	for len(entries) > 0 {
		n := min(len(entries), listFlight)
		if err := p.listSome(ctx, entries[:n]); err != nil {
			return fmt.Errorf("pipeline: list sessions: %w", err)
		}
		entries = entries[n:]
	}
	return nil
}

// listSome has every entry answered.
func (p *Presence) listSome(ctx context.Context, entries []listEntry) error {
	answers := make(chan reply, len(entries))
	number := p.acks.expect(func(_ int, r reply) {
		select {
		case answers <- r:
		default: // each is answered once
		}
	})
	defer p.acks.forget(number)
	gone := lifetime(struckFor)
	for i, e := range entries {
		m := &nats.Msg{Subject: e.subject, Data: e.body, Reply: p.acks.subject(number, i)}
		if e.body == nil {
			m.Header = gone
		}
		if err := p.b.nc.PublishMsg(m); err != nil {
			return err
		}
	}
	for range entries {
		select {
		case r := <-answers:
			if r.code != 0 {
				return r.err()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
