package pipeline

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// The messages of the journal: a parcel of what is about to be told, or of sessions that
// are open; and that all was told that is before.
const (
	journalNews = presenceRoot + ".news"
	journalTold = presenceRoot + ".told"
)

// tidyAt is how many entries more than those of two times the open sessions the journal
// has before it is written anew.
const tidyAt = 8192

// journal is PRESENCE with an embedded server. No other node reads it, and this one knows
// its sessions; it is there for the next life of this node, which tells that those have
// ended that this one leaves open. So it is written in parcels, and read once. When most
// of it is over, what is open is written anew and all before is removed.
//
// Its calls are made one after the other.
type journal struct {
	p         *Presence
	created   time.Time // the stream's birth, as we know it
	inherited uint64    // the last sequence of what an earlier life left; 0: nothing, or that is told
	lost      bool      // what is open is to be written anew
	entries   int       // written since it was last tidied
	open      int       // of them, sessions that are open
}

func openJournal(ctx context.Context, p *Presence) (*journal, error) {
	j := &journal{p: p}
	state, err := j.ensure(ctx)
	if err != nil {
		return nil, err
	}
	if j.lost = false; state.Msgs > 0 {
		j.inherited = state.LastSeq
	}
	return j, nil
}

// ensure makes the stream, on disk and unsynced, where it is not there. One that holds a
// message a session, as it did before, is of no use any more.
func (j *journal) ensure(ctx context.Context) (jetstream.StreamState, error) {
	wrap := func(err error) (jetstream.StreamState, error) {
		return jetstream.StreamState{}, fmt.Errorf("pipeline: stream %s: %w", PresenceStream, err)
	}
	cfg := jetstream.StreamConfig{
		Name: PresenceStream, Subjects: []string{presenceRoot + everything}, AllowDirect: true,
		Storage: jetstream.FileStorage, PersistMode: jetstream.AsyncPersistMode, Replicas: 1,
	}
	if err := j.p.b.ensureDisposable(ctx, cfg); err != nil {
		return wrap(err)
	}
	s, err := j.p.b.js.Stream(ctx, PresenceStream)
	if err == nil && s.CachedInfo().Config.MaxMsgsPerSubject == 1 {
		if err = j.p.b.js.DeleteStream(ctx, PresenceStream); err == nil {
			s, err = j.p.b.js.CreateStream(ctx, cfg)
		}
	}
	if err != nil {
		return wrap(err)
	}
	info := s.CachedInfo()
	if !info.Created.Equal(j.created) {
		j.created, j.lost, j.inherited = info.Created, true, 0
	}
	return info.State, nil
}

// around tells events, and writes what the next life needs to know of them before and after.
func (j *journal) around(ctx context.Context, events []device.PresenceEvent, parcels []parcel, tell func() error) error {
	if err := j.write(ctx, parcels); err != nil {
		return err
	}
	if err := tell(); err != nil {
		return err
	}
	ended := 0
	for i := range events {
		if !events[i].Connected {
			ended++
		}
	}
	if ended > 0 {
		if _, err := j.p.b.js.Publish(ctx, journalTold, nil); err != nil {
			return fmt.Errorf("pipeline: list sessions: %w", err)
		}
	}
	j.entries += len(events)
	j.open += len(events) - 2*ended
	return nil
}

func (j *journal) write(ctx context.Context, parcels []parcel) error {
	for _, p := range parcels {
		if _, err := j.p.b.js.Publish(ctx, journalNews, p.body); err != nil {
			return fmt.Errorf("pipeline: list sessions: %w", err)
		}
	}
	return nil
}

// restore is Presence.Restore.
func (j *journal) restore(ctx context.Context, open func() []device.PresenceEvent) error {
	look, cancel := context.WithTimeout(ctx, j.p.b.opts.AckTimeout)
	_, err := j.ensure(look)
	cancel()
	if err != nil {
		return err
	}
	if j.inherited > 0 {
		if err := j.bury(ctx); err != nil {
			return err
		}
	}
	if j.lost {
		j.p.b.log.Warn("the list of open sessions was lost; this node's are entered again")
	}
	if j.lost || j.entries > tidyAt+2*j.open {
		return j.tidy(ctx, open())
	}
	return nil
}

// bury tells that the sessions have ended that an earlier life of this node left open.
func (j *journal) bury(ctx context.Context) error {
	left := map[string]*device.PresenceEvent{}
	var over []string // those that ended, and nothing says that this was told
	err := j.p.b.readSubject(ctx, PresenceStream, presenceRoot+everything, func(r raw) {
		if r.seq > j.inherited {
			return // ours
		}
		if r.subject == journalTold {
			for _, id := range over {
				delete(left, id)
			}
			over = nil
			return
		}
		events, err := devicepb.UnmarshalPresences(r.body)
		if err != nil {
			return // torn
		}
		for i := range events {
			e := &events[i]
			if left[e.ID] = e; !e.Connected {
				over = append(over, e.ID)
			}
		}
	})
	if err != nil {
		return err
	}
	var ends []device.PresenceEvent
	for _, id := range slices.Sorted(maps.Keys(left)) {
		ends = append(ends, lost(left[id]))
	}
	if len(ends) > 0 {
		j.p.b.log.Info("sessions of a dead node have ended", "sessions", len(ends))
	}
	if err := j.p.log(ctx, parcelsOf(ends)); err != nil {
		return err
	}
	if err := j.remove(ctx, j.inherited+1); err != nil {
		return err
	}
	j.inherited = 0
	return nil
}

// tidy writes the journal anew: what is open, and nothing before.
func (j *journal) tidy(ctx context.Context, open []device.PresenceEvent) error {
	s, err := j.p.b.js.Stream(ctx, PresenceStream)
	if err != nil {
		return fmt.Errorf("pipeline: list sessions: %w", err)
	}
	next := s.CachedInfo().State.LastSeq + 1
	if err := j.write(ctx, parcelsOf(open)); err != nil {
		return err
	}
	if err := j.remove(ctx, next); err != nil {
		return err
	}
	j.lost, j.entries, j.open = false, len(open), len(open)
	return nil
}

// remove takes away what was written before a sequence.
func (j *journal) remove(ctx context.Context, before uint64) error {
	s, err := j.p.b.js.Stream(ctx, PresenceStream)
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSequence(before))
	}
	if err != nil {
		return fmt.Errorf("pipeline: list sessions: %w", err)
	}
	return nil
}
