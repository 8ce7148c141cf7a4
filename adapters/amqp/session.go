package amqp

import (
	"fmt"
	"math"
	"slices"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
)

// session is one session (part 2, section 5). It answers on the channel the
// peer chose, and its links on the handles the peer chose: every one of them
// was begun by the peer, so the numbers cannot clash. mu of the connection
// guards everything.
type session struct {
	c       *conn
	channel uint16
	ended   bool // we sent END and wait for the peer's; what comes is dropped

	nextIncoming   uint32 // transfer-id the peer's next frame has
	incomingWindow uint32 // frames the peer may still send
	nextOutgoing   uint32
	remoteWindow   uint32 // frames we may still send

	incoming map[uint32]*inLink  // peers that send
	outgoing map[uint32]*outLink // peers that receive
	outcomes []outcome           // of messages, not yet told
	told     map[uint32]*inLink  // deliveries whose outcome the peer has and has to settle

	nextDelivery uint32 // delivery-id of our next command
	unsettled    map[uint32]*sent
}

// outcome is what became of the peer's delivery.
type outcome struct {
	delivery uint32
	second   bool        // the peer settles, after us
	rejected *wire.Error // nil: accepted
}

// follows reports whether o can share a frame with first, n places before it.
func (o outcome) follows(first outcome, n int) bool {
	return o.rejected == nil && o.second == first.second && o.delivery == first.delivery+uint32(n)
}

// begin starts a session (part 2, section 5.1).
func (c *conn) begin(channel uint16, p *wire.Begin) error {
	switch {
	case p.RemoteChannel.Set:
		return breach(ofConn, wire.CondNotAllowed, "begin answers a session that we did not begin")
	case int(channel) >= c.cfg.MaxSessions:
		return breach(ofConn, wire.CondFramingError, fmt.Sprintf("channel %d is above the channel-max of %d", channel, c.cfg.MaxSessions-1))
	case c.sessions[channel] != nil:
		return breach(ofConn, wire.CondNotAllowed, fmt.Sprintf("a session has already begun on channel %d", channel))
	}
	s := &session{
		c: c, channel: channel,
		nextIncoming: p.NextOutgoingID, incomingWindow: sessionWindow, remoteWindow: p.IncomingWindow,
		incoming: map[uint32]*inLink{}, outgoing: map[uint32]*outLink{}, unsettled: map[uint32]*sent{}, told: map[uint32]*inLink{},
	}
	c.mu.Lock()
	c.sessions[channel] = s
	c.send(channel, &wire.Begin{
		RemoteChannel: wire.Some(channel), NextOutgoingID: s.nextOutgoing,
		IncomingWindow: sessionWindow, OutgoingWindow: math.MaxInt32, HandleMax: uint32(c.cfg.MaxLinks - 1),
	}, nil)
	c.mu.Unlock()
	c.poke()
	return nil
}

// handle takes one frame of the session. An error ends the connection.
func (s *session) handle(p wire.Performative, payload []byte) error {
	if end, ok := p.(*wire.End); ok {
		s.end(end)
		return nil
	}
	if s.ended {
		return nil
	}
	err := s.handleOpen(p, payload)
	if f, ok := err.(*fault); ok && f.scope == ofSession {
		s.fail(f.err)
		return nil
	}
	s.c.poke()
	return err
}

func (s *session) handleOpen(p wire.Performative, payload []byte) error {
	switch p := p.(type) {
	case *wire.Attach:
		return s.attach(p)
	case *wire.Detach:
		return s.detach(p)
	case *wire.Flow:
		return s.flow(p)
	case *wire.Transfer:
		return s.transfer(p, payload)
	case *wire.Disposition:
		if p.Role == wire.RoleReceiver {
			s.settle(p)
		} else if p.Settled {
			s.forget(p.First, p.Last.Or(p.First))
		}
		return nil
	}
	return breach(ofConn, wire.CondNotAllowed, "a SASL performative after the connection was opened")
}

