package batch

import (
	"encoding/json"
	"fmt"

	"github.com/tributary-iot/tributary/device"
)

// PartSize is how many devices are written down together.
const PartSize = 500

// record is what is kept of a batch as a whole, as JSON. Fields are added, never
// renamed.
type record struct {
	Batch  device.Batch `json:"batch"`
	Parts  string       `json:"parts"`            // the name its parts are kept under, nobody else's
	Driver string       `json:"driver,omitempty"` // incarnation of the node that drives it
	Reach  int          `json:"reach,omitempty"`  // no device from here on was sent anything
	rev    uint64
}

func (r *record) count() int { return (r.Batch.Total + PartSize - 1) / PartSize }

// part is some of a batch's devices, and what became of each.
type part struct {
	Devices  []string              `json:"devices"`
	Commands []string              `json:"commands,omitempty"` // ids; "" before it is sent
	States   []device.CommandState `json:"states,omitempty"`   // QUEUED stands for every state before the end
	Statuses map[int]int           `json:"statuses,omitempty"`
	Refused  map[int]string        `json:"refused,omitempty"`
	rev      uint64
	dirty    bool
}

func newPart(devices []string) *part {
	p := &part{Devices: devices}
	p.fill()
	return p
}

// fill makes the lists as long as the devices.
func (p *part) fill() {
	for len(p.Commands) < len(p.Devices) {
		p.Commands = append(p.Commands, "")
	}
	for len(p.States) < len(p.Devices) {
		p.States = append(p.States, device.StateNone)
	}
	if p.Statuses == nil {
		p.Statuses = map[int]int{}
	}
	if p.Refused == nil {
		p.Refused = map[int]string{}
	}
}

func decodePart(value []byte, rev uint64) (*part, error) {
	p := &part{rev: rev}
	if err := json.Unmarshal(value, p); err != nil {
		return nil, fmt.Errorf("batch: a part cannot be read: %w", err)
	}
	if len(p.Devices) > PartSize || len(p.Commands) > len(p.Devices) || len(p.States) > len(p.Devices) {
		return nil, fmt.Errorf("batch: a part of %d devices, %d commands and %d states", len(p.Devices), len(p.Commands), len(p.States))
	}
	p.fill()
	return p, nil
}

// settled reports whether nothing can become of the nth device's command any more.
func (p *part) settled(n int) bool {
	_, refused := p.Refused[n]
	return refused || p.States[n] > device.StateQueued
}

// count adds what became of the nth device to the progress, by times (1 or -1).
func (p *part) count(n int, into *device.BatchProgress, by int) {
	if _, refused := p.Refused[n]; refused {
		into.Refused += by
		return
	}
	switch p.States[n] {
	case device.StateNone:
		into.Unsent += by
	case device.StateSucceeded, device.StateDelivered: // one-way
		into.Succeeded += by
	case device.StateFailed:
		into.Failed += by
	case device.StateRejected:
		into.Rejected += by
	case device.StateExpired:
		into.Expired += by
	case device.StateCancelled:
		into.Cancelled += by
	default:
		into.Pending += by
	}
}

func (p *part) result(n int) device.BatchResult {
	return device.BatchResult{Device: p.Devices[n], Command: p.Commands[n], State: p.States[n], Status: p.Statuses[n], Error: p.Refused[n]}
}
