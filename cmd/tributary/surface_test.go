package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/alecthomas/kong"
	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// TestListenersAreWhereTheyAreExpected: what people have written into firewalls
// and device configurations does not move.
func TestListenersAreWhereTheyAreExpected(t *testing.T) {
	var c struct{ listeners }
	parser, err := kong.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(nil); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string][2]string{
		"mqtt": {c.MQTT, "127.0.0.1:1883"}, "mqtts": {c.MQTTS, ":8883"}, "amqp": {c.AMQP, "127.0.0.1:5672"}, "amqps": {c.AMQPS, ":5671"},
		"http": {c.HTTP, "127.0.0.1:8080"}, "https": {c.HTTPS, ":8443"}, "grpc": {c.GRPC, "127.0.0.1:50051"},
		"admin": {c.Admin, "127.0.0.1:9090"}, "nats-listen": {c.NATSListen, "127.0.0.1:4222"},
	} {
		if at[0] != at[1] {
			t.Errorf("--%s is %s unless told otherwise, want %s", name, at[0], at[1])
		}
	}
}

// TestDataDirectory: what is in it while the server runs and afterwards, and who
// may read it; listeners that are off are not in addresses.json.
func TestDataDirectory(t *testing.T) {
	t.Parallel()
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--open", "--amqps", "off", "--https", "off", "--mqtt", "off")
	raw, err := os.ReadFile(filepath.Join(s.data, addressesFile))
	if err != nil {
		t.Fatal(err)
	}
	var told map[string]string
	if err := json.Unmarshal(raw, &told); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mqtts", "amqp", "http", "grpc", "admin", "nats"} {
		conn, err := net.Dial("tcp", told[name])
		if err != nil {
			t.Errorf("%s is said to be at %q: %v", name, told[name], err)
			continue
		}
		conn.Close()
		delete(told, name)
	}
	if len(told) != 1 || told["durability"] != "strict" {
		t.Errorf("besides what listens addresses.json holds %v, want the durability", told)
	}
	for name, mode := range map[string]os.FileMode{
		tokenFile: 0o600, pepperFile: 0o600, "tls": os.ModeDir | 0o700, "tls/ca.key": 0o600, "tls/server.key": 0o600, "tls/ca.crt": 0o644,
		".": os.ModeDir | 0o700, "nats": os.ModeDir | 0o755, "store": os.ModeDir | 0o755,
	} {
		info, err := os.Stat(filepath.Join(s.data, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := info.Mode(); got&^mode&(os.ModePerm|os.ModeDir) != 0 {
			t.Errorf("%s has mode %s, more than %s", name, got, mode)
		}
	}
	token, err := os.ReadFile(filepath.Join(s.data, tokenFile))
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	if _, err := os.Stat(filepath.Join(s.data, addressesFile)); err == nil {
		t.Error("addresses.json outlives the server")
	}
	s = serve(t, s.data, "--open")
	if again, err := os.ReadFile(filepath.Join(s.data, tokenFile)); err != nil || !bytes.Equal(again, token) {
		t.Errorf("the operator's token is another after a restart: %v", err)
	}
	s.stop()
}

// TestASecondSignalStopsAtOnce: a drain that waits for somebody at one door has
// closed all of them, and is cut short.
func TestASecondSignalStopsAtOnce(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "--open", "--drain-timeout", "10m")
	held, err := net.Dial("tcp", s.addresses["http"])
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	// A request whose body never comes is what the drain waits for.
	if _, err := held.Write([]byte("POST /v1/devices/d/telemetry HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the request", func() bool { return s.metric("tributary_http_sockets") > 0 })
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for _, door := range []string{"http", "mqtt", "amqp", "grpc", "admin"} {
		eventually(t, "the drain of "+door, func() bool {
			conn, err := net.Dial("tcp", s.addresses[door])
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
	}
	s.end(syscall.SIGTERM)
	if s.cmd.ProcessState.ExitCode() == 0 {
		t.Errorf("the drain ended by itself:\n%s", s.log)
	}
}

// TestOpenTakesTheNameFromTheAddress: without credentials the address says whose
// a message is, and the client's own name only where it names nobody.
func TestOpenTakesTheNameFromTheAddress(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "--open")
	conn := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.addresses["mqtt"]).SetClientID("client"))
	if token := conn.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	defer conn.Disconnect(0)
	for _, topic := range []string{"named/telemetry", "telemetry"} {
		if token := conn.Publish(topic, 1, false, `{"n":1}`); !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	for _, name := range []string{"named", "client"} {
		if rows := s.query(name); len(rows) != 1 {
			t.Errorf("%d messages of %s are stored, want 1", len(rows), name)
		}
	}
	if out := s.client("query", "--device", "named", "-o", "json"); !strings.Contains(out, `"default"`) {
		t.Errorf("the tenant is not default: %s", out)
	}
	s.stop()
}
