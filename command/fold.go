package command

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"

	"github.com/tributary-iot/tributary/device"
)

// live is a command in a loaded actor: the request and its transitions.
type live struct {
	cmd    *device.Command
	seq    uint64 // of the request
	state  State
	events []device.CommandEvent // transitions in stream order, the creation not included
}

func newLive(ev device.StoredEvent) *live {
	return &live{cmd: ev.Request, seq: ev.Position.Seq, state: Begin(ev.Request)}
}

// fold takes one durable transition. What the log holds is the truth: it was
// judged by Next before it was appended. Nothing follows the terminal event.
func (c *live) fold(e device.CommandEvent) {
	if c.state.Terminal() {
		return
	}
	c.state.State, c.state.Since, c.state.Attempt, c.state.RetryAt = e.State, e.At, e.Attempt, e.RetryAt
	if e.Epoch != (device.Epoch{}) {
		c.state.Epoch = e.Epoch
	}
	if e.Status != 0 {
		c.state.Digest = digest(e.Status, e.ContentType, e.Response)
	}
	c.events = append(c.events, e)
}

// holds reports whether the very event e is among the transitions: how an
// append of unclear outcome is found to have succeeded.
func (c *live) holds(e *device.CommandEvent) bool {
	for i := range c.events {
		f := &c.events[i]
		if f.State == e.State && f.Attempt == e.Attempt && f.Node == e.Node && f.Epoch == e.Epoch && f.At.Equal(e.At) {
			return true
		}
	}
	return false
}

// record is the command as readers see it; it shares nothing that changes.
func (c *live) record() device.CommandRecord {
	r := device.CommandRecord{Command: *c.cmd, Events: make([]device.CommandEvent, 0, len(c.events)+1)}
	r.Events = append(r.Events, created(c.cmd))
	r.Events = append(r.Events, c.events...)
	return r
}

func created(c *device.Command) device.CommandEvent {
	return device.CommandEvent{Command: c.ID, Tenant: c.Tenant, Device: c.Device, State: device.StateQueued, At: c.CreatedAt}
}

// digest tells one answer from another; it is never 0.
func digest(status int, contentType string, payload []byte) uint64 {
	h := fnv.New64a()
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(status))
	binary.BigEndian.PutUint64(b[8:], uint64(len(contentType)))
	h.Write(b[:])
	h.Write([]byte(contentType))
	h.Write(payload)
	return h.Sum64() | 1
}

// transition is a thing that happens, with what only the trail wants to know.
type transition struct {
	Event
	protocol device.Protocol
	via      string // the gateway
	reason   string
	response *device.Response
}

// event is the durable form of the transition of c to next.
func (t *transition) event(c *live, next State, node string) device.CommandEvent {
	e := device.CommandEvent{
		Command: c.cmd.ID, Tenant: c.cmd.Tenant, Device: c.cmd.Device,
		State: next.State, At: t.At, Attempt: next.Attempt, Epoch: next.Epoch,
		Protocol: t.protocol, Via: t.via, Node: node, Reason: t.reason,
		Unconfirmed: t.Kind == Unconfirm, RetryAt: next.RetryAt,
	}
	if r := t.response; r != nil {
		e.Status, e.Response, e.ContentType = r.Status, r.Payload, r.ContentType
	}
	if e.Reason == "" {
		e.Reason = t.why(c, next)
	}
	if next.State == device.StateExpired && t.Kind != Tick && t.Kind != Offer {
		e.Reason = fmt.Sprintf("%s; %d of %d attempts", e.Reason, next.Attempt, next.MaxAttempts)
	}
	return e
}

func (t *transition) why(c *live, next State) string {
	switch t.Kind {
	case Tick, Offer:
		switch next.State {
		case device.StateExpired:
			return "deadline"
		case device.StateFailed:
			return fmt.Sprintf("no answer within %v", c.cmd.ResponseTimeout)
		}
	case Release:
		return "released"
	case LockExpire:
		return "lock expired"
	case SessionLost:
		return "session lost"
	}
	return ""
}
