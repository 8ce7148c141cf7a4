package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/internal/options"
)

const exampleFile = "../../docs/tributary.example.yaml"

// TestTheShippedExample: it is what `config example` prints, it is sound as it is and
// changes no default, and with every line uncommented it says every option its
// default.
func TestTheShippedExample(t *testing.T) {
	shipped, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	var c cli
	parser, err := newParser(&c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if made := exampleOf(parser.Model.Node); made != string(shipped) {
		t.Errorf("%s is not what the options say: make example", exampleFile)
	}
	defaults, err := settleServe(nil)
	if err != nil {
		t.Fatal(err)
	}
	asIs, err := settleServe(nil, "--config", exampleFile)
	if err != nil || asIs.settled.Err() != nil {
		t.Fatalf("as it is: %v, %v", err, asIs.settled.Err())
	}
	all := filepath.Join(t.TempDir(), "all.yaml")
	if err := os.WriteFile(all, []byte(options.Uncommented(string(shipped))), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := settleServe(nil, "--config", all)
	if err != nil || said.settled.Err() != nil {
		t.Fatalf("uncommented: %v, %v", err, said.settled.Err())
	}
	for i, want := range defaults.settled.Values() {
		if got := asIs.settled.Values()[i]; got != want && got.Name != "--config" {
			t.Errorf("the example as it is makes %s %q", got.Name, got.Text)
		}
		got := said.settled.Values()[i]
		if got.Name != "--config" && got.From == "default" {
			t.Errorf("%s is not in the example", got.Name)
		}
		if want.Text != "" && got.Text != want.Text {
			t.Errorf("the example says %s is %q, the default is %q", got.Name, got.Text, want.Text)
		}
	}
}

// TestOptionsHaveOneName: flag, key and variable of an option are one name, so
// that who knows one knows all.
func TestOptionsHaveOneName(t *testing.T) {
	s, err := settleServe(nil)
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.NewReplacer("_", "-", ".", "-")
	for _, o := range s.settled.Options {
		key := strings.TrimPrefix(strings.TrimSuffix(plain.Replace(o.Key), "-url"), "listen-")
		if o.Key != "" && key != o.Name() && key+"-listen" != o.Name() {
			t.Errorf("--%s is %s in a file", o.Name(), o.Key)
		}
		if regexp.MustCompile(`(^|-)(password|secret|token|key)$`).MatchString(o.Name()) {
			t.Errorf("--%s would hold a secret, which processes and files show: let it name a file, --%s-file", o.Name(), o.Name())
		}
	}
}

// checked runs `tributary config check` as a program.
func checked(t *testing.T, env []string, args ...string) (out, errs string, code int) {
	t.Helper()
	cmd := program(t.Context(), append([]string{"config", "check"}, args...)...)
	cmd.Env = append(cmd.Env, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tributary.yaml")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("data: /var/lib/t\nlisten:\n  mqtt: ':1883'\nnats: {url: 'nats://u:hush@host'}\nroles: [mqtt]\nstream: {keep_bytes: 1GiB}\n")
	out, errs, code := checked(t, []string{"TRIBUTARY_STREAM_KEEP_BYTES=2GiB", "TRIBUTARY_STRAEM_KEEP_BYTES=1"}, file)
	if code != 0 || !strings.Contains(out, "/var/lib/t") || !strings.Contains(out, file+":1:7") ||
		!regexp.MustCompile(`stream\.keep_bytes +2GiB +TRIBUTARY_STREAM_KEEP_BYTES\n`).MatchString(out) || !strings.Contains(out, "nats://…@host") {
		t.Errorf("sound: %d, %s%s", code, out, errs)
	}
	if !strings.Contains(errs, "TRIBUTARY_STRAEM_KEEP_BYTES: this environment variable is no option; did you mean TRIBUTARY_STREAM_KEEP_BYTES?") {
		t.Errorf("the strange variable is told as %q", errs)
	}
	if _, viaEnv, code := checked(t, []string{"TRIBUTARY_CONFIG=" + file}); code != 0 {
		t.Errorf("TRIBUTARY_CONFIG: %d, %s", code, viaEnv)
	}
	write("open: true\nlisten:\n  mqtt: ':1883'\n  amqq: off\nstore: {url: 'postgres://u:hush@h/d?password=hush'}\n")
	out, errs, code = checked(t, nil, file)
	lines := strings.Split(errs, "\n")
	if code != 2 || out != "" || len(lines) != 5 {
		t.Fatalf("wrong: %d, %q, %s", code, out, errs)
	}
	for i, want := range []string{`:3:9: listen.mqtt: :1883 with --open`, `:4:3: unknown key "amqq"`, `:5:14: store.url: postgres://…@h/d`, "tributary: the configuration has mistakes: 3"} {
		if i < 3 && !strings.HasPrefix(lines[i], file+want) || i == 3 && lines[i] != want {
			t.Errorf("line %d is %q, want %q", i, lines[i], want)
		}
	}
	if strings.Contains(errs, "hush") {
		t.Errorf("a password is told: %s", errs)
	}
}

// TestServeReadsItsFile: what the file says holds, and a flag says more.
func TestServeReadsItsFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "tributary.yaml")
	if err := os.WriteFile(file, []byte("open: true\nlisten: {amqp: off}\nmax_message_bytes: 1KiB\nlog: {format: json}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, filepath.Join(dir, "data"), "--config", file)
	if s.addresses["amqp"] == "" {
		t.Error("the file silenced a flag")
	}
	if status := postBytes(t, s, 1025); status != 413 {
		t.Errorf("a message larger than the file allows: status %d, want 413", status)
	}
	s.stop()
	if !strings.HasPrefix(s.log.String(), "{") {
		t.Errorf("the log is not JSON: %s", s.log)
	}
	cmd := program(t.Context(), "serve", "--config", filepath.Join(dir, "none"), "--data", filepath.Join(dir, "other"))
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "no such file") {
		t.Errorf("a file that is not there: %v, %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "other")); err == nil {
		t.Error("the server began with a configuration it could not read")
	}
}

// postBytes sends a message of n bytes and answers the status.
func postBytes(t *testing.T, s *server, n int) int {
	t.Helper()
	response, err := http.Post("http://"+s.addresses["http"]+"/v1/devices/d/telemetry", "text/plain", strings.NewReader(strings.Repeat("x", n)))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// TestHelpShowsVariablesWhereThereAreSome: what only serve reads from the
// environment is not shown by others.
func TestHelpShowsVariablesWhereThereAreSome(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{"demo": false, "bench": false, "config check": false, "device list": true} {
		out, err := program(t.Context(), append(strings.Fields(line), "--help")...).Output()
		if err != nil || strings.Contains(string(out), "$TRIBUTARY_") != want {
			t.Errorf("tributary %s --help: %v\n%s", line, err, out)
		}
	}
	out, err := program(t.Context(), "serve", "--help").Output()
	for _, want := range []string{"\nDoors:\n", "\nLimits:\n", "TRIBUTARY_STREAM_KEEP_BYTES", "Default: 4GiB", "--config=FILE"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("serve --help: %v, lacks %q", err, want)
		}
	}
}
