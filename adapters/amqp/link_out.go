package amqp

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
)

// outLink is a link the peer receives on: commands, telemetry or answers.
type outLink struct {
	s       *session
	handle  uint32
	name    string
	source  func(generation int) (supply, error) // asks the house for what the link is to carry
	window  int                                  // deliveries the peer may have unsettled
	largest uint64                               // the largest message the peer takes, in bytes; 0 for any
	settled bool                                 // the peer wants them settled: no outcome comes back
	gone    bool                                 // detached by us; kept until the peer's DETACH
	open    bool                                 // counted in the metrics

	supply      supply // nil while the peer, drained, gives no credit
	generation  int    // of the supply: callbacks of an older one are stale
	outstanding int    // asked of the supply and not yet offered

	deliveryCount uint32
	credit        uint32
	queue         []parcel // offered and not begun
	queued        int      // bytes of them
	typical       int      // bytes of a delivery, as the latest were
	current       *sending
	unsettled     int
	drain         *time.Timer // runs while the peer drains
	drained       bool        // credit was taken back since it was last given
}

// supply is where the deliveries of a link come from: an adapters.Attachment, an
// adapters.Feed, a reply node. Nothing is offered before the first Request, and
// nothing after Detach.
type supply interface {
	Request(n int)
	Detach(reason string)
}

// recaller is a supply that takes requests back; one that does not is given up
// when the peer takes its credit back.
type recaller interface{ Recall() }

// parcel is something to deliver, and how to tell what became of it.
type parcel struct {
	data    []byte
	counter prometheus.Counter
	// settle does not block, and may be called from any goroutine but not with mu
	// held. done may be nil.
	settle func(o device.Outcome, done func(error))
}

// sent is a delivery the peer has and has not settled.
type sent struct {
	link   *outLink
	settle func(o device.Outcome, done func(error))
}

// attachReceiver answers a peer that wants to receive.
func (s *session) attachReceiver(p *wire.Attach) error {
	source := wire.Source{}
	if p.Source != nil {
		source = *p.Source
	}
	l := &outLink{
		s: s, handle: p.Handle, name: p.Name, window: s.c.cfg.CommandWindow, largest: p.MaxMessageSize, typical: maxQueuedBytes / 4,
		settled: p.SndSettleMode == wire.SndSettled, open: true,
	}
	ours, err := l.resolve(&source)
	if err == nil {
		err = l.attach()
	}
	if err != nil {
		s.c.metrics.refused.WithLabelValues(device.CodeOf(err).String()).Inc()
		return s.refuse(p, err)
	}
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.outgoing[p.Handle] = l
	c.metrics.links.WithLabelValues("receiver").Inc()
	target := p.Target
	if target == nil {
		target = &wire.Target{}
	}
	ours.Capabilities, ours.DefaultOutcome = source.Capabilities, wire.Released{}
	ours.Outcomes = []wire.Symbol{"amqp:accepted:list", "amqp:rejected:list", "amqp:released:list", "amqp:modified:list"}
	return s.answer(&wire.Attach{
		Name: p.Name, Handle: p.Handle, Role: wire.RoleSender,
		SndSettleMode: p.SndSettleMode, RcvSettleMode: p.RcvSettleMode,
		Source: ours, Target: target, InitialDeliveryCount: wire.Some[uint32](0),
	})
}

// resolve finds out what a source means for this peer, and how the terminus made
// of it is to be described.
func (l *outLink) resolve(source *wire.Source) (*wire.Source, error) {
	c := l.s.c
	if source.Dynamic {
		return l.dynamic(), nil
	}
	from, below, err := parseSource(source.Address.Value)
	if err != nil {
		return nil, err
	}
	ours := &wire.Source{Address: source.Address}
	switch from.node {
	case commands:
		id, via, err := c.principal.SpeakFor(from.device)
		l.source = func(generation int) (supply, error) { return l.mailbox(id, via, generation) }
		return ours, err
	case telemetry:
		return ours, l.telemetry(from, below, source, ours)
	case responses:
		return ours, l.answers(from, source.Address.Value)
	}
	return nil, device.Errorf(device.NotFound, "nothing is received from %.300q", source.Address.Value)
}

// attach connects the link to its supply. Only the reader calls it, and without mu.
func (l *outLink) attach() error {
	c := l.s.c
	c.mu.Lock()
	l.generation++
	generation := l.generation
	c.mu.Unlock()
	from, err := l.source(generation)
	if err != nil {
		return err
	}
	c.mu.Lock()
	l.supply, l.outstanding = from, 0
	c.mu.Unlock()
	return nil
}

// offer takes a delivery from the supply. It was asked for, so it is kept until
// there is credit, see the package comment, unless the supply takes it back.
func (l *outLink) offer(generation int, p parcel) {
	c := l.s.c
	c.mu.Lock()
	live := l.generation == generation && !l.gone
	_, back := l.supply.(recaller)
	switch {
	case !live:
	case l.largest > 0 && uint64(len(p.data)) > l.largest:
		l.outstanding = max(l.outstanding-1, 0)
		reason := "it is larger than the receiver's max-message-size"
		defer p.settle(device.Outcome{Kind: device.Rejected, Reason: reason}, nil)
	case back && l.drained && l.credit == 0:
		defer p.settle(device.Outcome{Kind: device.Released, Reason: "drained"}, nil)
	default:
		l.outstanding = max(l.outstanding-1, 0)
		l.queue = append(l.queue, p)
		l.queued += len(p.data)
		l.typical = max(l.typical-l.typical/8, len(p.data), 1)
	}
	c.mu.Unlock()
	c.poke()
}

// shut lets go of the link and answers what to detach. The caller holds mu.
func (l *outLink) shut() supply {
	if l.open {
		l.open = false
		l.s.c.metrics.links.WithLabelValues("receiver").Dec()
	}
	l.gone = true
	for id, d := range l.s.unsettled {
		if d.link == l {
			delete(l.s.unsettled, id)
		}
	}
	return l.giveUp()
}

// giveUp forgets the supply, all it offered and all it was asked for. The
// caller holds mu, and detaches what is answered after giving it up.
func (l *outLink) giveUp() supply {
	from := l.supply
	l.supply, l.outstanding, l.queue, l.queued, l.current, l.unsettled = nil, 0, nil, 0, nil, 0
	l.generation++
	if l.drain != nil {
		l.drain.Stop()
		l.drain = nil
	}
	return from
}

// want is how many deliveries to ask for now. The caller holds mu and asks.
func (l *outLink) want() int {
	if l.gone || l.supply == nil || l.queued > maxQueuedBytes {
		return 0
	}
	room := min(int64(l.credit), int64(l.window-l.unsettled), maxAsked+int64(len(l.queue)))
	n := min(int(room)-len(l.queue), max((maxQueuedBytes-l.queued)/l.typical, 1)) - l.outstanding
	if n <= 0 {
		return 0
	}
	l.outstanding += n
	return n
}

// fail detaches the link for an error of ours. It is called without mu.
func (l *outLink) fail(err error) {
	c := l.s.c
	c.mu.Lock()
	held := l.detach(toPeer(err))
	c.mu.Unlock()
	c.poke()
	giveBack([]supply{held}, "link failed")
}

// detach ends the link from our side, and answers what to detach from the
// house. The caller holds mu.
func (l *outLink) detach(why *wire.Error) supply {
	held := l.shut()
	l.s.c.send(l.s.channel, &wire.Detach{Handle: l.handle, Closed: true, Error: why}, nil)
	return held
}
