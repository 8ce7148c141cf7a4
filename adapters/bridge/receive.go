package bridge

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// receiver takes the messages of one address. Its credit is what may be unanswered.
type receiver struct {
	*connection
	address  string
	from     *amqp.Receiver
	take     take
	free     chan struct{}  // one for each message that may come and is not granted
	open     sync.WaitGroup // messages not answered yet
	verdicts chan verdict   // has room for all that may be unanswered
	pause    time.Duration  // after the next message there was no room for
}

// take hands a message to the house, which calls done exactly once; or answers why
// it is not kept, and the trail to leave.
type take func(in *incoming, done func(error)) (trail *device.Message, err error)

// verdict is what became of a message.
type verdict struct {
	message *amqp.Message
	err     error
}

// receive opens a link from an address, in a session of its own: a broker may end
// the session of a link it does not like.
func (c *connection) receive(address string, take take) error {
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.DialTimeout)
	defer cancel()
	session, err := c.conn.NewSession(ctx, nil)
	if err != nil {
		return fmt.Errorf("no session: %w", err)
	}
	unsettled := amqp.SenderSettleModeUnsettled
	options := &amqp.ReceiverOptions{
		Name: c.cfg.ContainerID + "-" + c.Name + "-" + address, Credit: -1, MaxMessageSize: maxTransferBytes,
		RequestedSenderSettleMode: &unsettled,
	}
	if c.Durable { // the broker knows the subscription again by our container-id and the link's name
		options.SourceDurability, options.SourceExpiryPolicy = amqp.DurabilityUnsettledState, amqp.ExpiryPolicyNever
	}
	from, err := session.NewReceiver(ctx, address, options)
	if err != nil {
		return fmt.Errorf("receiving from %s: %w", address, err)
	}
	r := &receiver{connection: c, address: address, from: from, take: take, free: make(chan struct{}, c.Credit), verdicts: make(chan verdict, c.Credit), pause: busyMin}
	for range c.Credit {
		r.free <- struct{}{}
	}
	c.do("receiving from "+address, func(ctx context.Context) error {
		defer func() {
			go func() { // ends when the house has answered all, whatever became of the connection
				r.open.Wait()
				close(r.verdicts)
			}()
		}()
		return r.run(ctx)
	})
	go r.settle()
	return nil
}

// run takes one message after another, in order, until ctx ends or the link does.
func (r *receiver) run(ctx context.Context) error {
	granted := 0
	for {
		if granted == 0 {
			var err error
			if granted, err = r.grant(ctx); err != nil {
				return err
			}
		}
		m, err := r.from.Receive(ctx, nil)
		if err != nil {
			return err
		}
		granted--
		r.counters.inc(received)
		r.counters.fly(1)
		r.pending.Add(1)
		r.open.Add(1)
		in := &incoming{m, r.address}
		done := func(err error) {
			if err != nil && !device.CodeOf(err).Retryable() {
				r.refuse(in, nil, err)
			}
			r.answer(m, err)
		}
		trail, err := r.take(in, done)
		switch {
		case err == nil:
			r.pause = busyMin
		case device.CodeOf(err).Retryable():
			r.answer(m, err)
			r.log.Debug("no room for a message now", "error", err, "retry_in", r.pause)
			sleep(ctx, jitter(r.pause))
			r.pause = min(2*r.pause, busyMax)
		default:
			r.refuse(in, trail, err)
			r.answer(m, err)
		}
	}
}

// grant gives the broker credit for half of what may be unanswered, once that much
// is free. It is called when no credit is left, and so no message is under way:
// RabbitMQ 3.10 miscounts credit that meets deliveries, which is how the library
// gives it, and stops for good after some hundred messages.
func (r *receiver) grant(ctx context.Context) (int, error) {
	half := (r.Credit + 1) / 2
	for range half {
		select {
		case <-r.free:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return half, r.from.IssueCredit(uint32(half))
}

// answer passes a verdict on. It does not block: there is room for all.
func (r *receiver) answer(m *amqp.Message, err error) {
	r.verdicts <- verdict{m, err}
}

// settle tells the broker the verdicts, until there will be no more.
func (r *receiver) settle() {
	for v := range r.verdicts {
		r.tell(v)
	}
}

// tell settles one message. What fails here, the end of the connection tells.
func (r *receiver) tell(v verdict) {
	defer r.open.Done()
	defer r.pending.Done()
	defer r.counters.fly(-1)
	defer func() { r.free <- struct{}{} }() // there is room: it was taken for this message
	ctx, cancel := context.WithTimeout(r.cutting, r.cfg.SendTimeout)
	defer cancel()
	var err error
	switch {
	case v.err == nil:
		if err = r.from.AcceptMessage(ctx, v.message); err == nil {
			r.counters.inc(accepted)
		}
	case device.CodeOf(v.err).Retryable():
		if err = r.from.ReleaseMessage(ctx, v.message); err == nil {
			r.counters.inc(released)
		}
	default:
		if err = r.from.RejectMessage(ctx, v.message, toBroker(v.err)); err == nil {
			r.counters.inc(rejected)
		}
	}
	if err != nil {
		r.log.Debug("the broker was not told what became of a message, and will deliver it again", "error", err)
	}
}

// takeTelemetry hands a message on as telemetry.
func (c *connection) takeTelemetry(in *incoming, done func(error)) (*device.Message, error) {
	m, err := c.toTelemetry(in)
	if err != nil {
		return m, err
	}
	if len(m.Measurements) == 0 {
		c.metrics.unread.Inc()
	}
	name := m.Device // m is the house's once it is submitted
	if err := c.gate.Submit(m, done); err != nil {
		return nil, err
	}
	if c.Commands != "" {
		c.fleet.heard(name)
	}
	return nil, nil
}

// takeAnswer hands a message on as a device's answer to a command.
func (c *connection) takeAnswer(in *incoming, done func(error)) (*device.Message, error) {
	answer, err := c.toResponse(in)
	if err != nil {
		return nil, err
	}
	c.counters.inc(answers)
	c.gate.Respond(answer, done)
	return nil, nil
}

// refuse leaves a trail of a message we do not keep: of the device, when it was
// found, else of the link's gateway.
func (r *receiver) refuse(in *incoming, unread *device.Message, err error) {
	r.metrics.refuse(err)
	id := r.id()
	if unread != nil {
		id = unread.ID()
	}
	raw, _, _ := r.payload(in) // the payload, as on every door
	if raw == nil {
		raw, _ = in.MarshalBinary() // there is none to be found: all that came
	}
	r.gate.Refused(adapters.Refusal{
		Device: id, Protocol: device.AMQP, Address: r.address, Raw: raw[:min(len(raw), refusedRawBytes)],
		ContentType: text(in.properties().ContentType), Err: err, Message: unread,
	})
}
