package bridge

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/device"
)

func writeSecret(t *testing.T, path, text string) string {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "password")
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPasswordFromItsFile: a wrong one keeps the link down, and says so; a new one
// in the file is used at the next try.
func TestPasswordFromItsFile(t *testing.T) {
	t.Parallel()
	queues := &adaptertest.Gate{RefuseAnonymous: true, Secrets: map[device.ID]string{deviceID("queue"): "open sesame"}}
	b := startBroker(t, queues, "127.0.0.1:0")
	b.queue("queue", "m1", "", payload(1))
	file := writeSecret(t, "", "wrong\n")
	gate := &adaptertest.Gate{}
	bridge := bridgeTo(t, b.addr, gate, func(_ *Config, l *Link) {
		l.URL, l.PasswordFile = "amqp://queue@"+b.addr, file
	})
	s := untilStatus(t, bridge, "the password is refused", func(s Status) bool { return s.State == Down })
	if !strings.Contains(s.Err, "does not let us in") || strings.Contains(s.Err, "wrong") {
		t.Errorf("down because of %q", s.Err)
	}
	if err := bridge.Down(); err == nil || !strings.Contains(err.Error(), "plant is down: ") {
		t.Errorf("readiness says %v", err)
	}
	writeSecret(t, file, "open sesame\nand a comment")
	until(t, gate, "the message came", func() bool { return len(gate.Stored()) == 1 })
	untilStatus(t, bridge, "the link is up", func(s Status) bool { return s.State == Up })
	if err := bridge.Down(); err != nil {
		t.Errorf("readiness says %v", err)
	}
}

// TestTheHouseEndsALink: a gateway that is disabled by the link's name stays out.
func TestTheHouseEndsALink(t *testing.T) {
	t.Parallel()
	b := startBroker(t, &adaptertest.Gate{}, "127.0.0.1:0")
	gate := &adaptertest.Gate{}
	bridge := bridgeTo(t, b.addr, gate, func(*Config, *Link) {})
	untilStatus(t, bridge, "the link is up", func(s Status) bool { return s.State == Up })
	first := gate.Entered()[0]
	if first.Device != deviceID("plant") || first.Principal.Kind != device.KindGateway || first.Protocol != device.AMQP {
		t.Errorf("entered as %+v", first)
	}
	first.End(device.LeftDisabled)
	until(t, gate, "the session is left", func() bool { return gate.Entered()[0].Left == device.LeftDisabled })
	until(t, gate, "it is entered again", func() bool { return len(gate.Entered()) > 1 })
}

func TestOpenReadsTheFiles(t *testing.T) {
	t.Parallel()
	empty := writeSecret(t, "", "\n")
	for name, change := range map[string]func(*Link){
		"no such password file": func(l *Link) { l.URL, l.PasswordFile = "amqp://u@h", "/no/such/file" },
		"an empty one":          func(l *Link) { l.URL, l.PasswordFile = "amqp://u@h", empty },
		"no such authority":     func(l *Link) { l.URL, l.CAFile = "amqps://h", "/no/such/file" },
		"no authority in it":    func(l *Link) { l.URL, l.CAFile = "amqps://h", empty },
		"no such certificate":   func(l *Link) { l.URL, l.CertFile, l.KeyFile = "amqps://h", empty, empty },
	} {
		l := Link{Name: "plant", URL: "amqp://h", Receive: []string{"a"}, Device: "x"}
		change(&l)
		if _, err := Open(Config{Links: []Link{l}}, &adaptertest.Gate{}); err == nil || !strings.HasPrefix(err.Error(), "bridge plant: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
