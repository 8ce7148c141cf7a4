package amqp

import (
	"context"
	"strconv"
	"time"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/adapters/amqp/words"
	"github.com/tributary-iot/tributary/device"
)

// What answers to an application hold as application properties.
const (
	propCommand = "command" // the command's id
	propState   = "state"   // where it stands: QUEUED, then how it ended
	propStatus  = "status"  // HTTP-like: the device's own, or what the state comes to
	propReason  = "reason"  // why, where there is one
)

// Application properties of a command that AMQP has no field for.
const (
	propKey    = "idempotency-key"
	propOneWay = "one-way"
)

// command sends what an application wants of a device. One after another, so that
// a device has its commands in the order they were sent; done(nil) when durable.
func (c *conn) command(in *wire.Message, to route, done func(error)) error {
	cmd, err := toCommand(in, to, c.sender())
	if err != nil {
		return err
	}
	correlation := in.CorrelationID
	if correlation == nil {
		correlation = in.MessageID
	}
	replyTo := in.ReplyTo
	c.inOrder(func() {
		ctx, cancel := c.background()
		defer cancel()
		answers, release, err := c.answersTo(ctx, to.id.Tenant, replyTo)
		if err != nil {
			done(err)
			return
		}
		record, err := c.server.apps.SendCommand(ctx, cmd)
		done(err)
		if err != nil || answers == nil {
			release()
			return
		}
		go func() {
			defer release()
			c.follow(answers, record, correlation)
		}()
	})
	return nil
}

// answersTo finds where the answers to a command go, and counts it there until
// released; nil when nobody wants any.
func (c *conn) answersTo(ctx context.Context, tenant, replyTo string) (answerer, func(), error) {
	if replyTo == "" {
		return nil, func() {}, nil
	}
	answers := c.server.answerer(tenant, replyTo)
	release, err := answers.await(ctx)
	return answers, release, err
}

// sender is who asks, for a command's trail.
func (c *conn) sender() string {
	if c.principal.ID.Device != "" {
		return c.principal.ID.Device
	}
	return c.client
}

// inOrder runs f after those given before, on a goroutine that lives while there
// are any. The credit of links bounds them.
func (c *conn) inOrder(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.toSend = append(c.toSend, f)
	if len(c.toSend) > 1 {
		return
	}
	go func() {
		defer c.recover("commands")
		for {
			c.mu.Lock()
			next := c.toSend[0]
			c.mu.Unlock()
			next()
			c.mu.Lock()
			c.toSend = c.toSend[1:]
			left := len(c.toSend)
			c.mu.Unlock()
			if left == 0 {
				return
			}
		}
	}()
}

// follow tells the receiver of the answers that the command is QUEUED, and how it
// ended.
func (c *conn) follow(n answerer, r device.CommandRecord, correlation any) {
	c.tell(n, &r, correlation)
	if ended(&r) {
		return
	}
	err := c.server.apps.WatchCommand(n.context(), r.Command.ForDevice(), r.Command.ID, func(now device.CommandRecord) error {
		if ended(&now) {
			c.tell(n, &now, correlation)
		}
		return nil
	})
	if err != nil && n.context().Err() == nil {
		c.metrics.repliesDropped.Inc()
		c.log.Debug("the end of a command is not told", "command", r.Command.ID, "error", err)
	}
}

func ended(r *device.CommandRecord) bool { return r.Last().State.Terminal(r.Command.OneWay) }

func (c *conn) tell(n answerer, r *device.CommandRecord, correlation any) {
	failed := func(err error) {
		c.metrics.repliesDropped.Inc()
		c.log.Debug("an answer is dropped", "command", r.Command.ID, "error", err)
	}
	data, err := fromRecord(r, correlation)
	if err != nil {
		failed(err)
		return
	}
	n.tell(parcel{data: data, counter: c.metrics.repliesOut, settle: func(_ device.Outcome, done func(error)) {
		if done != nil {
			done(nil)
		}
	}}, failed)
}

// toCommand makes a command of an application's message: its subject is the name.
func toCommand(in *wire.Message, to route, sender string) (device.Command, error) {
	c := device.Command{
		Tenant: to.id.Tenant, Device: to.id.Device, Name: in.Subject, Payload: in.Body,
		ContentType: string(in.ContentType), Sender: sender,
	}
	switch {
	case in.AbsoluteExpiryTime.Set:
		c.Deadline = in.AbsoluteExpiryTime.Value.Time()
	case in.TTL.Value > 0:
		c.Deadline = time.Now().Add(time.Duration(in.TTL.Value) * time.Millisecond)
	}
	for _, p := range in.Properties {
		switch p.Key {
		case propKey:
			c.Key = words.Text(p.Value)
		case propOneWay:
			oneWay, err := strconv.ParseBool(words.Text(p.Value))
			if err != nil {
				return c, device.Errorf(device.Invalid, "the application property %s is true or false", propOneWay)
			}
			c.OneWay = oneWay
		}
	}
	return c, c.Validate()
}

// fromRecord is where a command stands, as an answer to who sent it.
func fromRecord(r *device.CommandRecord, correlation any) ([]byte, error) {
	last := r.Last()
	m := wire.Message{
		MessageID: r.Command.ID + "/" + last.State.String(), CorrelationID: correlation, Subject: last.State.String(),
		CreationTime: wire.Some(wire.TimestampOf(last.At)), ContentType: wire.Symbol(last.ContentType), Body: last.Response,
		Properties: wire.Map{
			{Key: propCommand, Value: r.Command.ID}, {Key: propState, Value: last.State.String()}, {Key: propStatus, Value: statusOf(&last)},
		},
	}
	if last.Reason != "" {
		m.Properties = append(m.Properties, wire.Pair{Key: propReason, Value: last.Reason})
	}
	return wire.AppendMessage(nil, &m)
}

// statusOf is a state as the HTTP status that says the same.
func statusOf(e *device.CommandEvent) int32 {
	if e.Status != 0 {
		return int32(e.Status)
	}
	switch e.State {
	case device.StateDelivered:
		return 200
	case device.StateRejected:
		return 406
	case device.StateExpired:
		return 408
	case device.StateCancelled:
		return 410
	case device.StateFailed: // it never answered
		return 504
	}
	return 202
}
