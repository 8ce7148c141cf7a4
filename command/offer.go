package command

import (
	"time"

	"github.com/tributary-iot/tributary/device"
)

// now is the wall clock without the monotonic part, as it is stored.
func now() time.Time { return time.Now().Round(0).UTC() }

// pump offers what waits, oldest first, as long as the newest session has asked for
// it. Mostly nothing does, and that is cheap to find out.
func (a *actor) pump() {
	if len(a.cmds) > 0 {
		a.offerNext()
	}
}

// offerNext makes one delivery a turn, so that settlements and answers are not
// held up behind a long queue.
func (a *actor) offerNext() {
	top := a.top()
	if top == nil || top.credit <= 0 || top.epoch == (device.Epoch{}) || top.gone() || top.mayAct() != nil {
		return
	}
	at := now()
	c, later := a.nextQueued(at)
	if c == nil {
		if !later.IsZero() {
			a.wakeAt(later)
		}
		return
	}
	effects, err := a.apply(c.cmd.ID, transition{
		Event: Event{Kind: Offer, At: at, Epoch: top.epoch}, protocol: top.who.Protocol, via: top.who.Via,
	})
	switch device.CodeOf(err) {
	case device.Unavailable:
		a.s.cfg.Logger.Warn("command not offered; trying again", "command", c.cmd.ID, "error", err)
		a.retry()
		return
	case device.Conflict:
		if top.epoch.Before(a.newest) {
			a.yield(a.newest, rival{})
			return
		}
		a.giveBack("session lost") // an older session sent it a moment ago, and that was not heard yet
	}
	if c := a.find(c.cmd.ID); c != nil && len(effects) == 1 && effects[0] == Hand {
		top.credit--
		if top.held == nil {
			top.held = map[string]int{}
		}
		top.held[c.cmd.ID] = c.state.Attempt
		if err := top.mayAct(); err != nil {
			a.s.cfg.Logger.Warn("a command is withheld: others may be taking over", "command", c.cmd.ID, "error", err)
			return
		}
		top.hand(device.Delivery{Command: *c.cmd, Attempt: c.state.Attempt})
	}
	if top.credit > 0 {
		a.pumpSoon()
	}
}

// pumpSoon has pump run once what is queued now is done.
func (a *actor) pumpSoon() {
	a.s.with(a.id, func(a *actor, err error) {
		if err != nil {
			a.retry()
			return
		}
		a.pump()
	})
}

// nextQueued picks the command to offer: the oldest that is not held back by
// the line or by its pause, those offered before behind the others. When
// only pauses keep it from answering one, it tells when the first is over.
func (a *actor) nextQueued(at time.Time) (pick *live, later time.Time) {
	held := false // somebody in the line is waited for
	for _, c := range a.cmds {
		waits := held && c.state.Order != device.Burst
		held = held || c.state.HoldsLine()
		switch retry := c.state.RetryAt; {
		case c.state.State != device.StateQueued || waits:
		case retry.After(at):
			if later.IsZero() || retry.Before(later) {
				later = retry
			}
		case retry.IsZero():
			return c, time.Time{}
		case pick == nil:
			pick = c
		}
	}
	return pick, later
}
