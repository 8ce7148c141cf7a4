package amqp_test

import (
	"context"
	"errors"
	"testing"
	"time"

	client "github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/device"
)

func TestCommandInAMQPWords(t *testing.T) {
	gate := &adaptertest.Gate{}
	_, session := dial(t, serve(t, amqp.Config{}, gate), nil)
	c := command("c1", "d", "heat", `{"on":true}`)
	gate.Send(c)
	r := receiver(t, session, "d/commands", nil)
	m, err := r.Receive(soon(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := m.Properties
	if p.MessageID != "c1" || p.CorrelationID != "c1" || *p.Subject != "heat" || *p.ReplyTo != "d/responses" || *p.ContentType != "application/json" ||
		!p.AbsoluteExpiryTime.Equal(c.Deadline) || string(m.GetData()) != `{"on":true}` || m.Header != nil && m.Header.DeliveryCount != 0 {
		t.Errorf("the device got %+v %+v", p, m.Header)
	}
	if err := r.AcceptMessage(soon(t), m); err != nil {
		t.Fatal(err)
	}
	until(t, gate, "accepted", func() bool { return len(gate.SettledAll()) == 1 })
	if s := gate.SettledAll()[0]; s.Outcome.Kind != device.Accepted || s.Attempt != 1 {
		t.Errorf("settled %+v", s)
	}
}

func TestOutcomesOfCommands(t *testing.T) {
	for name, c := range map[string]struct {
		end   func(ctx context.Context, r *client.Receiver, m *client.Message) error
		kind  device.OutcomeKind
		again bool
	}{
		"accepted": {func(ctx context.Context, r *client.Receiver, m *client.Message) error { return r.AcceptMessage(ctx, m) }, device.Accepted, false},
		"rejected": {func(ctx context.Context, r *client.Receiver, m *client.Message) error {
			return r.RejectMessage(ctx, m, &client.Error{Condition: "x:y", Description: "no heater"})
		}, device.Rejected, false},
		"released": {func(ctx context.Context, r *client.Receiver, m *client.Message) error {
			return r.ReleaseMessage(ctx, m)
		}, device.Released, true},
		"modified": {func(ctx context.Context, r *client.Receiver, m *client.Message) error {
			return r.ModifyMessage(ctx, m, &client.ModifyMessageOptions{DeliveryFailed: true})
		}, device.Released, true},
		"undeliverable here": {func(ctx context.Context, r *client.Receiver, m *client.Message) error {
			return r.ModifyMessage(ctx, m, &client.ModifyMessageOptions{UndeliverableHere: true})
		}, device.Rejected, false},
	} {
		for _, mode := range []client.ReceiverSettleMode{client.ReceiverSettleModeFirst, client.ReceiverSettleModeSecond} {
			t.Run(name, func(t *testing.T) {
				gate := &adaptertest.Gate{}
				_, session := dial(t, serve(t, amqp.Config{}, gate), nil)
				r := receiver(t, session, "d/commands", &client.ReceiverOptions{SettlementMode: &mode})
				gate.Send(command("c1", "d", "heat", "1"))
				m, err := r.Receive(soon(t), nil)
				if err != nil {
					t.Fatal(err)
				}
				// This client answers the device's own rejection as an error.
				if err := c.end(soon(t), r, m); err != nil && (name != "rejected" || mode != client.ReceiverSettleModeSecond) {
					t.Fatal(err)
				}
				until(t, gate, "settled", func() bool { return len(gate.SettledAll()) == 1 })
				if got := gate.SettledAll()[0].Outcome; got.Kind != c.kind || name == "rejected" && got.Reason != "x:y: no heater" {
					t.Errorf("settled %+v", got)
				}
				if !c.again {
					return
				}
				if m, err = r.Receive(soon(t), nil); err != nil || m.Header == nil || m.Header.DeliveryCount != 1 {
					t.Errorf("the repeat is %+v, %v", m, err)
				}
			})
		}
	}
}

func TestSettledCommandsAreUnconfirmed(t *testing.T) {
	gate := &adaptertest.Gate{}
	_, session := dial(t, serve(t, amqp.Config{}, gate), nil)
	r := receiver(t, session, "d/commands", &client.ReceiverOptions{RequestedSenderSettleMode: ptr(client.SenderSettleModeSettled)})
	gate.Send(command("c1", "d", "heat", "1"))
	if _, err := r.Receive(soon(t), nil); err != nil {
		t.Fatal(err)
	}
	until(t, gate, "settled", func() bool { return len(gate.SettledAll()) == 1 })
	if got := gate.SettledAll()[0].Outcome.Kind; got != device.Unconfirmed {
		t.Errorf("settled as %d", got)
	}
}

func TestUnsettledCommandsGoBack(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, c *client.Conn, s *client.Session, r *client.Receiver) error{
		"link": func(t *testing.T, _ *client.Conn, _ *client.Session, r *client.Receiver) error {
			return r.Close(soon(t))
		},
		"session": func(t *testing.T, _ *client.Conn, s *client.Session, _ *client.Receiver) error {
			return s.Close(soon(t))
		},
		"connection": func(_ *testing.T, c *client.Conn, _ *client.Session, _ *client.Receiver) error { return c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			gate := &adaptertest.Gate{}
			conn, session := dial(t, serve(t, amqp.Config{}, gate), nil)
			r := receiver(t, session, "d/commands", nil)
			gate.Send(command("c1", "d", "heat", "1"))
			if _, err := r.Receive(soon(t), nil); err != nil {
				t.Fatal(err)
			}
			if err := leave(t, conn, session, r); err != nil {
				t.Fatal(err)
			}
			until(t, gate, "it is back in the queue", func() bool { return gate.Queued(idOf("d")) == 1 && gate.Sessions(idOf("d")) == 0 })
		})
	}
}

