package topic

import (
	"context"
	"slices"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// What a session's record names of what it took with QoS 2 in the place of a group. The
// NATS server writes acknowledgements down some ten times a second; one that is killed
// before it does offers their messages again, some at once, some when the time to
// acknowledge them is over.
const (
	takenAgain = time.Minute // after the session was resumed
	takenMost  = 1024        // messages, the newest
)

// takenLately is what a member took. It is under the member's lock of handing.
type takenLately []takenUntil

type takenUntil struct {
	device.Taken
	until time.Time
}

func (l *takenLately) note(t device.Taken, until time.Time) {
	if len(*l) >= takenMost {
		*l = slices.Delete(*l, 0, 1)
	}
	*l = append(*l, takenUntil{t, until})
}

func (l *takenLately) forget(t device.Taken) {
	*l = slices.DeleteFunc(*l, func(old takenUntil) bool { return old.Taken == t })
}

// taken is the message as the member's record names it.
func (h *handed) taken() device.Taken { return device.Taken{Filter: h.sh.filter(), Ref: h.ref} }

// took notes what the record said before the member was resumed.
func (m *member) took(all []device.Taken) {
	m.handing.Lock()
	defer m.handing.Unlock()
	m.taken = nil // of a try before this one
	for _, t := range all {
		m.taken.note(t, time.Now().Add(takenAgain))
	}
}

// tookAgain notes that a message the member took was offered to its group again, and
// acknowledged once more. Nil is nobody: the record is as it was.
func (m *member) tookAgain(sh *share, ref device.Ref) {
	if m == nil {
		return
	}
	t := device.Taken{Filter: sh.filter(), Ref: ref}
	m.handing.Lock()
	m.taken.forget(t) // a list that grew with every life of a server would lose what it is for
	m.taken.note(t, time.Now().Add(m.s.cfg.TakenFor))
	m.handing.Unlock()
	m.saves.Lock()
	m.dirty = true
	m.saves.Unlock()
}

// takenNow is what the record is to name: what was acknowledged for the group lately,
// and what is about to be, as the record has it among the unfinished.
func (m *member) takenNow(open []device.Outgoing) (all []device.Taken) {
	m.handing.Lock()
	defer m.handing.Unlock()
	now := time.Now()
	m.taken = slices.DeleteFunc(m.taken, func(t takenUntil) bool { return !now.Before(t.until) })
	for _, t := range m.taken {
		all = append(all, t.Taken)
	}
	if len(m.handed) == 0 {
		return all
	}
	begun := map[device.Ref]bool{}
	for _, o := range open {
		if o.Shared && o.QoS == 2 {
			begun[o.Ref] = true
		}
	}
	for h := range m.handed {
		if h.qos == 2 && begun[h.ref] {
			all = append(all, h.taken())
		}
	}
	return all
}

// shareFilter is a group's subscription as its members write it.
func shareFilter(g device.Group) string { return "$share/" + g.Name + "/" + g.Filter }

func (sh *share) filter() string { return shareFilter(sh.group) }

// endsFor is where the sources end that a record may name a place in.
func (s *Service) endsFor(ctx context.Context, r *device.SessionRecord) (map[device.Source]device.Position, error) {
	wanted := []device.Source{device.SourceTopics, device.SourceTelemetry}
	if slices.ContainsFunc(r.State.Outgoing, func(o device.Outgoing) bool { return o.Ref.Source == device.SourceRetained }) {
		wanted = append(wanted, device.SourceRetained)
	}
	ends := map[device.Source]device.Position{}
	for _, src := range wanted {
		end, err := s.log.End(ctx, src)
		if err != nil {
			return nil, err
		}
		ends[src] = end
	}
	return ends, nil
}

// forgetLost takes from a record what it names of a stream that was lost and made anew:
// another message may have that place, or get it. An identifier in use stays in use.
func forgetLost(r *device.SessionRecord, ends map[device.Source]device.Position) {
	lost := func(ref device.Ref) bool { return ref.Epoch != 0 && ref.Epoch != ends[ref.Source].Epoch }
	for i := range r.State.Outgoing {
		if o := &r.State.Outgoing[i]; lost(o.Ref) {
			o.Ref = device.Ref{Source: o.Ref.Source}
		}
	}
	r.Taken = slices.DeleteFunc(r.Taken, func(t device.Taken) bool { return lost(t.Ref) })
}
