package topic

import (
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
	m.handing.Lock()
	m.taken.note(device.Taken{Filter: sh.filter(), Ref: ref}, time.Now().Add(m.s.cfg.TakenFor))
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
