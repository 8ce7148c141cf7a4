package amqp

import (
	"context"
	"strings"

	"github.com/tributary-iot/tributary/device"
)

// listen lets other servers put into the node.
func (n *replyNode) listen(c *conn) error {
	far := n.all.far
	if far == nil {
		return nil
	}
	ctx, cancel := c.background()
	defer cancel()
	leave, err := far.Receive(ctx, n.key.tenant, n.key.address, func(data []byte, done func(error)) {
		err := n.put(parcel{data: data, counter: c.metrics.repliesOut, settle: func(o device.Outcome, confirm func(error)) {
			done(relayed(o))
			if confirm != nil {
				confirm(nil)
			}
		}})
		if err != nil {
			done(err)
		}
	}, n.stolen)
	if err == nil {
		n.leave = leave
	}
	return err
}

// farNode is a node at another server.
type farNode struct {
	key    replyKey
	window int
	all    *replies
	ctx    context.Context // ends with this server
}

// answerer is where answers to an address go, at this server or another.
func (s *Server) answerer(tenant, at string) answerer {
	if n := s.replies.find(tenant, at); n != nil {
		return n
	}
	return &farNode{replyKey{tenant, strings.TrimPrefix(at, "/")}, s.cfg.ReplyWindow, &s.replies, s.ctx}
}

// exists answers NotFound when nobody receives at an address.
func (s *Server) exists(ctx context.Context, tenant, at string) error {
	switch {
	case s.replies.find(tenant, at) != nil:
		return nil
	case s.replies.far == nil:
		return nobody(at)
	}
	return s.replies.far.Find(ctx, tenant, strings.TrimPrefix(at, "/"))
}

func nobody(at string) error {
	return device.Errorf(device.NotFound, "nobody receives from %.300q", at)
}

// context implements answerer.
func (n *farNode) context() context.Context { return n.ctx }

// await implements answerer: of each address so many may wait here as at its own server.
func (n *farNode) await(ctx context.Context) (release func(), err error) {
	if n.all.far == nil {
		return nil, nobody(n.key.address)
	}
	if err := n.all.far.Find(ctx, n.key.tenant, n.key.address); err != nil {
		return nil, err
	}
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	if n.all.away == nil {
		n.all.away = map[replyKey]int{}
	}
	if n.all.away[n.key] >= n.window {
		return nil, device.Errorf(device.Busy, "%d commands with this reply-to have not ended", n.window)
	}
	n.all.away[n.key]++
	return func() {
		n.all.mu.Lock()
		defer n.all.mu.Unlock()
		if n.all.away[n.key]--; n.all.away[n.key] == 0 {
			delete(n.all.away, n.key)
		}
	}, nil
}

// tell implements answerer.
func (n *farNode) tell(p parcel, failed func(error)) {
	n.all.far.Send(n.key.tenant, n.key.address, p.data, func(err error) {
		if err != nil {
			failed(err)
		}
	})
}
