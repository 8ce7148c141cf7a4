package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// TestCommandWaitsAndMovesToAnotherProtocol sends a command while the device is
// away; the device was last seen on MQTT and comes back on another protocol.
func TestCommandWaitsAndMovesToAnotherProtocol(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "--open")
	for _, p := range peerDevices {
		if p.protocol == "mqtt" {
			continue
		}
		t.Run(p.script, func(t *testing.T) {
			device := "mover-" + strings.TrimSuffix(p.script, filepath.Ext(p.script))
			first := peerDevices[0].start(t, s, device)
			first.expect("sent")
			s.client("send", device, "heat", `{"on":true}`, "--wait", "30s")
			first.expect(`obeyed heat {"on":true}`)
			first.succeeded()

			waiting := parseLines[struct{ ID, State string }](t, s.client("send", device, "cool", `{"by":2}`, "-o", "json"))
			if waiting[0].State != "COMMAND_STATE_QUEUED" {
				t.Fatalf("a command for a device that is away is %s", waiting[0].State)
			}
			second := p.start(t, s, device)
			second.expect("sent")
			second.expect(`obeyed cool {"by":2}`)
			second.succeeded()
			s.client("commands", "watch", waiting[0].ID)
			show := s.client("commands", "show", waiting[0].ID, "-o", "json")
			if !strings.Contains(show, `"state":"COMMAND_STATE_SUCCEEDED"`) && !strings.Contains(show, `"state": "COMMAND_STATE_SUCCEEDED"`) {
				t.Errorf("commands show: %s", show)
			}
		})
	}
	s.stop()
}

// TestStrangersAreRefused holds every door to refusing a wrong secret, an
// unknown device and a device speaking for another, in its protocol's words.
func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	secret := s.addDevice("mine")
	s.addDevice("other")
	post := func(user, secret, device string) int {
		request, err := http.NewRequest(http.MethodPost, "http://"+s.addresses["http"]+"/v1/devices/"+device+"/telemetry", strings.NewReader("1"))
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			request.SetBasicAuth(user, secret)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	connectMQTT := func(user, secret string) error {
		client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.addresses["mqtt"]).SetClientID("x").
			SetUsername(user).SetPassword(secret).SetAutoReconnect(false).SetProtocolVersion(4))
		token := client.Connect()
		token.WaitTimeout(patience)
		defer client.Disconnect(0)
		return token.Error()
	}
	connectAMQP := func(user, secret, address string) error {
		conn, err := amqp.Dial(t.Context(), "amqp://"+s.addresses["amqp"], &amqp.ConnOptions{SASLType: amqp.SASLTypePlain(user, secret)})
		if err != nil {
			return err
		}
		defer conn.Close()
		session, err := conn.NewSession(t.Context(), nil)
		if err != nil {
			return err
		}
		_, err = session.NewSender(t.Context(), address, nil)
		return err
	}
	for _, c := range []struct{ name, user, secret string }{
		{"wrong secret", "mine", "wrong"}, {"unknown device", "nobody", secret}, {"secret of another", "other", secret},
	} {
		if got := post(c.user, c.secret, c.user); got != http.StatusUnauthorized {
			t.Errorf("http, %s: %d", c.name, got)
		}
		if err := connectMQTT(c.user, c.secret); err == nil || !strings.Contains(strings.ToLower(err.Error()), "not authori") && !strings.Contains(strings.ToLower(err.Error()), "bad user name") {
			t.Errorf("mqtt, %s: %v", c.name, err)
		}
		if err := connectAMQP(c.user, c.secret, c.user+"/telemetry"); err == nil {
			t.Errorf("amqp, %s: let in", c.name)
		}
	}
	if got := post("", "", "mine"); got != http.StatusUnauthorized {
		t.Errorf("http without a credential: %d", got)
	}
	if got := post("mine", secret, "other"); got != http.StatusForbidden {
		t.Errorf("http, speaking for another: %d", got)
	}
	if err := connectAMQP("mine", secret, "other/telemetry"); err == nil || !strings.Contains(err.Error(), "amqp:unauthorized-access") {
		t.Errorf("amqp, speaking for another: %v", err)
	}
	if got := post("mine", secret, "mine"); got >= 300 {
		t.Errorf("http, the device itself: %d", got)
	}
	if n := s.metric("tributary_registry_authentications_total"); n < 10 {
		t.Errorf("%v authentications counted", n)
	}
	s.stop()
}

