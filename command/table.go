package command

import (
	"container/heap"
	"time"
	"unique"

	"github.com/oklog/ulid/v2"

	"github.com/tributary-iot/tributary/device"
)

// table is what the node knows of every command that is still in the mailbox:
// about 130 bytes each, whatever the payload. It is built and kept by reading
// the two streams, and answers four questions: whose command is this id, which
// deadline is next, what may be removed, and what did this node hold before it
// was restarted. Service.mu guards it.
type table struct {
	node     string
	byID     map[ulid.ULID]*entry
	due      dueHeap
	waiting  map[device.ID]int    // commands not ended, per device that has any
	orphans  map[ulid.ULID]*entry // those in byID whose request was not seen (yet)
	finished map[ulid.ULID]*entry // those in byID that have ended
	requests order                // those in byID with a request, oldest first
	events   order                // those in byID with an event, by their first
}

type entry struct {
	id       ulid.ULID
	dev      unique.Handle[device.ID]
	state    device.CommandState
	ours     bool                  // SENT by this node
	holder   unique.Handle[string] // the node it is SENT by
	oneWay   bool
	gone     bool          // forgotten, but still in an order
	index    int32         // in the heap; -1: not there
	timeout  time.Duration // of the answer
	deadline int64         // nanoseconds
	at       int64         // the next deadline: what the heap is ordered by
	request  uint64        // sequences: 0 when not seen
	first    uint64        // event
	last     uint64        // event
}

func newTable(node string) *table {
	return &table{
		requests: order{by: func(e *entry) uint64 { return e.request }},
		events:   order{by: func(e *entry) uint64 { return e.first }},
		node:     node, byID: map[ulid.ULID]*entry{}, waiting: map[device.ID]int{},
		orphans: map[ulid.ULID]*entry{}, finished: map[ulid.ULID]*entry{},
	}
}

// request takes a request as it is read or was just stored; twice is harmless.
func (t *table) request(ev *device.StoredEvent) {
	id, err := ulid.ParseStrict(ev.Command)
	if err != nil {
		return // not written by us: it is never offered either
	}
	e := t.byID[id]
	if e == nil {
		e = &entry{id: id, dev: unique.Make(ev.ID()), state: device.StateQueued, index: -1}
		t.byID[id] = e
		t.waiting[e.dev.Value()]++
	}
	if e.request != 0 {
		return
	}
	delete(t.orphans, id)
	e.request = ev.Position.Seq
	t.requests.add(e)
	e.oneWay, e.timeout, e.deadline = ev.Request.OneWay, ev.Request.ResponseTimeout, ev.Request.Deadline.UnixNano()
	t.moved(e, e.state, e.at)
}

// event takes a transition as it is read, once and in order.
func (t *table) event(ev *device.StoredEvent) {
	id, err := ulid.ParseStrict(ev.Command)
	if err != nil {
		return
	}
	e := t.byID[id]
	if e == nil { // the streams are read side by side: its request comes, or was removed long ago
		e = &entry{id: id, dev: unique.Make(ev.ID()), index: -1}
		t.byID[id], t.orphans[id] = e, e
		t.waiting[e.dev.Value()]++
	}
	if e.first == 0 {
		e.first = ev.Position.Seq
		t.events.add(e)
	}
	if _, ended := t.finished[id]; ended {
		return
	}
	e.last = ev.Position.Seq
	e.ours = ev.State == device.StateSent && ev.Node == t.node
	e.holder = unique.Handle[string]{}
	if ev.State == device.StateSent {
		e.holder = unique.Make(ev.Node)
	}
	t.moved(e, ev.State, ev.At.UnixNano())
}

// moved sets the state since a time, and the deadline that follows from it.
func (t *table) moved(e *entry, state device.CommandState, since int64) {
	e.state = state
	if state == device.StateDelivered && !e.oneWay && e.request == 0 {
		e.at = since // whether this was its end is known with the request
		return
	}
	if state.Terminal(e.oneWay) {
		if _, ended := t.finished[e.id]; !ended {
			t.finished[e.id] = e
			t.leave(e.dev.Value())
		}
		t.disarm(e)
		return
	}
	if e.request == 0 {
		e.at = since
		return
	}
	due := e.deadline
	if state == device.StateDelivered {
		due = since + int64(e.timeout)
	}
	t.arm(e, due)
}

func (t *table) leave(dev device.ID) {
	if t.waiting[dev]--; t.waiting[dev] <= 0 {
		delete(t.waiting, dev)
	}
}

// forget drops a command whose request is no longer in the mailbox.
func (t *table) forget(e *entry) {
	if _, ended := t.finished[e.id]; !ended {
		t.leave(e.dev.Value())
	}
	t.disarm(e)
	delete(t.byID, e.id)
	delete(t.orphans, e.id)
	delete(t.finished, e.id)
	e.gone = true
	if e.request != 0 {
		t.requests.dropped()
	}
	if e.first != 0 {
		t.events.dropped()
	}
}

// find answers whose command an id is.
func (t *table) find(id string) (device.ID, bool) {
	u, err := ulid.ParseStrict(id)
	if err != nil {
		return device.ID{}, false
	}
	if e := t.byID[u]; e != nil && e.request != 0 {
		return e.dev.Value(), true
	}
	return device.ID{}, false
}

// begun answers the first event of a command that is known, 0 when it has none yet.
func (t *table) begun(id string) (first uint64, ok bool) {
	u, err := ulid.ParseStrict(id)
	if err != nil {
		return 0, false
	}
	e := t.byID[u]
	if e == nil {
		return 0, false
	}
	return e.first, true
}

func (t *table) arm(e *entry, due int64) {
	e.at = due
	if e.index < 0 {
		heap.Push(&t.due, e)
	} else {
		heap.Fix(&t.due, int(e.index))
	}
}

func (t *table) disarm(e *entry) {
	if e.index >= 0 {
		heap.Remove(&t.due, int(e.index))
	}
}

// again puts a command back among the deadlines, unless it is there or has ended.
func (t *table) again(id string, at time.Time) {
	u, err := ulid.ParseStrict(id)
	if err != nil {
		return
	}
	e := t.byID[u]
	if e == nil || e.index >= 0 {
		return
	}
	if _, ended := t.finished[u]; !ended {
		t.arm(e, at.UnixNano())
	}
}
