package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhatIsWorthKeeping: a file says of which channels the store keeps what;
// queries and latest answer accordingly, also after a crash.
func TestWhatIsWorthKeeping(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "tributary.yaml")
	config := "open: true\nstore:\n  keep:\n    - default/thermostat-*/*=last\n    - '*/*/debug=none'\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, filepath.Join(dir, "data"), "--config", file)
	post := func(device, channel string, n int) {
		t.Helper()
		url := "http://" + s.addresses["http"] + "/v1/devices/" + device + "/telemetry/" + channel
		_, err := askHTTP(t.Context(), url, func(r *http.Request) {
			r.Method, r.Body = http.MethodPost, io.NopCloser(strings.NewReader(fmt.Sprintf(`{"n":%d}`, n)))
			r.Header.Set("Content-Type", "application/json")
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		for device, want := range map[string]string{
			"press": `room{"n":1}room{"n":2}room{"n":3}`, "thermostat-1": `room{"n":3}`, "silent": "",
		} {
			got := ""
			for _, r := range s.query(device) {
				got += r.Channel + string(r.Payload)
			}
			if got != want {
				t.Errorf("%s: stored are %q, wanted %q", device, got, want)
			}
		}
		latest := s.client("latest", "--device", "thermostat-1")
		if !strings.Contains(latest, "n") || !strings.Contains(latest, "3") {
			t.Errorf("latest says %s", latest)
		}
		if latest := s.client("latest"); strings.Contains(latest, "silent") {
			t.Errorf("latest says %s", latest)
		}
	}
	for n := 1; n <= 3; n++ {
		post("press", "room", n)
		post("press", "debug", n)
		post("thermostat-1", "room", n)
		post("silent", "debug", n)
	}
	check()
	s.kill()
	s = serve(t, filepath.Join(dir, "data"), "--config", file)
	check()
	s.stop()
	if out, err := program(t.Context(), "config", "check", file).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(config, "=none", "=never", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := program(t.Context(), "config", "check", file).CombinedOutput(); err == nil || !strings.Contains(string(out), `:4:`) || !strings.Contains(string(out), "say all, last or none") {
		t.Errorf("%v: %s", err, out)
	}
}
