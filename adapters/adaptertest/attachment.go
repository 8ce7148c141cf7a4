package adaptertest

import (
	"slices"
	"sync"

	"github.com/tributary-iot/tributary/device"
)

// attachment is one session's hold on the Gate's mailbox of its device. All its
// fields but the wake-up are guarded by the gate's lock.
type attachment struct {
	gate    *Gate
	session device.Session
	offer   func(device.Delivery)
	lost    func()

	credit   int
	held     map[string]device.Delivery // offered and not settled
	lostOnce bool
	detached bool

	wakeMu sync.Mutex
	wake   *sync.Cond
	dirty  bool
}

// Request implements adapters.Attachment.
func (a *attachment) Request(n int) {
	a.gate.update(func() { a.credit += n })
}

// Settle implements adapters.Attachment.
func (a *attachment) Settle(id string, attempt int, o device.Outcome, done func(error)) {
	var err error
	a.gate.update(func() {
		d, held := a.held[id]
		if !held || d.Attempt != attempt {
			err = device.Errorf(device.Conflict, "this session does not hold command %s", id)
			return
		}
		delete(a.held, id)
		a.gate.settled = append(a.gate.settled, Settled{id, attempt, o})
		if o.Kind == device.Accepted || o.Kind == device.Unconfirmed {
			a.gate.transition(device.CommandEvent{Command: id, State: device.StateDelivered})
		}
		if o.Kind == device.Released || o.Kind == device.LockExpired {
			a.gate.enqueue(a.session.Device, device.Delivery{Command: d.Command, Attempt: attempt + 1})
		}
	})
	if done != nil {
		go done(err)
	}
}

// Detach implements adapters.Attachment.
func (a *attachment) Detach(string) {
	a.gate.update(func() {
		if a.detached {
			return
		}
		a.detached = true
		a.requeue()
		stack := a.gate.sessions[a.session.Device]
		a.gate.sessions[a.session.Device] = slices.DeleteFunc(stack, func(b *attachment) bool { return a == b })
	})
	a.signal()
}

// displaced is called under the gate's lock when a newer session takes the lease.
func (a *attachment) displaced() {
	a.requeue()
	if !a.lostOnce && a.lost != nil {
		a.lostOnce = true
		go a.lost()
	}
}

func (a *attachment) requeue() {
	for _, d := range a.held {
		a.gate.enqueue(a.session.Device, device.Delivery{Command: d.Command, Attempt: d.Attempt + 1})
	}
	clear(a.held)
}

// next takes a delivery when this session holds the lease and has credit.
func (a *attachment) next() (device.Delivery, bool) {
	a.gate.mu.Lock()
	defer a.gate.mu.Unlock()
	stack, queue := a.gate.sessions[a.session.Device], a.gate.queues[a.session.Device]
	if a.detached || a.credit == 0 || len(queue) == 0 || len(stack) == 0 || stack[len(stack)-1] != a {
		return device.Delivery{}, false
	}
	d := queue[0]
	a.gate.queues[a.session.Device] = queue[1:]
	a.credit--
	a.held[d.Command.ID] = d
	return d, true
}

func (a *attachment) run() {
	for {
		for d, ok := a.next(); ok; d, ok = a.next() {
			a.offer(d)
		}
		a.wakeMu.Lock()
		for !a.dirty {
			a.wake.Wait()
		}
		a.dirty = false
		a.wakeMu.Unlock()
		a.gate.mu.Lock()
		detached := a.detached
		a.gate.mu.Unlock()
		if detached {
			return
		}
	}
}

func (a *attachment) signal() {
	a.wakeMu.Lock()
	a.dirty = true
	a.wakeMu.Unlock()
	a.wake.Signal()
}
