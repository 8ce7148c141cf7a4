package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// bridgeLine is a bridge as `bridge status -o json` prints it.
type bridgeLine struct {
	Name, State, Error, URL, Node            string
	Received, Accepted, Devices, CommandsOut string
}

func (s *server) bridges() ([]bridgeLine, error) {
	out, err := s.tryClient("bridge", "status", "-o", "json")
	var all []bridgeLine
	for line := range strings.Lines(out) {
		var b bridgeLine
		if json.Unmarshal([]byte(line), &b) == nil {
			all = append(all, b)
		}
	}
	return all, err
}

// writeConfig writes a configuration file.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tributary.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestBridgeBetweenTwoServers: one is the broker of the other. What waits there for
// a device is telemetry here, and the commands of a device here are telemetry there.
func TestBridgeBetweenTwoServers(t *testing.T) {
	brokerData := t.TempDir()
	broker := serve(t, brokerData, "--open")
	amqp := broker.addresses["amqp"]
	here := serve(t, t.TempDir(), "--open", "--node", "n1", "--config", writeConfig(t, `
bridges:
  - name: plant
    url: amqp://`+amqp+`
    receive: [queue/commands]
    pattern: '^(?P<device>[^.]+)\.(?P<channel>.+)$'
    for: dev*
    commands: '{device}/telemetry/commands/{name}'
    replies: replies/commands
`))
	broker.client("send", "queue", "dev1.room", `{"temperature":21.5}`, "--one-way")
	eventually(t, "the message is here", func() bool { return len(here.query("dev1")) == 1 })
	if got := here.query("dev1")[0]; got.Channel != "room" || got.Protocol != "amqp" || got.Key == "" || len(got.Measurements) != 1 {
		t.Errorf("it came as %+v", got)
	}
	eventually(t, "the broker knows", func() bool { return strings.Contains(broker.client("commands", "list"), "DELIVERED") })

	here.client("send", "dev1", "heat", `{"on":true}`, "--one-way")
	eventually(t, "the command is there", func() bool { return len(broker.query("dev1")) == 1 })
	if got := broker.query("dev1")[0]; got.Channel != "commands/heat" || string(got.Payload) != `{"on":true}` {
		t.Errorf("it arrived as %+v", got)
	}
	if all, err := here.bridges(); err != nil || len(all) != 1 || all[0].Name != "tenants/default/bridges/plant" || all[0].State != "up" ||
		all[0].Node != "n1" || all[0].URL != "amqp://"+amqp || all[0].Accepted != "1" || all[0].Devices != "1" || all[0].CommandsOut != "1" {
		t.Errorf("status says %+v, %v", all, err)
	}
	if out := here.client("presence"); !strings.Contains(out, "plant") || !strings.Contains(out, "dev1") {
		t.Errorf("present are %s", out)
	}
	if n := here.metric("tributary_bridge_up", `bridge="plant"`); n != 1 {
		t.Errorf("the metric says %v", n)
	}
	if said := here.rest("/v1/tenants/default/bridges"); !strings.Contains(said, `"state":"up"`) {
		t.Errorf("REST says %s", said)
	}

	broker.kill()
	eventually(t, "the bridge is down", func() bool {
		all, err := here.bridges()
		return err != nil && len(all) == 1 && all[0].State != "up" && all[0].Error != ""
	})
	if out, err := here.tryClient("bridge", "status"); err == nil || !strings.Contains(out, "plant") || !strings.Contains(out, "a bridge is not up") {
		t.Errorf("the table says %s, %v", out, err)
	}
	if all := here.readiness(); !strings.HasPrefix(all, "ok\n") || !strings.Contains(all, "bridge     NOT READY plant is down") || here.ready() != http.StatusOK {
		t.Errorf("readiness says\n%s", all)
	}
	broker = serve(t, brokerData, "--open", "--amqp", amqp)
	eventually(t, "the bridge is up", func() bool { _, err := here.bridges(); return err == nil })
	broker.client("send", "queue", "dev1.room", `{"temperature":22}`, "--one-way")
	eventually(t, "the second message is here", func() bool { return len(here.query("dev1")) == 2 })
	here.stop()
}

// TestBridgesOfAConfiguration: mistakes are told where they are, and roles without
// bridge run none.
func TestBridgesOfAConfiguration(t *testing.T) {
	sound := "bridges:\n  - name: plant\n    url: amqp://127.0.0.1:1\n    receive: /queue/a\n    device: dev1\n"
	if out, err := runProgram(t, "config", "check", writeConfig(t, sound)); err != nil || !strings.Contains(out, "bridges[0].url") {
		t.Errorf("a sound one: %v\n%s", err, out)
	}
	for _, c := range []struct{ from, to, want string }{
		{"device: dev1", "device: '{propty:x}'", ":5:13: bridges[0].device: there is no {propty:x}"},
		{"amqp://127", "amqp://u:hush@127", ":3:10: bridges[0].url: holds a password"},
		{"amqp://127", "amqp://u@127", ":2:5: bridges[0].password_file: is missing"},
		{"device: dev1", "credit: many", ":5:13: bridges[0].credit: "},
		{"device: dev1", "pasword_file: x", `:5:5: unknown key "pasword_file" below "bridges[0]"; did you mean "password_file"`},
	} {
		out, err := runProgram(t, "config", "check", writeConfig(t, strings.Replace(sound, c.from, c.to, 1)))
		if err == nil || !strings.Contains(out, c.want) || strings.Contains(out, "hush") {
			t.Errorf("%s: %v, want %s\n%s", c.to, err, c.want, out)
		}
	}
	s := serve(t, t.TempDir(), "--open", "--config", writeConfig(t, sound), "--roles", "amqp,persist,command,api")
	if all, err := s.bridges(); err != nil || len(all) != 0 {
		t.Errorf("a node without the role runs %v, %v", all, err)
	}
	s.stop()
	missing := strings.Replace(sound, "url: amqp://127.0.0.1:1", "url: amqp://u@127.0.0.1:1\n    password_file: /no/such/file", 1)
	if out, err := runProgram(t, "serve", "--data", t.TempDir(), "--config", writeConfig(t, missing)); err == nil || !strings.Contains(out, "bridge plant: open /no/such/file") {
		t.Errorf("without its password: %v\n%s", err, out)
	}
}

// runProgram runs the program to its end and answers all it said.
func runProgram(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := program(t.Context(), args...).CombinedOutput()
	return string(out), err
}

// TestBridgeExamples: what docs/bridge.md shows to be copied is a sound file.
func TestBridgeExamples(t *testing.T) {
	text, err := os.ReadFile("../../docs/bridge.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(examples) < 3 {
		t.Fatalf("only %d examples", len(examples))
	}
	for _, example := range examples {
		said, err := settleServe(nil, "--config", writeConfig(t, example[1]))
		if err == nil {
			err = said.settled.Err()
		}
		if err != nil || len(said.Bridges) != 1 {
			t.Errorf("%v in\n%s", err, example[1])
		}
	}
}