// TestGarbageCostsOneConnection throws nonsense at every door while a device
// goes on working on another connection.
func TestGarbageCostsOneConnection(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "--open")
	send, closeIt, err := sendMQTT(t.Context(), s, "steady")
	if err != nil {
		t.Fatal(err)
	}
	defer closeIt()
	garbage := map[string][]string{
		"mqtt": {"\x00", "\x10\xff\xff\xff\xff\xff", "\x30\x05\x00\x01a", "\x10\x04\x00\x04MQ", "GET / HTTP/1.1\r\n\r\n", "\xf0\x00", strings.Repeat("\xff", 70000)},
		"amqp": {"AMQP\x00\x00\x09\x01", "AMQP\x00\x01\x00\x00\xff\xff\xff\xff\x02\x00\x00\x00", "GET / HTTP/1.1\r\n\r\n", "AMQP\x03\x01\x00\x00\x00\x00\x00\x03abc", strings.Repeat("\x00", 70000)},
		"http": {"\x16\x03\x01", "POST /v1/devices/x/telemetry HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "NONSENSE\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"},
	}
	for door, lines := range garbage {
		for _, bytes := range lines {
			conn, err := net.Dial("tcp", s.addresses[door])
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(patience))
			io.WriteString(conn, bytes)
			if tcp, ok := conn.(*net.TCPConn); ok {
				tcp.CloseWrite()
			}
			if _, err := io.Copy(io.Discard, conn); err != nil && isTimeout(err) {
				t.Errorf("%s: the connection stays open after %.40q", door, bytes)
			}
			conn.Close()
			if err := send([]byte(`{"temperature":21.5}`)); err != nil {
				t.Fatalf("%s: %.40q hurt another connection: %v", door, bytes, err)
			}
		}
	}
	s.stop()
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

// TestDrainKeepsWhatItAcknowledged stops the server politely under load.
func TestDrainKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	book := &ledger{acked: map[string]map[int]bool{}, next: map[string]int{}}
	s := serve(t, data, "--open")
	load, cancel := context.WithCancel(t.Context())
	var devices sync.WaitGroup
	for protocol, connect := range map[string]sender{"mqtt": sendMQTT, "amqp": sendAMQP, "http": sendHTTP} {
		devices.Go(func() { loadUntilCut(load, s, book, protocol+"-drained", connect) })
	}
	eventually(t, "acknowledged messages", func() bool { return book.count() > 200 })
	s.stop()
	cancel()
	devices.Wait()
	s = serve(t, data, "--open")
	verifyLedger(t, s, book)
	s.stop()
}

// TestDemoEndsWell runs the demo as a stranger would, but shorter.
func TestDemoEndsWell(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := program(ctx, "demo", "--for", "6s")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, &stderr)
	}
	if n := strings.Count(string(out), `"SUCCEEDED"`); n != 3 || !bytes.Contains(out, []byte("every acknowledged message is in the store, once")) {
		t.Errorf("SUCCEEDED shows for %d protocols in\n%s%s", n, out, &stderr)
	}
}

// TestServeRefusesWhatIsNotSafe lists command lines that must not start a server.
func TestServeRefusesWhatIsNotSafe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ flags, want string }{
		{"--open --mqtt 0.0.0.0:0", "--open"},
		{"--open --mqtts :8883", "--open"},
		{"--open --nats-listen :4222", "--open"},
		{"--tls-cert-file x.crt", "--tls-key-file"},
		{"--max-connections 2000000000", "ulimit"},
		{"--nats nats://127.0.0.1:1", "--store"},
		{"--store postgres://x", "sqlite"},
		{"--max-message-bytes 0", "1MiB"},
		{"--durability maybe", "durability"},
		{"--durability trusted", "for --nats"},
		{"--nats nats://127.0.0.1:1 --store sqlite:x.db --durability strict", "--nats-monitor"},
		{"--nats nats://127.0.0.1:1 --store sqlite:x.db --nats-monitor 127.0.0.1:8222", "http://host:8222"},
		{"--nats-replicas 3", "needs --nats"},
		{"--mqtt-reached a.example:1883", "none without --nats"},
		{"--mqtts-reached a.example", "HOST:PORT"},
		{"--nonsense", "nonsense"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		out, err := program(ctx, append([]string{"serve", "--data", t.TempDir()}, strings.Fields(c.flags)...)...).CombinedOutput()
		cancel()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("serve %s: %v, said %q, expected it to say %q", c.flags, err, out, c.want)
		}
	}
}

// TestSecondServerOnOneDirectory is refused, in words, and leaves the first alone.
func TestSecondServerOnOneDirectory(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := serve(t, data, "--open")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := program(ctx, "serve", "--data", data, "--open", "--mqtt", "127.0.0.1:0", "--amqp", "127.0.0.1:0",
		"--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--mqtts", "127.0.0.1:0", "--amqps", "127.0.0.1:0", "--https", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0").CombinedOutput()
	if err == nil || !strings.Contains(string(out), data) {
		t.Errorf("a second server: %v, %q", err, out)
	}
	if _, err := os.Stat(data + "/" + addressesFile); err != nil {
		t.Errorf("the first server's addresses are gone: %v", err)
	}
	s.stop()
}
