package amqp_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	client "github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/device"
)

func request(name, payload, replyTo string, correlation any) *client.Message {
	m := client.NewMessage([]byte(payload))
	m.Properties = &client.MessageProperties{Subject: &name, MessageID: "m", CorrelationID: correlation}
	if replyTo != "" {
		m.Properties.ReplyTo = &replyTo
	}
	return m
}

// An application sends a command and hears on its dynamic node that it is queued,
// under which id, and what the device answered.
func TestApplicationSendsCommands(t *testing.T) {
	gate := tenants()
	s := serve(t, amqp.Config{}, gate)
	app := as(t, s, "app")
	back := receiver(t, app, "", &client.ReceiverOptions{DynamicAddress: true})
	if !strings.HasPrefix(back.Address(), "$reply/") {
		t.Fatalf("the node is called %q", back.Address())
	}
	m := request("heat", `{"on":true}`, back.Address(), uint64(42))
	m.Header = &client.MessageHeader{TTL: time.Minute}
	m.ApplicationProperties = map[string]any{"idempotency-key": "once"}
	m.Properties.ContentType = ptr("application/json")
	if err := sender(t, app, "d/commands", nil).Send(soon(t), m, nil); err != nil {
		t.Fatal(err)
	}
	queued := take(t, back, "")
	id, _ := queued.ApplicationProperties["command"].(string)
	c := gate.Commands()[id].Command
	if c.Name != "heat" || c.Device != "d" || c.Tenant != "default" || string(c.Payload) != `{"on":true}` || c.ContentType != "application/json" ||
		c.Key != "once" || c.Sender != "app" || c.OneWay || time.Until(c.Deadline) > time.Minute {
		t.Errorf("the command is %+v", c)
	}
	if queued.Properties.CorrelationID != uint64(42) || queued.ApplicationProperties["state"] != "QUEUED" || queued.ApplicationProperties["status"] != int32(202) {
		t.Errorf("told %+v, %v", queued.Properties, queued.ApplicationProperties)
	}
	// The device takes it and answers, on its own connection.
	dev := as(t, s, "d")
	in := receiver(t, dev, "commands", nil)
	got := receive(t, in, `{"on":true}`)
	if err := in.AcceptMessage(soon(t), got); err != nil {
		t.Fatal(err)
	}
	answer := client.NewMessage([]byte("warm"))
	answer.Properties = &client.MessageProperties{CorrelationID: got.Properties.MessageID, ContentType: ptr("text/plain")}
	answer.ApplicationProperties = map[string]any{"status": int32(201)}
	if err := sender(t, dev, *got.Properties.ReplyTo, nil).Send(soon(t), answer, nil); err != nil {
		t.Fatal(err)
	}
	end := take(t, back, "warm")
	if end.Properties.CorrelationID != uint64(42) || end.ApplicationProperties["state"] != "SUCCEEDED" || end.ApplicationProperties["status"] != int32(201) ||
		end.ApplicationProperties["command"] != id || *end.Properties.ContentType != "text/plain" {
		t.Errorf("told %+v, %v", end.Properties, end.ApplicationProperties)
	}
}

