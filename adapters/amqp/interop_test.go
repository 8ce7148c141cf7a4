package amqp_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	client "github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/peer"
)

// run runs a device program to its end and answers what it printed.
func run(t *testing.T, env []string, program string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
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
func checkDevice(t *testing.T, gate *adaptertest.Gate, name, out string) {
	t.Helper()
	until(t, gate, "all messages are stored", func() bool { return len(gate.Stored()) == 15 })
	for _, m := range gate.Stored() {
		if m.Device != name {
			t.Errorf("stored for %s", m.Device)
		}
	}
	first, large := gate.Stored()[0], gate.Stored()[2]
	if first.Channel != "room" || first.Key == "" || len(first.Measurements) != 1 || first.Measurements[0].Value != device.Double(21.5) {
		t.Errorf("the first message is %+v", first)
	}
	if len(large.Payload) != 1<<20 {
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

// small has the peers' messages come over many frames, and run out of credit; and a
// peer that is silent for longer than IdleTimeout, as the devices are, has to send
// heartbeats.
var small = amqp.Config{MaxFrameSize: 4 << 10, Credit: 3, IdleTimeout: 4 * time.Second}

const silence = "5" // seconds

func TestQpidProton(t *testing.T) {
	t.Parallel()
	python := peer.Python(t, "proton")
	interop(t, "py", os.Environ(), python, "testdata/device.py")
}

func TestRhea(t *testing.T) {
	t.Parallel()
	node, env := peer.Node(t, "rhea")
	interop(t, "js", env, node, "testdata/device.js")
}

// TestGoAMQPBearsSilence: neither side cuts the other while each sends heartbeats.
func TestGoAMQPBearsSilence(t *testing.T) {
	t.Parallel()
	gate := &adaptertest.Gate{}
	_, session := dial(t, serve(t, small, gate), &client.ConnOptions{IdleTimeout: small.IdleTimeout})
	link := sender(t, session, "d/telemetry", nil)
	time.Sleep(small.IdleTimeout + time.Second) // the silence
	if err := link.Send(soon(t), client.NewMessage([]byte("1")), nil); err != nil {
		t.Error(err)
	}
}

// interop has the script be a device, with and without a credential, and with a
// wrong one.
func interop(t *testing.T, name string, env []string, program, script string) {
	for way, cred := range ways(name) {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			gate := &adaptertest.Gate{Secrets: map[device.ID]string{idOf(name): "sesame"}, RefuseAnonymous: cred[0] != ""}
			s := serve(t, small, gate)
			gate.Send(command("c1", name, "heat", `{"on":true}`))
			out, err := run(t, env, program, script, addr(s), cred[0], cred[1], silence)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			checkDevice(t, gate, name, out)
		})
	}
	refuses(t, env, program, script)
}

// refuses wants a wrong secret to end the program with its own word for it.
func refuses(t *testing.T, env []string, program, script string) {
	t.Run("wrong secret", func(t *testing.T) {
		s := serve(t, amqp.Config{}, &adaptertest.Gate{})
		out, err := run(t, env, program, script, addr(s), "eve", "wrong", silence)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(out, "refused") {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
