package bridge

import (
	"context"
	"fmt"
	"strings"
	"testing"

	client "github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/peer"
)

// rabbitSession is a client of the broker that is not ours.
func rabbitSession(ctx context.Context, t *testing.T, addr string) *client.Session {
	t.Helper()
	conn, err := client.Dial(ctx, "amqp://guest:guest@"+addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

func sendRabbit(ctx context.Context, t *testing.T, session *client.Session, address string, messages ...*client.Message) {
	t.Helper()
	sender, err := session.NewSender(ctx, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		m.Header = &client.MessageHeader{Durable: true}
		if err := sender.Send(ctx, m, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func reading(id, subject string, n int) *client.Message {
	m := client.NewMessage(payload(n))
	m.Properties = &client.MessageProperties{MessageID: id, Subject: &subject}
	return m
}

// TestPeerRabbitMQ: telemetry in, a command out, its answer in; then the broker is
// killed and comes back.
func TestPeerRabbitMQ(t *testing.T) {
	t.Parallel()
	rabbit := peer.StartRabbitMQ(t, "telemetry", "replies", "commands.dev1")
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	turnsUsAway(t, rabbit.Addr)
	gate := &adaptertest.Gate{}
	session := rabbitSession(ctx, t, rabbit.Addr)
	sendRabbit(ctx, t, session, "/amq/queue/telemetry", reading("m1", "dev1.telemetry.room", 1), reading("m2", "nobody", 2))
	bridge := bridgeTo(t, rabbit.Addr, gate, func(_ *Config, l *Link) {
		l.URL, l.PasswordFile = "amqp://guest@"+rabbit.Addr, writeSecret(t, "", "guest\n")
		l.Receive, l.Device = []string{"/amq/queue/telemetry"}, ""
		l.Pattern = `^(?P<device>[^.]+)\.telemetry(\.(?P<channel>.+))?$`
		l.Commands, l.Replies = "/amq/queue/commands.{device}", "/amq/queue/replies"
	})
	until(t, gate, "the message is stored", func() bool { return len(gate.Stored()) == 1 && len(gate.Refusals()) == 1 })
	if m := gate.Stored()[0]; m.Device != "dev1" || m.Channel != "room" || m.Key != "m1" || string(m.Payload) != `{"n":1}` {
		t.Errorf("it came as %+v", m)
	}
	untilStatus(t, bridge, "both are settled", func(s Status) bool { return s.Accepted == 1 && s.Rejected == 1 && s.InFlight == 0 })

	many := make([]*client.Message, 1000)
	for i := range many {
		many[i] = reading("", "dev2.telemetry", i)
		many[i].Properties.MessageID = fmt.Sprint("many", i)
	}
	sendRabbit(ctx, t, session, "/amq/queue/telemetry", many...)
	until(t, gate, "a thousand more are stored", func() bool { return len(gate.Stored()) == 1001 })

	gate.Send(commandFor("dev1", "c1"))
	commands, err := session.NewReceiver(ctx, "/amq/queue/commands.dev1", nil)
	if err != nil {
		t.Fatal(err)
	}
	command, err := commands.Receive(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p := command.Properties; string(command.GetData()) != `{"on":true}` || *p.Subject != "commands.dev1" && *p.Subject != "heat" || *p.ReplyTo != "/amq/queue/replies" {
		t.Errorf("the command arrives as %+v %s", p, command.GetData())
	}
	if err := commands.AcceptMessage(ctx, command); err != nil {
		t.Fatal(err)
	}
	until(t, gate, "the command is settled", func() bool { return len(gate.SettledAll()) == 1 })
	if s := gate.SettledAll()[0]; s.Outcome.Kind != device.Unconfirmed {
		t.Errorf("settled %+v", s)
	}
	answer := client.NewMessage([]byte(`{"done":1}`))
	answer.Properties = &client.MessageProperties{CorrelationID: command.Properties.CorrelationID}
	answer.ApplicationProperties = map[string]any{"status": int32(202)}
	sendRabbit(ctx, t, session, *command.Properties.ReplyTo, answer)
	until(t, gate, "the answer is kept", func() bool { return len(gate.Responses()) == 1 })
	if r := gate.Responses()[0]; r.Command != "c1" || r.Device != deviceID("dev1") || r.Status != 202 || string(r.Payload) != `{"done":1}` {
		t.Errorf("the answer is %+v", r)
	}

	rabbit.Kill()
	untilStatus(t, bridge, "the link is down", func(s Status) bool { return s.State == Down && s.Err != "" })
	rabbit.Start()
	untilStatus(t, bridge, "the link is up", func(s Status) bool { return s.State == Up })
	sendRabbit(ctx, t, rabbitSession(ctx, t, rabbit.Addr), "/amq/queue/telemetry", reading("m3", "dev1.telemetry", 3))
	until(t, gate, "a message comes after the restart", func() bool { return len(gate.Stored()) == 1002 })
}

// turnsUsAway: a queue that is not there, and a wrong password, are told as such.
func turnsUsAway(t *testing.T, addr string) {
	for want, change := range map[string]func(*Link){
		"amqp:not-found":     func(l *Link) { l.Receive = []string{"/amq/queue/nowhere"} },
		"does not let us in": func(l *Link) { l.URL, l.PasswordFile = "amqp://guest@"+addr, writeSecret(t, "", "wrong") },
	} {
		bridge := bridgeTo(t, addr, &adaptertest.Gate{}, func(_ *Config, l *Link) { change(l) })
		untilStatus(t, bridge, want, func(s Status) bool { return s.State == Down && strings.Contains(s.Err, want) })
	}
}