// end is the peer's END.
func (s *session) end(p *wire.End) {
	if p.Error != nil {
		s.c.log.Debug("the peer ended a session", "error", p.Error)
	}
	s.c.mu.Lock()
	answered := s.ended
	held := s.shut()
	delete(s.c.sessions, s.channel)
	if !answered {
		s.c.send(s.channel, &wire.End{}, nil)
	}
	s.c.mu.Unlock()
	s.c.poke()
	giveBack(held, "session ended")
}

// fail ends the session for a breach; what follows until the peer's END is
// dropped (part 2, section 5.5).
func (s *session) fail(why *wire.Error) {
	s.c.log.Debug("ending a session", "error", why)
	s.c.mu.Lock()
	held := s.shut()
	s.ended = true
	s.c.send(s.channel, &wire.End{Error: why}, nil)
	s.c.mu.Unlock()
	s.c.poke()
	giveBack(held, "session ended")
}

// shut tells the outcomes that are known and lets go of all links. The caller
// holds mu, and detaches what is answered after giving it up.
func (s *session) shut() (held []supply) {
	if !s.ended {
		s.flushOutcomes()
	}
	s.ended = true
	for _, l := range s.incoming {
		l.shut()
	}
	for _, l := range s.outgoing {
		if a := l.shut(); a != nil {
			held = append(held, a)
		}
	}
	clear(s.incoming)
	clear(s.outgoing)
	clear(s.unsettled)
	clear(s.told)
	return held
}

func giveBack(held []supply, reason string) {
	for _, a := range held {
		if a != nil {
			a.Detach(reason)
		}
	}
}

// flow updates windows and credit (part 2, sections 5.6 and 6.7).
func (s *session) flow(p *wire.Flow) error {
	c := s.c
	c.mu.Lock()
	// What the peer's window said counts from the id it had then received.
	s.remoteWindow = p.NextIncomingID.Or(0) + p.IncomingWindow - s.nextOutgoing
	if int32(s.remoteWindow) < 0 && p.IncomingWindow < math.MaxInt32 {
		s.remoteWindow = 0
	}
	if !p.Handle.Set {
		if p.Echo {
			c.send(s.channel, s.flowFrame(), nil)
		}
		c.mu.Unlock()
		return nil
	}
	in, out := s.incoming[p.Handle.Value], s.outgoing[p.Handle.Value]
	if in != nil && p.Echo && !in.gone {
		in.sendFlow()
	}
	c.mu.Unlock()
	switch {
	case out != nil:
		return out.flow(p)
	case in == nil:
		return breach(ofSession, wire.CondUnattachedHandle, fmt.Sprintf("no link is attached with handle %d", p.Handle.Value))
	}
	return nil
}

// flowFrame is the session's state. The caller holds mu.
func (s *session) flowFrame() *wire.Flow {
	return &wire.Flow{
		NextIncomingID: wire.Some(s.nextIncoming), IncomingWindow: s.incomingWindow,
		NextOutgoingID: s.nextOutgoing, OutgoingWindow: math.MaxInt32,
	}
}

// attach routes ATTACH to the kind of link it asks for.
func (s *session) attach(p *wire.Attach) error {
	switch {
	case p.Handle >= uint32(s.c.cfg.MaxLinks):
		return breach(ofConn, wire.CondFramingError, fmt.Sprintf("handle %d is above the handle-max of %d", p.Handle, s.c.cfg.MaxLinks-1))
	case s.incoming[p.Handle] != nil || s.outgoing[p.Handle] != nil:
		return breach(ofSession, wire.CondHandleInUse, fmt.Sprintf("handle %d is in use", p.Handle))
	case p.Role == wire.RoleSender && !p.InitialDeliveryCount.Set:
		return breach(ofSession, wire.CondInvalidField, "a sender's attach needs initial-delivery-count")
	}
	s.c.steal(p.Name, p.Role)
	if p.Role == wire.RoleSender {
		return s.attachSender(p)
	}
	return s.attachReceiver(p)
}

// steal detaches the link of the same name and direction on this connection: an
// attach that comes while it is not suspended takes it over (part 2, section 6.1).
func (c *conn) steal(name string, role bool) {
	var held []supply
	c.mu.Lock()
	for _, s := range c.sessions {
		for _, l := range s.incoming {
			if role == wire.RoleSender && l.name == name && !l.gone {
				l.fail(wire.CondStolen, "the link was attached again")
			}
		}
		for _, l := range s.outgoing {
			if role == wire.RoleReceiver && l.name == name && !l.gone {
				held = append(held, l.detach(&wire.Error{Condition: wire.CondStolen, Description: "the link was attached again"}))
			}
		}
	}
	c.mu.Unlock()
	giveBack(held, "link stolen")
}

