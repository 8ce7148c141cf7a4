package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/options"
)

// scriptedCommands plays a life to everybody who watches, and keeps what was sent.
type scriptedCommands struct {
	sent   device.Command
	life   []device.CommandEvent // after QUEUED
	linger bool                  // the life goes on after what is scripted
}

const commandID = "01JZX3T6M9Q0V8Y4K2B7N5D1RC"

func (s *scriptedCommands) record(steps int) device.CommandRecord {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.Local)
	r := device.CommandRecord{Command: device.Command{
		ID: commandID, Tenant: "default", Device: "dev1", Name: "heat", Payload: []byte(`{"on":true}`),
		CreatedAt: at, Deadline: at.Add(time.Hour), OneWay: s.sent.OneWay,
	}}
	r.Events = append([]device.CommandEvent{{State: device.StateQueued}}, s.life[:steps]...)
	for i := range r.Events {
		r.Events[i].Command, r.Events[i].At = commandID, at
	}
	return r
}

func (s *scriptedCommands) Send(_ context.Context, c device.Command) (device.CommandRecord, error) {
	s.sent = c
	return s.record(0), nil
}

func (s *scriptedCommands) Get(_ context.Context, _ device.ID, id string) (device.CommandRecord, error) {
	if id != commandID {
		return device.CommandRecord{}, device.Errorf(device.NotFound, "there is no command %s", id)
	}
	return s.record(len(s.life)), nil
}

func (s *scriptedCommands) Cancel(ctx context.Context, id device.ID, cmd string) (device.CommandRecord, error) {
	r, err := s.Get(ctx, id, cmd)
	if err == nil && len(s.life) > 0 {
		err = device.Errorf(device.Precondition, "the command is %s: only a queued one can be cancelled", r.Last().State)
	}
	if err == nil {
		s.life = []device.CommandEvent{{State: device.StateCancelled}}
		r = s.record(1)
	}
	return r, err
}

func (s *scriptedCommands) Watch(ctx context.Context, id device.ID, cmd string, fn func(device.CommandRecord) error) error {
	if _, err := s.Get(ctx, id, cmd); err != nil {
		return err
	}
	for n := range len(s.life) + 1 {
		if err := fn(s.record(n)); err != nil {
			return err
		}
	}
	if s.linger {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

var answered = []device.CommandEvent{
	{State: device.StateSent, Attempt: 1, Protocol: device.AMQP},
	{State: device.StateQueued, Attempt: 1, Reason: "released"},
	{State: device.StateSent, Attempt: 2, Protocol: device.MQTT},
	{State: device.StateDelivered, Attempt: 2, Protocol: device.MQTT},
	{State: device.StateSucceeded, Attempt: 2, Status: 200, Response: []byte(`{"ok":1}`)},
}

func TestSendCommand(t *testing.T) {
	s := serveAPI(t)
	if out := s.ok(t, "send", "dev1", "heat", `{"on":true}`, "--ttl", "1h", "--key", "k",
		"--max-attempts", "3", "--retry-pause", "2s", "--order", "until-response"); out != commandID+"  QUEUED\n" {
		t.Errorf("printed %q", out)
	}
	c := s.commands.sent
	if c.Device != "dev1" || c.Tenant != "default" || c.Name != "heat" || string(c.Payload) != `{"on":true}` ||
		c.ContentType != "application/json" || c.Key != "k" || c.OneWay ||
		c.MaxAttempts != 3 || c.RetryPause != 2*time.Second || c.Order != device.UntilResponse || time.Until(c.Deadline) > time.Hour {
		t.Errorf("sent %+v", c)
	}
	s.commands.life = answered
	sameTable(t, s.ok(t, "send", "dev1@default", "heat", "--wait", "30s"), commandID+"  heat → dev1\n"+
		"<time>  QUEUED\n"+
		"<time>  SENT       over amqp\n"+
		"<time>  QUEUED     released\n"+
		"<time>  SENT       over mqtt, attempt 2\n"+
		"<time>  DELIVERED  over mqtt, attempt 2\n"+
		"<time>  SUCCEEDED  attempt 2, status 200, {\"ok\":1}\n")
	last := objects(t, s.ok(t, "send", "dev1", "heat", "--wait", "30s", "-o", "json"))
	if len(last) != 1 || last[0]["state"] != "COMMAND_STATE_SUCCEEDED" || len(last[0]["events"].([]any)) != 6 {
		t.Errorf("printed %v", last)
	}
}

func TestSendSaysHowItEnded(t *testing.T) {
	delivered := answered[:4]
	for _, c := range []struct {
		name string
		life []device.CommandEvent
		args []string
		code int
		text string
	}{
		{"answered", answered, nil, 0, ""},
		{"one-way delivered", delivered, []string{"--one-way"}, 0, ""},
		{"expired", []device.CommandEvent{{State: device.StateExpired, Reason: "deadline"}}, nil, exitNotDone, "EXPIRED"},
		{"failed", append(delivered[:4:4], device.CommandEvent{State: device.StateFailed, Status: 500}), nil, exitNotDone, "FAILED"},
		{"one-way rejected", []device.CommandEvent{{State: device.StateRejected}}, []string{"--one-way"}, exitNotDone, "REJECTED"},
		{"still delivered", delivered, []string{"--wait", "200ms"}, exitWaiting, "commands watch " + commandID},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serveAPI(t)
			s.commands.life, s.commands.linger = c.life, true
			_, errs, code := s.line(t, append([]string{"send", "dev1", "heat", "--wait", "30s"}, c.args...)...)
			if code != c.code || !strings.Contains(errs, c.text) {
				t.Errorf("%q, exit code %d; want %d", errs, code, c.code)
			}
		})
	}
}

