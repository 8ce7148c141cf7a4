package bench

import (
	"context"
	"time"
)

// pacer says when a connection is to send its next message, so that all of them
// together send at a rate. Its moments are fixed beforehand: a server that is
// slow for a while finds the messages it kept waiting counted with their wait.
type pacer struct {
	next     time.Time
	interval time.Duration
	timer    *time.Timer
}

// newPacer spreads the connections' moments evenly; nil when there is no rate.
func newPacer(rate, connection, connections int) *pacer {
	if rate <= 0 {
		return nil
	}
	interval := time.Duration(connections) * time.Second / time.Duration(rate)
	offset := interval * time.Duration(connection) / time.Duration(connections)
	return &pacer{next: time.Now().Add(offset), interval: interval, timer: time.NewTimer(0)}
}

// wait returns at the moment of the next message, and answers it: the message's
// latency begins there. It does not wait when the moment is past, or ctx ended;
// without a pacer the moment is now.
func (p *pacer) wait(ctx context.Context) time.Time {
	if p == nil {
		return time.Now()
	}
	due := p.next
	p.next = due.Add(p.interval)
	if early := time.Until(due); early > 0 {
		p.timer.Reset(early)
		select {
		case <-p.timer.C:
		case <-ctx.Done():
		}
	}
	return due
}
