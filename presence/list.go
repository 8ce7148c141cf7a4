package presence

import (
	"cmp"
	"slices"

	"github.com/tributary-iot/tributary/device"
)

// scanned is how many sessions are looked at before others have their turn, and spareOver
// how many that are over may be among them before they are taken out.
const (
	scanned   = 10_000
	spareOver = 1000
)

// Sessions answers at most limit sessions of this node that belong to a tenant, or to one
// device of it, in the order they were entered, after a place; and the place to go on
// after, 0 when there are no more.
func (s *Service) Sessions(tenant, devicename string, after uint64, limit int) (all []device.PresenceEvent, next uint64) {
	for more := true; more; {
		all, after, more = s.some(all, tenant, devicename, after, limit)
		if len(all) == limit && more {
			return all, after
		}
	}
	return all, 0
}

// some adds to all what is found among the next few sessions, and answers the place of the
// last that was looked at.
func (s *Service) some(all []device.PresenceEvent, tenant, devicename string, after uint64, limit int) ([]device.PresenceEvent, uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := slices.BinarySearchFunc(s.order, after, func(t *Stay, place uint64) int { return cmp.Compare(t.place, place) })
	if found {
		i++
	}
	for end := min(len(s.order), i+scanned); i < end && len(all) < limit; i++ {
		t := s.order[i]
		after = t.place
		if !t.over && t.who.Device.Tenant == tenant && (devicename == "" || t.who.Device.Device == devicename) {
			all = append(all, t.beginning())
		}
	}
	return all, after, i < len(s.order)
}

// pass takes those that are over out of the order, when there are many; mu is held.
func (s *Service) pass() {
	s.over++
	if s.over > len(s.order)/2+spareOver {
		s.order = slices.Clip(slices.DeleteFunc(s.order, func(t *Stay) bool { return t.over }))
		s.over = 0
	}
}

// Open is the sessions of this node, each as its beginning.
func (s *Service) Open() []device.PresenceEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beginnings()
}

func (s *Service) beginnings() (events []device.PresenceEvent) {
	for _, t := range s.order {
		if !t.over {
			events = append(events, t.beginning())
		}
	}
	return events
}

// untold is what is to be on the list of open sessions: those that are, and those whose
// end is still to be told.
func (s *Service) untold() []device.PresenceEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := s.beginnings()
	for _, waiting := range [...][]happening{s.hand, s.queue} {
		for i := range waiting {
			if h := &waiting[i]; h.ended != "" {
				events = append(events, h.stay.beginning())
			}
		}
	}
	return events
}
