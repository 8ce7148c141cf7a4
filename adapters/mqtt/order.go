package mqtt

import (
	"context"
	"time"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

// orders is for whom a command on {device}/commands is, if the session may send
// commands: applications may, and anybody in open mode.
func (s *session) orders(name string) (device.ID, error) {
	id := device.ID{Tenant: s.who.ID.Tenant, Device: name}
	switch {
	case s.srv.cfg.Topics == nil:
		return id, device.Errorf(device.Invalid, "commands are not taken here")
	case s.who.Kind != device.KindApplication && !s.who.Open:
		return id, device.Errorf(device.Forbidden, "%s is no application: it may not send commands", s.who.ID)
	}
	return id, id.Validate()
}

// order makes a message of an application a durable command. It wants an answer
// if it names a Response Topic; the command's id is published there.
func (s *session) order(p *packet.Publish, r route, a *pending) error {
	s.srv.metrics.ordersIn.Inc()
	c := device.Command{Tenant: r.id.Tenant, Device: r.id.Device, Payload: a.payload, Key: a.mark, OneWay: true, Sender: s.who.ID.String()}
	c.ContentType, _ = p.Properties.Text(packet.ContentType)
	if n, ok := p.Properties.Number(packet.MessageExpiry); ok {
		c.Deadline = time.Now().Add(time.Duration(n) * time.Second)
	}
	var answer *device.Publication
	if topic, ok := p.Properties.Text(packet.ResponseTopic); ok {
		c.OneWay = false
		err := s.who.UseTopic(topic)
		if err == nil {
			answer, err = s.publication(topic, 1, false, nil, nil)
		}
		if err != nil {
			return device.Wrap(device.CodeOf(err), "response topic is not one of the tenant's own that may be used", err)
		}
		answer.ContentType, answer.Text = "text/plain", true
		answer.Correlation, _ = p.Properties.Text(packet.CorrelationData)
	}
	s.inTurn(func() { a.finished(s.send1(c, answer)) })
	return nil
}

// send1 sends one command, and says its id to who asked.
func (s *session) send1(c device.Command, answer *device.Publication) error {
	ctx, cancel := context.WithTimeout(s.srv.ctx, s.srv.cfg.ConnectTimeout)
	defer cancel()
	record, err := s.srv.cfg.Topics.Send(ctx, c)
	if err != nil || answer == nil {
		return err
	}
	answer.Payload = []byte(record.Command.ID)
	said := make(chan error, 1)
	if err := s.srv.cfg.Topics.Publish(answer, func(err error) { said <- err }); err != nil {
		return err
	}
	select {
	case err := <-said:
		return err
	case <-ctx.Done():
		return device.Wrap(device.Unavailable, "the command's id could not be published in time", ctx.Err())
	}
}
