package batch

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tributary-iot/tributary/device"
)

func aborted(bad, ended int) string {
	return fmt.Sprintf("%d of the %d that ended have failed", bad, ended)
}

// reachStep is how far ahead of what is sent it is written down that sending may
// have come: so many devices at most are asked about after a crash for nothing.
const reachStep = 1000

// retryAfter is how long a command that could not be sent for a while waits.
const retryAfter = time.Second

// longNap is how long run sleeps when nothing is due.
const longNap = time.Minute

// pacer keeps to a rate, catching up at most a tenth of a second.
type pacer struct{ at time.Time }

// due answers how long the next command has to wait; 0 when it may go now, which is
// then taken.
func (p *pacer) due(rate int) time.Duration {
	if rate == 0 {
		return 0
	}
	now := time.Now()
	if early := now.Add(-100 * time.Millisecond); p.at.Before(early) {
		p.at = early
	}
	if wait := p.at.Sub(now); wait > 0 {
		return wait
	}
	p.at = p.at.Add(time.Second / time.Duration(rate))
	return 0
}

// limited is a group of at most n goroutines.
func limited(n int) *errgroup.Group {
	g := &errgroup.Group{}
	g.SetLimit(n)
	return g
}

// sendSome sends as long as it may, and answers how long until it may again.
func (r *runner) sendSome(ctx context.Context, senders *errgroup.Group, pace *pacer) (time.Duration, error) {
	for {
		i := r.pick()
		if i < 0 {
			return longNap, nil
		}
		if wait := pace.due(r.batch.Rate); wait > 0 {
			return wait, nil
		}
		if i >= r.rec.Reach {
			r.rec.Reach = i + reachStep
			r.mu.Lock()
			r.dirty = true
			r.mu.Unlock()
			if err := r.writeDown(ctx, false); err != nil {
				return 0, err
			}
		}
		r.mu.Lock()
		r.underWay++
		r.next = i + 1
		r.mu.Unlock()
		senders.Go(func() error {
			r.send(ctx, i)
			r.mu.Lock()
			r.underWay--
			r.mu.Unlock()
			r.nudge()
			return nil
		})
	}
}

// pick is the next device to send to; negative when there is none now.
func (r *runner) pick() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := &r.batch; b.State != device.BatchRunning || r.underWay >= r.s.cfg.Senders ||
		b.Window > 0 && b.Progress.Pending+r.underWay >= b.Window {
		return -1
	}
	for ; r.next < r.batch.Total; r.next++ {
		if p, n := r.at(r.next); p.States[n] == device.StateNone && !p.settled(n) {
			return r.next
		}
	}
	return -1
}

// send sends to one device, as often as it takes, unless the batch stops. A first
// attempt beyond what any driver before can have reached is known to be the first.
func (r *runner) send(ctx context.Context, i int) {
	p, n := r.at(i)
	cmd := r.batch.Command
	cmd.Tenant, cmd.Device, cmd.Key = r.k.tenant, p.Devices[n], r.commandKey()
	send := r.s.commands.SendNew
	if i < r.found {
		send = r.s.commands.Send
	}
	for ctx.Err() == nil && !r.stopped() {
		if r.batch.TTL > 0 {
			cmd.Deadline = time.Now().Add(r.batch.TTL).Round(0).UTC()
		}
		var rec device.CommandRecord
		err := r.drives() // else another node may have sent it, and it may have ended
		if err == nil {
			rec, err = send(ctx, cmd)
			send = r.s.commands.Send // it may have been stored
		}
		if err == nil {
			err = r.adopt(ctx, i, &rec)
		}
		if err == nil && r.stopped() { // meanwhile, and not withdrawn with the others
			_, _ = r.s.commands.Cancel(ctx, rec.Command.ForDevice(), rec.Command.ID)
		}
		switch code := device.CodeOf(err); {
		case err == nil:
			return
		case code != device.Unavailable && code != device.Internal:
			r.refuse(i, err)
			return
		}
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
		}
	}
}