// Every end a command can have is told, as a status; one-way ones end when delivered.
func TestEndsOfCommandsAreTold(t *testing.T) {
	gate := tenants()
	app := as(t, serve(t, amqp.Config{}, gate), "app")
	back := receiver(t, app, "responses", nil) // the application's own name for it
	to := sender(t, app, "", nil)
	for state, status := range map[device.CommandState]int32{
		device.StateRejected: 406, device.StateExpired: 408, device.StateCancelled: 410, device.StateFailed: 504, device.StateDelivered: 200,
	} {
		m := request("x", "1", "app/responses", nil)
		m.Properties.To = ptr("d/commands")
		m.ApplicationProperties = map[string]any{"one-way": state == device.StateDelivered}
		if err := to.Send(soon(t), m, nil); err != nil {
			t.Fatal(err)
		}
		queued := take(t, back, "")
		if queued.Properties.CorrelationID != "m" { // the message's id stands in
			t.Errorf("correlated with %v", queued.Properties.CorrelationID)
		}
		id := queued.ApplicationProperties["command"].(string)
		gate.Transition(device.CommandEvent{Command: id, State: device.StateSent})
		gate.Transition(device.CommandEvent{Command: id, State: state, Reason: "so it is"})
		end := take(t, back, "")
		if p := end.ApplicationProperties; p["state"] != state.String() || p["status"] != status || p["reason"] != "so it is" || p["command"] != id {
			t.Errorf("%s is told as %v", state, p)
		}
	}
	for name, m := range map[string]*client.Message{"one-way of nothing": request("x", "1", "", nil), "a bad name": request("a/b", "1", "", nil)} {
		if name == "one-way of nothing" {
			m.ApplicationProperties = map[string]any{"one-way": "perhaps"}
		}
		m.Properties.To = ptr("d/commands")
		var rejected *client.Error
		if err := to.Send(soon(t), m, nil); !errors.As(err, &rejected) || rejected.Condition != client.ErrCondInvalidField {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A reply-to that nobody receives from, or somebody of another tenant, is refused,
// and the command with it.
func TestReplyToOfNobody(t *testing.T) {
	gate := tenants()
	s := serve(t, amqp.Config{}, gate)
	app, stranger := as(t, s, "app"), as(t, s, "app@other")
	theirs := receiver(t, stranger, "", &client.ReceiverOptions{DynamicAddress: true})
	gone := receiver(t, app, "", &client.ReceiverOptions{DynamicAddress: true})
	if err := gone.Close(soon(t)); err != nil {
		t.Fatal(err)
	}
	to := sender(t, app, "d/commands", nil)
	for _, at := range []string{"nowhere", "app/responses", theirs.Address(), gone.Address()} {
		var rejected *client.Error
		if err := to.Send(soon(t), request("x", "1", at, nil), nil); !errors.As(err, &rejected) || rejected.Condition != client.ErrCondNotFound {
			t.Errorf("reply-to %s: %v", at, err)
		}
	}
	if n := len(gate.Commands()); n != 0 {
		t.Errorf("%d commands were sent", n)
	}
	if err := to.Send(soon(t), request("x", "1", "", nil), nil); err != nil {
		t.Errorf("without reply-to: %v", err)
	}
}

// Commands to one device keep their order, however many are on their way.
func TestCommandsKeepTheirOrder(t *testing.T) {
	gate := tenants()
	s := serve(t, amqp.Config{}, gate)
	to := sender(t, as(t, s, "app"), "d/commands", &client.SenderOptions{SettlementMode: ptr(client.SenderSettleModeSettled)})
	const n = 50
	for i := range n {
		if err := to.Send(soon(t), request("x", string(rune('A'+i)), "", nil), nil); err != nil {
			t.Fatal(err)
		}
	}
	r := receiver(t, as(t, s, "d"), "commands", &client.ReceiverOptions{Credit: 5})
	for i := range n {
		take(t, r, string(rune('A'+i)))
	}
}

// A dynamic node carries messages from one peer of a tenant to another, which
// settle with each other.
func TestDynamicNodes(t *testing.T) {
	gate := tenants()
	s := serve(t, amqp.Config{}, gate)
	dev := as(t, s, "d")
	node := receiver(t, dev, "", &client.ReceiverOptions{DynamicAddress: true})
	app := as(t, s, "app")
	to := sender(t, app, node.Address(), nil)
	send := func(m *client.Message) chan error {
		sent := make(chan error, 1)
		go func() { sent <- to.Send(soon(t), m, nil) }()
		return sent
	}
	m := request("s", "hello", "x", nil)
	m.Value, m.Data = []any{int32(1)}, nil // whatever it is, it arrives as it is
	sent := send(m)
	got, err := node.Receive(soon(t), nil)
	if err != nil || *got.Properties.ReplyTo != "x" || len(got.Value.([]any)) != 1 {
		t.Fatalf("received %+v, %v", got, err)
	}
	select {
	case err := <-sent:
		t.Errorf("answered with %v before the receiver did", err)
	default:
	}
	if err := node.AcceptMessage(soon(t), got); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	sent = send(request("s", "again", "x", nil))
	if err := node.RejectMessage(soon(t), receive(t, node, "again"), &client.Error{Condition: "x:y", Description: "no"}); err != nil {
		t.Fatal(err)
	}
	var rejected *client.Error
	if err := <-sent; !errors.As(err, &rejected) || !strings.Contains(rejected.Description, "no") {
		t.Errorf("rejected as %v", err)
	}
	// What the receiver leaves unsettled its sender is told, to send it again.
	sent = send(request("s", "left", "x", nil))
	receive(t, node, "left")
	left := node
	if node = receiver(t, dev, "", &client.ReceiverOptions{DynamicAddress: true}); left.Close(soon(t)) != nil {
		t.Error("the first node's link does not close")
	}
	if err := <-sent; !errors.As(err, &rejected) || rejected.Condition != client.ErrCondInternalError {
		t.Errorf("left as %v", err)
	}
	to = sender(t, app, node.Address(), nil)
	// Nobody of another tenant finds it, and it ends with its link.
	if _, err := as(t, s, "app@other").NewSender(soon(t), node.Address(), nil); !errors.As(err, &rejected) || rejected.Condition != client.ErrCondNotFound {
		t.Errorf("another tenant: %v", err)
	}
	if err := node.Close(soon(t)); err != nil {
		t.Fatal(err)
	}
	if err := to.Send(soon(t), request("s", "late", "x", nil), nil); !errors.As(err, &rejected) || rejected.Condition != client.ErrCondNotFound {
		t.Errorf("after its end: %v", err)
	}
}

// A reply node that is full says so; its named address is the newest receiver's.
func TestReplyNodesAreBounded(t *testing.T) {
	gate := tenants()
	s := serve(t, amqp.Config{ReplyWindow: 20}, gate)
	app := as(t, s, "app")
	older := receiver(t, app, "responses", &client.ReceiverOptions{Credit: -1})
	newer := receiver(t, as(t, s, "app"), "app/responses", &client.ReceiverOptions{Credit: -1})
	var stolen *client.LinkError
	if _, err := older.Receive(soon(t), nil); !errors.As(err, &stolen) || stolen.RemoteErr == nil || stolen.RemoteErr.Condition != client.ErrCondStolen {
		t.Errorf("the older receiver: %v", err)
	}
	to := sender(t, app, "d/commands", &client.SenderOptions{SettlementMode: ptr(client.SenderSettleModeMixed)})
	var busy *client.Error
	for i := 0; !errors.As(to.Send(soon(t), request("x", "1", "app/responses", nil), nil), &busy); i++ {
		if i > 20 {
			t.Fatal("the node takes answers without end")
		}
	}
	if busy.Condition != client.ErrCondResourceLimitExceeded {
		t.Errorf("full: %v", busy)
	}
	if err := newer.IssueCredit(1); err != nil {
		t.Fatal(err)
	}
	receive(t, newer, "")
}

// A command larger than its device takes is rejected in its name.
func TestCommandLargerThanThePeerTakes(t *testing.T) {
	gate := &adaptertest.Gate{}
	_, session := dial(t, serve(t, amqp.Config{}, gate), nil)
	r := receiver(t, session, "d/commands", &client.ReceiverOptions{MaxMessageSize: 1000})
	gate.Send(command("1", "d", "", strings.Repeat("x", 2000)))
	gate.Send(command("2", "d", "", "y"))
	receive(t, r, "y")
	until(t, gate, "the large one is rejected", func() bool { return len(gate.SettledAll()) == 1 })
	if s := gate.SettledAll()[0]; s.Command != "1" || s.Outcome.Kind != device.Rejected || !strings.Contains(s.Outcome.Reason, "max-message-size") {
		t.Errorf("settled %+v", s)
	}
}