// TestCallCommand: the answer alone is on standard output, its status in the exit code.
func TestCallCommand(t *testing.T) {
	for _, c := range []struct {
		name string
		life []device.CommandEvent
		args []string
		out  string
		errs string
		code int
	}{
		{"answered", answered, nil, "{\"ok\":1}\n", "", 0},
		{"as JSON", answered, []string{"-o", "json"}, `"status":200`, "", 0},
		{"a bad answer", []device.CommandEvent{{State: device.StateFailed, Status: 503, Response: []byte("later")}}, nil, "later\n", "status 503", exitNotDone},
		{"rejected", []device.CommandEvent{{State: device.StateRejected, Reason: "no such thing"}}, nil, "", "no such thing", 1},
		{"no answer", answered[:4], []string{"--timeout", "200ms"}, "", "deadline has passed", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serveAPI(t)
			s.commands.life, s.commands.linger = c.life, true
			out, errs, code := s.line(t, append([]string{"call", "dev1", "read"}, c.args...)...)
			if !strings.Contains(strings.ReplaceAll(out, ": ", ":"), c.out) || out != "" && c.out == "" || !strings.Contains(errs, c.errs) || code != c.code {
				t.Errorf("printed %q and %q, exit code %d", out, errs, code)
			}
		})
	}
}

func TestReadPayload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "payload")
	if err := os.WriteFile(file, []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for arg, want := range map[string]string{"": "", "text": "text", "-": "from stdin", "@" + file: "from a file", "-x": "-x"} {
		if got, err := readPayload(arg, strings.NewReader("from stdin")); err != nil || string(got) != want {
			t.Errorf("%q is %q, %v", arg, got, err)
		}
	}
	if _, err := readPayload("-", strings.NewReader(strings.Repeat("x", maxPayload+1))); err == nil {
		t.Error("an endless payload was read")
	}
	if _, err := readPayload("@"+file+"x", nil); err == nil {
		t.Error("a missing file was read")
	}
	for body, want := range map[string]string{"": "", `{"a":1}`: "application/json", "on": "text/plain", "\xff": "application/octet-stream"} {
		if got := contentType("", []byte(body)); got != want {
			t.Errorf("%q is sent as %q, want %q", body, got, want)
		}
	}
}

