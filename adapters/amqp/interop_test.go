package amqp_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/peer"
)

// run runs a device program to its end and answers what it printed.
func run(t *testing.T, env []string, program string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// credentials of both ways in, for the device of the name.
func ways(name string) map[string][2]string {
	return map[string][2]string{"anonymous": {"", ""}, "PLAIN": {name, "sesame"}}
}

// checkDevice is what both programs must have brought about.
func checkDevice(t *testing.T, gate *adaptertest.Gate, name, out string, messages int) {
	t.Helper()
	until(t, gate, "all messages are stored", func() bool { return len(gate.Stored()) == messages })
	for _, m := range gate.Stored() {
		if m.Device != name {
			t.Errorf("stored for %s", m.Device)
		}
	}
	first, large := gate.Stored()[0], gate.Stored()[2]
	if first.Channel != "room" || first.Key == "" || len(first.Measurements) != 1 || first.Measurements[0].Value != device.Double(21.5) {
		t.Errorf("the first message is %+v", first)
	}
	if len(large.Payload) != 1000000 {
		t.Errorf("the large message has %d bytes", len(large.Payload))
	}
	if want := "command c1 heat {\"on\":true} " + name + "/responses"; !strings.Contains(out, want) {
		t.Errorf("the device printed %q, want %q", out, want)
	}
	until(t, gate, "the command is settled and answered", func() bool { return len(gate.SettledAll()) == 1 && len(gate.Responses()) == 1 })
	if s, r := gate.SettledAll()[0], gate.Responses()[0]; s.Outcome.Kind != device.Accepted || r.Command != "c1" || r.Status != 201 || string(r.Payload) != "done" {
		t.Errorf("settled %+v, answered %+v", s, r)
	}
	if n := len(gate.Refusals()); n == 0 {
		t.Error("the refused message left no trail")
	}
}

func TestQpidProton(t *testing.T) {
	python := peer.Python(t, "proton")
	for way, cred := range ways("py") {
		t.Run(way, func(t *testing.T) {
			gate := &adaptertest.Gate{Secrets: map[device.ID]string{idOf("py"): "sesame"}}
			s := serve(t, amqp.Config{MaxFrameSize: 16 << 10}, gate)
			gate.Send(command("c1", "py", "heat", `{"on":true}`))
			out, err := run(t, os.Environ(), python, "testdata/device.py", addr(s), cred[0], cred[1])
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			checkDevice(t, gate, "py", out, 5)
		})
	}
	refuses(t, os.Environ(), python, "testdata/device.py")
}

func TestRhea(t *testing.T) {
	node, env := peer.Node(t, "rhea")
	for way, cred := range ways("js") {
		t.Run(way, func(t *testing.T) {
			gate := &adaptertest.Gate{Secrets: map[device.ID]string{idOf("js"): "sesame"}}
			s := serve(t, amqp.Config{MaxFrameSize: 16 << 10}, gate)
			gate.Send(command("c1", "js", "heat", `{"on":true}`))
			args := []string{"testdata/device.js", addr(s)}
			if cred[0] != "" {
				args = append(args, cred[:]...)
			}
			out, err := run(t, env, node, args...)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			checkDevice(t, gate, "js", out, 3)
		})
	}
	refuses(t, env, node, "testdata/device.js")
}

// refuses wants a wrong secret to end the program with its own word for it.
func refuses(t *testing.T, env []string, program, script string) {
	t.Run("wrong secret", func(t *testing.T) {
		s := serve(t, amqp.Config{}, &adaptertest.Gate{})
		out, err := run(t, env, program, script, addr(s), "eve", "wrong")
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(out, "refused") {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
