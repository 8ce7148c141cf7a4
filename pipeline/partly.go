package pipeline

import (
	"sync"

	"github.com/tributary-iot/tributary/device"
)

// partly is what a group's reader has settled of frames: those that were stored while
// nobody knew of the group. A frame is acknowledged when all of it is settled; when some
// of it was given back it comes again, and only that is offered.
type partly struct {
	mu   sync.Mutex
	done map[uint64]map[uint64]bool // places settled, by sequence
}

// open offers what is not settled of a frame.
func (p *partly) open(seq uint64, frame []device.Arrival, offer func(device.Arrival, func(device.OutcomeKind)), settle func(device.OutcomeKind)) {
	p.mu.Lock()
	if p.done == nil {
		p.done = map[uint64]map[uint64]bool{}
	}
	if p.done[seq] == nil {
		p.done[seq] = map[uint64]bool{}
	}
	var rest []device.Arrival
	for _, a := range frame {
		if !p.done[seq][a.Seq] {
			rest = append(rest, a)
		}
	}
	p.mu.Unlock()
	if len(rest) == 0 { // the acknowledgement was lost
		settle(device.Accepted)
		return
	}
	open, back := len(rest), false
	for _, a := range rest {
		offer(a, func(kind device.OutcomeKind) {
			p.mu.Lock()
			if kind == device.Released || kind == device.LockExpired {
				back = true
			} else if p.done[seq] != nil {
				p.done[seq][a.Seq] = true
			}
			open--
			over, again := open == 0, back
			if over && !again {
				delete(p.done, seq)
			}
			p.mu.Unlock()
			switch {
			case over && again:
				settle(device.Released)
			case over:
				settle(device.Accepted)
			}
		})
	}
}