func TestCommandsCommands(t *testing.T) {
	s := serveAPI(t)
	s.commands.life = answered[:3]
	s.store.records = []device.CommandRecord{s.commands.record(3), s.commands.record(0)}
	sameTable(t, s.ok(t, "commands", "list", "--state", "queued,sent", "--limit", "2"),
		"CREATED                  ID                          DEVICE  COMMAND  STATE   LAST\n"+
			when+"  "+commandID+"  dev1    heat     SENT    over mqtt, attempt 2\n"+
			when+"  "+commandID+"  dev1    heat     QUEUED  -\n")
	if all := objects(t, s.ok(t, "commands", "list", "--device", "dev1", "-o", "json")); len(all) != 2 || all[0]["id"] != commandID {
		t.Errorf("listed %v", all)
	}
	shown := s.ok(t, "commands", "show", commandID)
	if !regexp.MustCompile(`(?s)^id +` + commandID + `\ndevice +dev1\n.*payload +\{"on":true\}\n.*order +BURST\nstate +SENT\n.*attempt 2\n$`).MatchString(shown) {
		t.Errorf("shown %q", shown)
	}
	if _, errs, code := s.line(t, "commands", "cancel", commandID); code != 1 || !strings.Contains(errs, "only a queued one") {
		t.Errorf("cancel after SENT: %q, %d", errs, code)
	}
	s.commands.life = answered
	if all := objects(t, s.ok(t, "commands", "watch", commandID, "-o", "json")); len(all) != 6 || all[5]["state"] != "COMMAND_STATE_SUCCEEDED" {
		t.Errorf("watched %v", all)
	}
	s.commands.life = nil
	if out := s.ok(t, "commands", "cancel", commandID); out != commandID+"  CANCELLED\n" {
		t.Errorf("cancel printed %q", out)
	}
	if _, errs, code := s.line(t, "commands", "watch", commandID); code != exitNotDone || !strings.Contains(errs, "CANCELLED") {
		t.Errorf("watch of a cancelled command: %q, %d", errs, code)
	}
	for _, args := range [][]string{
		{"commands", "show", "nosuch"}, {"commands", "watch", "nosuch"}, {"commands", "cancel", "no/such"},
		{"commands", "list", "--state", "lost"}, {"commands", "list", "--limit", "0"},
	} {
		if _, errs, code := s.line(t, args...); code != 1 || errs == "" || strings.Contains(errs, "rpc error") {
			t.Errorf("%v: %q, %d", args, errs, code)
		}
	}
}

// TestHelpIsThere holds every command to a help text with an example.
func TestHelpIsThere(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"device add", "device label", "device list", "device show", "device disable", "device enable", "device rm", "device rotate",
		"device import", "device credential add", "device credential rm", "token create", "token list", "token rm",
		"deadletter list", "deadletter show", "deadletter replay", "deadletter purge", "status", "config check", "config example",
		"send", "call", "batch create", "batch watch", "batch results", "batch list", "batch pause", "batch resume", "batch cancel", "commands list", "commands show", "commands watch", "commands cancel", "query", "latest", "tail", "presence",
	} {
		var help bytes.Buffer
		parser, err := newParser(&cli{}, options.EnvironmentOf(nil))
		if err != nil {
			t.Fatal(err)
		}
		parser.Stdout, parser.Exit = &help, func(int) {}
		_, _ = parser.Parse(append(strings.Fields(args), "--help")) // goes on after the help, since it was not let exit
		if out := help.String(); !strings.Contains(out, "Example") || !strings.Contains(out, "tributary "+args) {
			t.Errorf("%s --help shows no example:\n%s", args, out)
		}
	}
}
