package bridge

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// courier takes the commands of some of the devices to the broker, one after
// another, so those of one device arrive in their order. It has a session of its
// own: a broker may end the session of a link it does not like.
type courier struct {
	*connection
	todo parcels

	session *amqp.Session
	senders map[string]*amqp.Sender
	opened  []string // addresses of the senders, oldest first
}

// parcel is a command on its way.
type parcel struct {
	device     *bridged
	attachment adapters.Attachment
	delivery   device.Delivery
}

// parcels is a queue that whoever adds to it never waits for. Each device has at
// most one command in it, so it is as long as the fleet is large.
type parcels struct {
	mu    sync.Mutex
	queue []parcel
	more  chan struct{}
}

func (p *parcels) add(one parcel) {
	p.mu.Lock()
	p.queue = append(p.queue, one)
	p.mu.Unlock()
	select {
	case p.more <- struct{}{}:
	default:
	}
}

func (p *parcels) next() (one parcel, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return one, false
	}
	one, p.queue = p.queue[0], p.queue[1:]
	return one, true
}

// sendCommands attaches the fleet and sets the couriers to work.
func (c *connection) sendCommands() {
	var all [couriers]*courier
	for i := range all {
		all[i] = &courier{connection: c, todo: parcels{more: make(chan struct{}, 1)}, senders: map[string]*amqp.Sender{}}
		c.do("sending commands", all[i].run)
	}
	c.do("receiving commands", func(ctx context.Context) error {
		return c.fleet.attach(ctx, func(b *bridged, a adapters.Attachment, d device.Delivery) {
			h := fnv.New32a()
			_, _ = h.Write([]byte(b.name))
			all[h.Sum32()%couriers].todo.add(parcel{b, a, d})
		})
	})
}

// run takes commands out until ctx ends. What it did not come to goes back to the
// queue when the fleet is detached.
func (c *courier) run(ctx context.Context) error {
	for {
		one, ok := c.todo.next()
		if !ok {
			select {
			case <-c.todo.more:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		outcome, err := c.send(ctx, one.delivery)
		if err != nil || ctx.Err() != nil {
			return err
		}
		c.metrics.outcomes.WithLabelValues(outcomeLabels[outcome.Kind]).Inc()
		c.settle(ctx, one, outcome)
	}
}

// settle ends a delivery, and asks for the device's next: at once, or after a
// while when the broker did not take this one.
func (c *courier) settle(ctx context.Context, one parcel, o device.Outcome) {
	command := &one.delivery.Command
	one.attachment.Settle(command.ID, one.delivery.Attempt, o, func(err error) {
		if err != nil {
			c.log.Debug("outcome of a command not recorded", "command", command.ID, "error", err)
		}
	})
	if o.Kind != device.Released {
		one.device.pause = busyMin
		one.attachment.Request(1)
		return
	}
	c.log.Debug("the broker did not take a command", "command", command.ID, "error", o.Reason, "retry_in", one.device.pause)
	time.AfterFunc(jitter(one.device.pause), func() {
		if ctx.Err() == nil {
			one.attachment.Request(1)
		}
	})
	one.device.pause = min(2*one.device.pause, c.cfg.RetryMax)
}

// send takes one command to its address, and answers what the broker did with it.
// An error costs the connection; what costs only the address or the session is an
// outcome.
func (c *courier) send(ctx context.Context, d device.Delivery) (device.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.SendTimeout)
	defer cancel()
	address := c.rule.commands.fill(ofCommand(&d.Command))
	to, err := c.sender(ctx, address)
	if err != nil {
		return c.failed(address, err)
	}
	receipt, err := to.SendWithReceipt(ctx, c.fromDelivery(d, time.Now()), nil)
	if err != nil {
		return c.failed(address, err)
	}
	c.counters.inc(commandsOut)
	state, err := receipt.Wait(ctx)
	if err != nil {
		return c.failed(address, err)
	}
	return outcomeOf(state), nil
}

// failed is what a command becomes that was not sent, or of which nobody knows.
func (c *courier) failed(address string, err error) (device.Outcome, error) {
	var broken *amqp.ConnError
	if errors.As(err, &broken) {
		return device.Outcome{}, err
	}
	c.hangUp()
	return device.Outcome{Kind: device.Released, Reason: fmt.Sprintf("%.100s: %.300s", address, err)}, nil
}

// hangUp ends the session, without waiting for the broker.
func (c *courier) hangUp() {
	if c.session == nil {
		return
	}
	session, timeout := c.session, c.cfg.DialTimeout
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		_ = session.Close(ctx)
	}()
	c.session, c.opened = nil, nil
	clear(c.senders)
}

// sender answers the link to an address.
func (c *courier) sender(ctx context.Context, address string) (*amqp.Sender, error) {
	if s := c.senders[address]; s != nil {
		return s, nil
	}
	if c.session == nil {
		session, err := c.conn.NewSession(ctx, nil)
		if err != nil {
			return nil, err
		}
		c.session = session
	}
	if len(c.opened) == maxSenders {
		oldest := c.opened[0]
		c.opened = c.opened[1:]
		s := c.senders[oldest]
		delete(c.senders, oldest)
		if err := s.Close(ctx); err != nil {
			return nil, err
		}
	}
	s, err := c.session.NewSender(ctx, address, nil)
	if err != nil {
		return nil, err
	}
	c.senders[address], c.opened = s, append(c.opened, address)
	return s, nil
}