func TestAnswers(t *testing.T) {
	gate := &adaptertest.Gate{OnRespond: func(r device.Response) error {
		if r.Command == "unknown" {
			return device.Errorf(device.NotFound, "no such command")
		}
		return nil
	}}
	_, session := dial(t, serve(t, amqp.Config{}, gate), nil)
	for _, at := range []string{"d/responses", ""} {
		answer := func(id string, status any) error {
			m := client.NewMessage([]byte("ok"))
			m.Properties = &client.MessageProperties{To: ptr("d/responses"), CorrelationID: id}
			if status != nil {
				m.ApplicationProperties = map[string]any{"status": status}
			}
			return sender(t, session, at, nil).Send(soon(t), m, nil)
		}
		for _, status := range []any{nil, int32(200), "404", uint64(503)} {
			if err := answer("c1", status); err != nil {
				t.Errorf("status %v: %v", status, err)
			}
		}
		for id, status := range map[string]any{"unknown": nil, "": nil, "c1": "fine"} {
			var rejected *client.Error
			if err := answer(id, status); !errors.As(err, &rejected) {
				t.Errorf("answer to %q with status %v: %v", id, status, err)
			}
		}
	}
	var statuses []int
	for _, r := range gate.Responses() {
		if r.Command != "c1" || r.Device != idOf("d") || string(r.Payload) != "ok" || r.Protocol != device.AMQP {
			t.Errorf("answer %+v", r)
		}
		statuses = append(statuses, r.Status)
	}
	if len(statuses) != 8 || statuses[0] != 200 || statuses[2] != 404 || statuses[3] != 503 {
		t.Errorf("statuses %v", statuses)
	}
}

func TestCreditAndDrain(t *testing.T) {
	gate := &adaptertest.Gate{}
	_, session := dial(t, serve(t, amqp.Config{DrainGrace: 20 * time.Millisecond}, gate), nil)
	r := receiver(t, session, "d/commands", &client.ReceiverOptions{Credit: -1})
	for _, id := range []string{"1", "2", "3"} {
		gate.Send(command(id, "d", "", id))
	}
	if err := r.IssueCredit(1); err != nil {
		t.Fatal(err)
	}
	first, err := r.Receive(soon(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := gate.Queued(idOf("d")); n != 2 {
		t.Errorf("%d commands wait, want 2: credit was 1", n)
	}
	if err := r.AcceptMessage(soon(t), first); err != nil {
		t.Fatal(err)
	}
	// Two come, the rest of the credit is used up by the drain.
	if err := r.IssueCredit(10); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		m, err := r.Receive(soon(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.AcceptMessage(soon(t), m); err != nil {
			t.Fatal(err)
		}
	}
	until(t, gate, "all are settled", func() bool { return len(gate.SettledAll()) == 3 })
	if err := r.DrainCredit(soon(t), nil); err != nil {
		t.Fatal(err)
	}
	until(t, gate, "the drained link has let go", func() bool { return gate.Sessions(idOf("d")) == 0 })
	gate.Send(command("4", "d", "", "4"))
	if m := r.Prefetched(); m != nil {
		t.Error("a command came after the drain")
	}
	if err := r.IssueCredit(1); err != nil {
		t.Fatal(err)
	}
	if m, err := r.Receive(soon(t), nil); err != nil || m.Properties.MessageID != "4" {
		t.Errorf("after new credit: %v, %v", m, err)
	}
}

func TestNewerSessionTakesTheCommands(t *testing.T) {
	gate := &adaptertest.Gate{}
	s := serve(t, amqp.Config{}, gate)
	_, old := dial(t, s, nil)
	r := receiver(t, old, "d/commands", nil)
	gate.Send(command("1", "d", "", "1"))
	m, err := r.Receive(soon(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, newer := dial(t, s, nil)
	m2, err := receiver(t, newer, "d/commands", nil).Receive(soon(t), nil)
	if err != nil || m2.Header == nil || m2.Header.DeliveryCount != 1 {
		t.Fatalf("the newer session got %+v, %v", m2, err)
	}
	_ = r.AcceptMessage(soon(t), m) // too late, whatever it answers
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if m, err = r.Receive(soon(t), nil); err != nil || m.Header.DeliveryCount != 2 {
		t.Errorf("the lease came back with %+v, %v", m, err)
	}
	if n := len(gate.SettledAll()); n != 0 {
		t.Errorf("%d settlements counted", n)
	}
}
