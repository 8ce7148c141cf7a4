package mqtt

import (
	"context"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
)

// drainAll ends every session: first those that are open, and once these are over
// those that have yet to say CONNECT, which until then may hear where else to go.
func (s *Server) drainAll(ctx context.Context, all []*session) error {
	for _, spare := range []bool{true, false} {
		for _, ses := range all {
			ses.shutDown(spare)
		}
		select {
		case <-s.allLeft(spare):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// shutDown ends a session because the server stops, unless one that has yet to say
// CONNECT is to be spared.
func (s *session) shutDown(spare bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened || !spare {
		s.endLocked(closeWith(packet.ServerShuttingDown, "the server is shutting down"))
	}
}

// open notes that CONNECT was read, or that it never will be.
func (s *session) open() {
	s.mu.Lock()
	first := !s.opened
	s.opened = true
	s.mu.Unlock()
	if first {
		s.srv.sessionOpened()
	}
}

// admitUnlessDraining decides about a CONNECT: a server that stops lets nobody in.
func (s *session) admitUnlessDraining(c *packet.Connect) error {
	s.open()
	if s.srv.draining() == nil {
		return s.admit(c)
	}
	no := &refusal{v311: packet.V311ServerUnavailable, text: "the server is shutting down", result: "unavailable"}
	if no.reason, no.where = s.refer(packet.ServerShuttingDown); no.where == nil {
		no.reason = packet.ServerUnavailable // CONNACK has no word for the other
	}
	s.limits(c)
	return no
}

// refer says where a client is to go when the server stops or is cut off, if that
// is known (4.11): to another for now, as this one may be back. "Server moved"
// (0x9D) would be for good.
func (s *session) refer(reason packet.Reason) (packet.Reason, packet.Properties) {
	if elsewhere := s.srv.cfg.Elsewhere; elsewhere != nil && s.door != "" && (reason == packet.ServerShuttingDown || reason == packet.UseAnotherServer) {
		if at := elsewhere(s.door); at != "" {
			var where packet.Properties
			where.AddText(packet.ServerReference, at)
			return packet.UseAnotherServer, where
		}
	}
	return reason, nil
}
