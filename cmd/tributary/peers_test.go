package main

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/internal/peer"
)

// peerDevice is a device script under testdata/peers.
type peerDevice struct {
	protocol string // the door in addresses.json
	script   string
	command  func(t *testing.T) *exec.Cmd // the interpreter, without arguments
	web      bool                         // it can speak over WebSocket

	encryption peerEncryption // zero: it speaks plain
}

// door is the one it goes to.
func (p peerDevice) door() string {
	door := p.protocol
	if p.encryption.web {
		door = "http"
	}
	if p.encryption.ca != "" {
		door += "s"
	}
	return door
}

func python(module string) func(*testing.T) *exec.Cmd {
	return func(t *testing.T) *exec.Cmd { return exec.Command(peer.Python(t, module)) }
}

func node(pkg string) func(*testing.T) *exec.Cmd {
	return func(t *testing.T) *exec.Cmd {
		path, env := peer.Node(t, pkg)
		cmd := exec.Command(path)
		cmd.Env = env
		return cmd
	}
}

func shell(program string) func(*testing.T) *exec.Cmd {
	return func(t *testing.T) *exec.Cmd {
		peer.Command(t, program)
		return exec.Command(peer.Command(t, "bash"))
	}
}

var peerDevices = []peerDevice{
	{protocol: "mqtt", script: "device_paho.py", command: python("paho.mqtt.client"), web: true},
	{protocol: "mqtt", script: "device_mqttjs.js", command: node("mqtt"), web: true},
	{protocol: "amqp", script: "device_proton.py", command: python("proton")},
	{protocol: "amqp", script: "device_rhea.js", command: node("rhea"), web: true},
	{protocol: "http", script: "device_curl.sh", command: shell("curl")},
	{protocol: "mqtt", script: "device_mosquitto.sh", command: shell("mosquitto_sub")},
}

// running is a device script at work.
type running struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
}

// start runs the script as the device; more is "USER SECRET" or nothing.
func (p peerDevice) start(t *testing.T, s *server, device string, more ...string) *running {
	t.Helper()
	host, port, err := net.SplitHostPort(s.addresses[p.door()])
	if err != nil {
		t.Fatal(err)
	}
	if p.encryption.ca != "" {
		host = "localhost" // some check names and not addresses
	}
	r := &running{t: t, cmd: p.command(t), lines: make(chan string, 16)}
	r.cmd.Args = append(r.cmd.Args, filepath.Join("testdata", "peers", p.script), host, port, device)
	r.cmd.Args = append(r.cmd.Args, more...)
	if r.cmd.Env == nil {
		r.cmd.Env = os.Environ()
	}
	r.cmd.Env = append(r.cmd.Env, p.encryption.env()...)
	var stderr strings.Builder
	r.cmd.Stderr = &stderr
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.lines)
		for scan := bufio.NewScanner(stdout); scan.Scan(); {
			r.lines <- scan.Text()
		}
	}()
	t.Cleanup(func() {
		r.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("%s said on standard error:\n%s", p.script, &stderr)
		}
	})
	return r
}

// expect waits for the script's next line.
func (r *running) expect(want string) {
	r.t.Helper()
	select {
	case line, ok := <-r.lines:
		if !ok || line != want {
			r.t.Fatalf("the device said %q, expected %q", line, want)
		}
	case <-time.After(patience):
		r.t.Fatalf("the device did not say %q", want)
	}
}

// succeeded waits for the script's clean end.
func (r *running) succeeded() {
	r.t.Helper()
	if err := r.cmd.Wait(); err != nil {
		r.t.Fatalf("the device ended: %v", err)
	}
}

// TestPeerDevices sends telemetry from, and a command to, clients somebody else
// wrote, without and with credentials.
func TestPeerDevices(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"open", "credentials"} {
		t.Run(mode, func(t *testing.T) {
			var flags []string
			if mode == "open" {
				flags = []string{"--open"}
			}
			s := serve(t, t.TempDir(), flags...)
			for _, p := range peerDevices {
				t.Run(p.script, func(t *testing.T) {
					device := strings.TrimSuffix(p.script, filepath.Ext(p.script))
					var credentials []string
					if mode != "open" {
						credentials = []string{device, s.addDevice(device)}
					}
					checkPeer(t, s, p, device, credentials)
				})
			}
			s.stop()
		})
	}
}

func checkPeer(t *testing.T, s *server, p peerDevice, device string, credentials []string) {
	run := p.start(t, s, device, credentials...)
	run.expect("sent")
	rows := s.query(device)
	if len(rows) != 1 {
		t.Fatalf("the store shows %d messages of %s, expected 1", len(rows), device)
	}
	r := rows[0]
	if r.Protocol != p.protocol || r.Channel != "room" || r.ReceivedAt.IsZero() || r.StoredAt.IsZero() ||
		len(r.Measurements) != 1 || r.Measurements[0].Name != "temperature" || r.Measurements[0].DoubleValue != 21.5 {
		t.Errorf("stored message is %+v", r)
	}
	out := s.client("send", device, "heat", `{"on":true}`, "--wait", "30s")
	if !strings.Contains(out, "SUCCEEDED") {
		t.Errorf("send answered %q", out)
	}
	run.expect(`obeyed heat {"on":true}`)
	run.succeeded()
}
