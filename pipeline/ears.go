package pipeline

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tributary-iot/tributary/device"
)

// ears are those who listen to what is cast on topics, where this process is the only
// node because the NATS server is its own. Whoever publishes tells them, and NATS has
// nothing to do with it.
type ears struct {
	mu   sync.Mutex // of changing what follows
	now  atomic.Pointer[map[string][]party]
	turn atomic.Uint64
}

// party is those of a tenant who listen alone, or for one group.
type party struct {
	group device.Group // of those alone, the tenant only
	ears  []*ear
}

type ear struct{ fn func(*device.Publication) }

// listen has fn told of what is cast to a group, or in the tenant of one without a
// filter, until stop; from several goroutines at a time.
func (x *ears) listen(g device.Group, fn func(*device.Publication)) (stop func()) {
	e := &ear{fn}
	x.change(g, func(all []*ear) []*ear { return append(all, e) })
	return func() {
		x.change(g, func(all []*ear) []*ear { return slices.DeleteFunc(all, func(other *ear) bool { return other == e }) })
	}
}

func (x *ears) change(g device.Group, how func([]*ear) []*ear) {
	x.mu.Lock()
	defer x.mu.Unlock()
	next := map[string][]party{}
	if now := x.now.Load(); now != nil {
		for tenant, parties := range *now {
			next[tenant] = parties
		}
	}
	var own []*ear
	parties := slices.DeleteFunc(slices.Clone(next[g.Tenant]), func(p party) bool {
		if p.group == g {
			own = slices.Clone(p.ears)
		}
		return p.group == g
	})
	if own = how(own); len(own) > 0 {
		parties = append(parties, party{g, own})
	}
	if next[g.Tenant] = parties; len(parties) == 0 {
		delete(next, g.Tenant)
	}
	x.now.Store(&next)
}

// tell tells everybody who listens alone, and one of each group that takes the topic.
func (x *ears) tell(p *device.Publication) {
	now := x.now.Load()
	if now == nil {
		return
	}
	for _, of := range (*now)[p.Tenant] {
		switch {
		case of.group.Filter == "":
			for _, e := range of.ears {
				e.fn(p)
			}
		case device.FilterMatches(of.group.Filter, p.Topic):
			of.ears[x.turn.Add(1)%uint64(len(of.ears))].fn(p)
		}
	}
}
