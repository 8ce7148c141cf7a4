package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// fleetSize is how many devices TestAFleetThatSleeps registers and connects, and
// how many the registry may remember: small, or with TRIBUTARY_MILLION=1 what
// docs/operations.md gives figures of.
func fleetSize() (registered, connected, remembered int) {
	if os.Getenv("TRIBUTARY_MILLION") == "1" {
		return 1_000_000, 1000, 65_536
	}
	return 2000, 50, 100
}

// TestAFleetThatSleeps registers many devices, starts again and lets a few of
// them in: what the server remembers of devices is bounded by what it was told,
// however many there are and come.
func TestAFleetThatSleeps(t *testing.T) {
	registered, connected, remembered := fleetSize()
	data, dir := t.TempDir(), t.TempDir()
	cache := []string{"--registry-cache", strconv.Itoa(remembered)}
	s := serve(t, data, cache...)
	names := filepath.Join(dir, "names")
	var lines bytes.Buffer
	for i := range registered {
		fmt.Fprintf(&lines, "d%07d\n", i)
	}
	if err := os.WriteFile(names, lines.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	secrets := importSecrets(t, s, names)
	t.Logf("%d registered in %v; resident %.0f MB", len(secrets), time.Since(began).Round(time.Millisecond), s.metric("process_resident_memory_bytes")/1e6)
	if len(secrets) != registered {
		t.Fatalf("%d secrets, want %d", len(secrets), registered)
	}
	if n := s.metric("tributary_nats_restarts_total"); n != 0 { // of a server with a sound disk, however busy
		t.Errorf("the stream was restarted %v times while devices were registered", n)
	}
	s.stop()

	began = time.Now()
	s = serve(t, data, cache...)
	t.Logf("ready after %v; resident %.0f MB", time.Since(began).Round(time.Millisecond), s.metric("process_resident_memory_bytes")/1e6)
	began = time.Now()
	for i := range connected {
		name := fmt.Sprintf("d%07d", i*(registered/connected))
		options := mqtt.NewClientOptions().AddBroker("tcp://" + s.addresses["mqtt"]).SetClientID(name).SetUsername(name).SetPassword(secrets[name])
		conn := mqtt.NewClient(options)
		if token := conn.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatalf("%s: %v", name, token.Error())
		}
		t.Cleanup(func() { conn.Disconnect(0) })
		if token := conn.Publish("telemetry", 1, false, "1"); !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatalf("%s: %v", name, token.Error())
		}
	}
	t.Logf("%d connected and stored a message in %v; resident %.0f MB", connected, time.Since(began).Round(time.Millisecond), s.metric("process_resident_memory_bytes")/1e6)

	// More devices than may be remembered come by.
	for i := range min(registered, remembered+remembered/4) {
		name := fmt.Sprintf("d%07d", i)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addresses["http"]+"/v1/devices/"+name+"/telemetry", strings.NewReader("1"))
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth(name, secrets[name])
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusNoContent {
			t.Fatalf("%s: %s", name, response.Status)
		}
	}
	// The connected ones are not remembered apart from these.
	if held := s.metric("tributary_registry_cache_entries"); held > float64(remembered) || held < float64(remembered)/2 {
		t.Errorf("%v devices are remembered, want at most %d", held, remembered)
	}
	t.Logf("%d devices have come by; resident %.0f MB", remembered+remembered/4, s.metric("process_resident_memory_bytes")/1e6)
	if open := s.metric("tributary_mqtt_connections"); open != float64(connected) {
		t.Errorf("%v are connected, want %d", open, connected)
	}
	s.stop()
}

// importSecrets registers the names of a file.
func importSecrets(t *testing.T, s *server, file string) map[string]string {
	t.Helper()
	cmd := program(t.Context(), "device", "import", file, "--data", s.data, "-o", "json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{}
	for scan := bufio.NewScanner(out); scan.Scan(); {
		var made struct{ Device, Secret string }
		if err := json.Unmarshal(scan.Bytes(), &made); err != nil {
			t.Fatalf("%q: %v", scan.Text(), err)
		}
		secrets[made.Device] = made.Secret
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return secrets
}
