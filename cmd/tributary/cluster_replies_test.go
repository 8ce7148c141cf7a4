package main

import (
	"errors"
	"testing"

	"github.com/Azure/go-amqp"
)

// TestRepliesCrossNodes: who receives on one node is answered from another: by a
// device at its dynamic node, and by what becomes of a command sent there.
func TestRepliesCrossNodes(t *testing.T) {
	t.Parallel()
	c := openCluster(t)
	onA, onB := c.a.amqpSession("", ""), c.b.amqpSession("", "")
	back := receiveFrom(t, onA, "", &amqp.ReceiverOptions{DynamicAddress: true})
	at := back.Address()

	direct, err := onB.NewSender(waiting(t), at, nil)
	if err != nil {
		t.Fatal(err)
	}
	relay, err := onB.NewSender(waiting(t), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	say := func(s *amqp.Sender, text string) {
		m := &amqp.Message{Properties: &amqp.MessageProperties{To: &at}, Data: [][]byte{[]byte(text)}}
		go func() { told <- s.Send(waiting(t), m, nil) }()
	}
	for text, s := range map[string]*amqp.Sender{"to its sender": direct, "through the relay": relay} {
		say(s, text)
		taken(t, back, text)
		if err := <-told; err != nil {
			t.Errorf("accepted is told as %v", err)
		}
	}
	say(direct, "bad")
	m, err := back.Receive(waiting(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := back.RejectMessage(waiting(t), m, &amqp.Error{Condition: "x:bad", Description: "not this"}); err != nil {
		t.Fatal(err)
	}
	var refused *amqp.Error
	if err := <-told; !errors.As(err, &refused) || refused.Condition != amqp.ErrCondInvalidField {
		t.Errorf("rejected is told as %v", err)
	}

	// A command sent on b, answered by a device on b, told on a.
	name, correlation := "heat", "c"
	command := &amqp.Message{Properties: &amqp.MessageProperties{Subject: &name, ReplyTo: &at, CorrelationID: correlation}, Data: [][]byte{[]byte("on")}}
	sendTo(t, onB, "dev/commands", command)
	queued := taken(t, back, "")
	got := taken(t, receiveFrom(t, onB, "dev/commands", nil), "on")
	sendTo(t, onB, *got.Properties.ReplyTo, &amqp.Message{Properties: &amqp.MessageProperties{CorrelationID: got.Properties.MessageID}, Data: [][]byte{[]byte("warm")}})
	end := taken(t, back, "warm")
	if queued.ApplicationProperties["state"] != "QUEUED" || end.ApplicationProperties["state"] != "SUCCEEDED" || end.Properties.CorrelationID != correlation ||
		end.ApplicationProperties["command"] != got.Properties.MessageID {
		t.Errorf("told %v, then %v", queued.ApplicationProperties, end.ApplicationProperties)
	}

	// Its address is nobody's once it has gone.
	if err := back.Close(waiting(t)); err != nil {
		t.Fatal(err)
	}
	say(relay, "late")
	if err := <-told; !errors.As(err, &refused) || refused.Condition != amqp.ErrCondNotFound {
		t.Errorf("to nobody: %v", err)
	}
	sender, err := onB.NewSender(waiting(t), "dev/commands", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sender.Send(waiting(t), command, nil); !errors.As(err, &refused) || refused.Condition != amqp.ErrCondNotFound {
		t.Errorf("a command with this reply-to: %v", err)
	}

	// {application}/responses is the newer receiver's.
	older := receiveFrom(t, onA, "app/responses", nil)
	newer := receiveFrom(t, onB, "app/responses", nil)
	var detached *amqp.LinkError
	if _, err := older.Receive(waiting(t), nil); !errors.As(err, &detached) || detached.RemoteErr.Condition != amqp.ErrCondStolen {
		t.Errorf("the older receiver: %v", err)
	}
	at = "app/responses"
	sendTo(t, onA, "dev/commands", command)
	taken(t, newer, "")
}
