package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
)

// addApplication answers its secret.
func (s *server) addApplication(name string) string {
	s.t.Helper()
	var made struct{ Secret string }
	if err := json.Unmarshal([]byte(s.client("device", "add", name, "--kind", "application", "-o", "json")), &made); err != nil || made.Secret == "" {
		s.t.Fatalf("device add: %v", err)
	}
	return made.Secret
}

// amqpSession connects go-amqp as the user, without a secret anonymously.
func (s *server) amqpSession(user, secret string) *amqp.Session {
	s.t.Helper()
	ctx := waiting(s.t)
	options := &amqp.ConnOptions{SASLType: amqp.SASLTypePlain(user, secret), ContainerID: user}
	if secret == "" {
		options.SASLType = amqp.SASLTypeAnonymous()
	}
	conn, err := amqp.Dial(ctx, "amqp://"+s.addresses["amqp"], options)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return session
}

func waiting(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func receiveFrom(t testing.TB, session *amqp.Session, at string, options *amqp.ReceiverOptions) *amqp.Receiver {
	t.Helper()
	r, err := session.NewReceiver(waiting(t), at, options)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// taken receives, checks and accepts one message.
func taken(t testing.TB, r *amqp.Receiver, payload string) *amqp.Message {
	t.Helper()
	m, err := r.Receive(waiting(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(m.GetData()); got != payload {
		t.Errorf("received %q, want %q", got, payload)
	}
	if err := r.AcceptMessage(waiting(t), m); err != nil {
		t.Fatal(err)
	}
	return m
}

func sendTo(t testing.TB, session *amqp.Session, at string, m *amqp.Message) {
	t.Helper()
	sender, err := session.NewSender(waiting(t), at, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sender.Send(waiting(t), m, nil); err != nil {
		t.Fatal(err)
	}
}

// TestApplicationsOverAMQP: a program of the tenant reads telemetry, from where it
// left before the server was killed, and commands a device; another tenant's reads
// nothing of it.
func TestApplicationsOverAMQP(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := serve(t, dir)
	secret, other, dev := s.addApplication("app"), s.addApplication("app@other"), s.addDevice("dev")
	foreign := s.addDevice("dev@other")
	named := &amqp.ReceiverOptions{Name: "jobs", SourceCapabilities: []string{"shared", "global"}, SourceDurability: amqp.DurabilityUnsettledState,
		SourceExpiryPolicy: amqp.ExpiryPolicyNever}
	jobs := receiveFrom(t, s.amqpSession("app", secret), "telemetry", named)
	device := s.amqpSession("dev", dev)
	for i := range 4 {
		sendTo(t, device, "telemetry/room", amqp.NewMessage(fmt.Appendf(nil, "%d", i)))
	}
	sendTo(t, s.amqpSession("dev@other", foreign), "telemetry", amqp.NewMessage([]byte("theirs")))
	first := taken(t, jobs, "0")
	taken(t, jobs, "1")
	s.kill()

	s = serve(t, dir)
	app := s.amqpSession("app", secret)
	jobs = receiveFrom(t, app, "telemetry", named)
	seen := map[string]bool{}
	for !seen["2"] || !seen["3"] { // what was settled just before the kill may come again
		m, err := jobs.Receive(waiting(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := jobs.AcceptMessage(waiting(t), m); err != nil {
			t.Fatal(err)
		}
		if seen[string(m.GetData())] = true; seen["theirs"] {
			t.Fatal("another tenant's message came")
		}
	}
	from := func(v string) *amqp.ReceiverOptions {
		return &amqp.ReceiverOptions{Filters: []amqp.LinkFilter{amqp.NewLinkFilter("tributary:from", 0, v)}}
	}
	after := receiveFrom(t, app, "dev/telemetry/room", from(first.Annotations["x-opt-position"].(string)))
	for _, p := range []string{"1", "2", "3"} {
		taken(t, after, p)
	}
	taken(t, receiveFrom(t, s.amqpSession("app@other", other), "telemetry", from("first")), "theirs")

	// A command, its id and its answer.
	back := receiveFrom(t, app, "", &amqp.ReceiverOptions{DynamicAddress: true})
	name, at := "heat", back.Address()
	sendTo(t, app, "dev/commands", &amqp.Message{Properties: &amqp.MessageProperties{Subject: &name, ReplyTo: &at, CorrelationID: "c"}, Data: [][]byte{[]byte("on")}})
	id := taken(t, back, "").ApplicationProperties["command"]
	device = s.amqpSession("dev", dev)
	command := taken(t, receiveFrom(t, device, "commands", nil), "on")
	if command.Properties.MessageID != id || *command.Properties.Subject != "heat" {
		t.Errorf("the device got %+v, the application was told %v", command.Properties, id)
	}
	sendTo(t, device, *command.Properties.ReplyTo, &amqp.Message{Properties: &amqp.MessageProperties{CorrelationID: id}, Data: [][]byte{[]byte("warm")}})
	if end := taken(t, back, "warm"); end.ApplicationProperties["state"] != "SUCCEEDED" || end.Properties.CorrelationID != "c" {
		t.Errorf("told %v", end.ApplicationProperties)
	}
	if n := s.metric("tributary_amqp_telemetry_out_total"); n < 5 {
		t.Errorf("%v messages to applications were counted", n)
	}
	s.stop()
}

var peerApplications = []peerDevice{
	{protocol: "amqp", script: "application_proton.py", command: python("proton")},
	{protocol: "amqp", script: "application_rhea.js", command: node("rhea")},
}

// TestPeerApplications has applications on clients somebody else wrote read what a
// device said, on a shared subscription, command it, and hear its answer.
func TestPeerApplications(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"open", "credentials"} {
		t.Run(mode, func(t *testing.T) {
			var flags []string
			if mode == "open" {
				flags = []string{"--open"}
			}
			s := serve(t, t.TempDir(), flags...)
			for _, p := range peerApplications {
				t.Run(p.script, func(t *testing.T) {
					checkApplication(t, s, p, strings.NewReplacer(".", "-", "_", "-").Replace(p.script), mode == "open")
				})
			}
			s.stop()
		})
	}
}

func checkApplication(t *testing.T, s *server, p peerDevice, name string, open bool) {
	var credentials []string
	var secret string
	if !open {
		credentials = []string{"app-of-" + name, s.addApplication("app-of-" + name)}
		secret = s.addDevice(name)
	}
	run := p.start(t, s, name, credentials...)
	device := s.amqpSession(name, secret)
	sendTo(t, device, name+"/telemetry/room", amqp.NewMessage([]byte("16.5")))
	run.expect("read " + name + " 16.5")
	run.expect("told c1 QUEUED 202 ")
	command := taken(t, receiveFrom(t, device, name+"/commands", nil), "on")
	sendTo(t, device, *command.Properties.ReplyTo, &amqp.Message{
		Properties:            &amqp.MessageProperties{CorrelationID: command.Properties.MessageID},
		ApplicationProperties: map[string]any{"status": int32(201)}, Data: [][]byte{[]byte("warm")},
	})
	run.expect("told c1 SUCCEEDED 201 warm")
	run.succeeded()
}

// TestOpenReadsTelemetry: in open mode everybody may, as tutorials do.
func TestOpenReadsTelemetry(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "--open")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := amqp.Dial(ctx, "amqp://"+s.addresses["amqp"], nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := receiveFrom(t, session, "telemetry", nil)
	sendTo(t, session, "dev9/telemetry", amqp.NewMessage([]byte("1")))
	if m := taken(t, r, "1"); m.Annotations["x-opt-device"] != "dev9" || time.Since(m.Annotations["x-opt-received-at"].(time.Time)) > time.Hour {
		t.Errorf("received %v", m.Annotations)
	}
	s.stop()
}