// answer sends our ATTACH. One that the peer's frames have no room for ends the
// session: it holds the peer's own words. The caller holds mu.
func (s *session) answer(reply *wire.Attach) error {
	if reply.Role == wire.RoleReceiver {
		reply.MaxMessageSize = uint64(s.c.cfg.maxTransferBytes())
	}
	frame := wire.AppendFrame(nil, wire.FrameAMQP, s.channel, reply, nil)
	if uint64(len(frame)) > uint64(s.c.peerFrame) {
		return breach(ofSession, wire.CondFrameSizeTooSmall,
			fmt.Sprintf("the answer to the attach takes %d bytes, your max-frame-size is %d", len(frame), s.c.peerFrame))
	}
	s.c.out = append(s.c.out, frame...)
	return nil
}

// refuse answers ATTACH as part 2, section 6.3 says: without the terminus asked
// for, and with DETACH right behind it. The handle stays taken until the peer's
// DETACH.
func (s *session) refuse(p *wire.Attach, why error) error {
	s.c.metrics.linksRefused.Inc()
	s.c.log.Debug("link refused", "link", p.Name, "error", why)
	reply := &wire.Attach{Name: p.Name, Handle: p.Handle, Role: !p.Role, SndSettleMode: p.SndSettleMode}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if p.Role == wire.RoleSender {
		reply.Source = p.Source
		s.incoming[p.Handle] = &inLink{s: s, handle: p.Handle, gone: true}
	} else {
		reply.Target = p.Target
		reply.InitialDeliveryCount = wire.Some[uint32](0)
		s.outgoing[p.Handle] = &outLink{s: s, handle: p.Handle, gone: true}
	}
	if err := s.answer(reply); err != nil {
		return err
	}
	s.c.send(s.channel, &wire.Detach{Handle: p.Handle, Closed: true, Error: toPeer(why)}, nil)
	return nil
}

// detach is the peer's DETACH: of a link of its own will, or answering ours.
func (s *session) detach(p *wire.Detach) error {
	s.c.mu.Lock()
	var held supply
	answered := false
	switch in, out := s.incoming[p.Handle], s.outgoing[p.Handle]; {
	case in != nil:
		s.flushOutcomes()
		answered = in.gone
		in.shut()
		delete(s.incoming, p.Handle)
	case out != nil:
		answered = out.gone
		held = out.shut()
		delete(s.outgoing, p.Handle)
	default:
		s.c.mu.Unlock()
		return breach(ofSession, wire.CondUnattachedHandle, fmt.Sprintf("no link is attached with handle %d", p.Handle))
	}
	if !answered {
		s.c.send(s.channel, &wire.Detach{Handle: p.Handle, Closed: p.Closed}, nil)
	}
	s.c.mu.Unlock()
	if held != nil {
		held.Detach("link detached")
	}
	return nil
}

// flushOutcomes tells the outcomes that became known, neighbours in one frame.
// The caller holds mu.
func (s *session) flushOutcomes() {
	if len(s.outcomes) == 0 {
		return
	}
	slices.SortFunc(s.outcomes, func(a, b outcome) int { return int(int32(a.delivery - b.delivery)) })
	for i := 0; i < len(s.outcomes); {
		first := s.outcomes[i]
		p := &wire.Disposition{Role: wire.RoleReceiver, First: first.delivery, Settled: !first.second, State: wire.Accepted{}}
		j := i + 1
		if first.rejected != nil {
			p.State = wire.Rejected{Error: first.rejected}
		} else {
			for j < len(s.outcomes) && s.outcomes[j].follows(first, j-i) {
				j++
			}
		}
		if last := s.outcomes[j-1].delivery; last != first.delivery {
			p.Last = wire.Some(last)
		}
		s.c.send(s.channel, p, nil)
		i = j
	}
	s.outcomes = s.outcomes[:0]
}
