package https

import (
	"sync"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// How many settlements are remembered, and how long, at least: a device that
// did not get its 204 settles again, and shall get it then.
const (
	repeatsKept = 10_000
	repeatsAge  = 5 * time.Minute
)

// settled names one settlement: a token is good for one delivery only.
type settled struct {
	device  device.ID
	command string
	token   string
}

// repeats remembers how deliveries were settled. Two generations bound it: the
// younger becomes the older when it is full or old enough.
type repeats struct {
	mu             sync.Mutex
	younger, older map[settled]device.OutcomeKind
	since          time.Time
}

// remember keeps a settlement that is durable.
func (r *repeats) remember(s settled, kind device.OutcomeKind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); r.younger == nil || len(r.younger) >= repeatsKept || now.Sub(r.since) >= repeatsAge {
		r.older, r.younger, r.since = r.younger, map[settled]device.OutcomeKind{}, now
	}
	r.younger[s] = kind
}

// was reports whether s was settled just so.
func (r *repeats) was(s settled, kind device.OutcomeKind) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.younger[s] == kind || r.older[s] == kind
}
