package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// runEnv makes the test binary behave as the tributary program, so that tests
// start, kill and question real processes built with the race detector.
const runEnv = "TRIBUTARY_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runEnv) == "1" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// sized is how large a test is: small, or what the environment says.
func sized(t *testing.T, name string, small int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return small
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s is no size", name, text)
	}
	return n
}

// patience bounds every wait for a condition; it decides nothing else.
const patience = 60 * time.Second

// server is one running `tributary serve`.
type server struct {
	t         testing.TB
	cmd       *exec.Cmd
	log       *bytes.Buffer
	data      string
	addresses map[string]string
	api       func() (*grpc.ClientConn, error) // one connection, made when first asked for
}

func program(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), runEnv+"=1")
	return cmd
}

// serve starts a server on free ports and waits until it is ready.
func serve(t testing.TB, data string, args ...string) *server {
	t.Helper()
	free := []string{"serve", "--data", data, "--mqtt", "127.0.0.1:0", "--amqp", "127.0.0.1:0",
		"--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--mqtts", "127.0.0.1:0", "--amqps", "127.0.0.1:0", "--https", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0"}
	s := &server{t: t, data: data, log: &bytes.Buffer{}}
	s.api = sync.OnceValues(s.dialAPI)
	// A killed server leaves its addresses behind; they would pass for the new one's.
	if err := os.Remove(filepath.Join(data, addressesFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	s.cmd = program(context.Background(), append(free, args...)...)
	s.cmd.Stderr = s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("the server said:\n%s", s.log)
		}
	})
	exited := make(chan struct{})
	go func() { s.cmd.Wait(); close(exited) }()
	s.cmd.Cancel = func() error { <-exited; return nil }
	eventually(t, "addresses.json", func() bool {
		select {
		case <-exited:
			t.Fatalf("the server ended before it was ready:\n%s", s.log)
		default:
		}
		raw, err := os.ReadFile(filepath.Join(data, addressesFile))
		return err == nil && json.Unmarshal(raw, &s.addresses) == nil
	})
	return s
}

// kill ends the server as a crash would.
func (s *server) kill() { s.end(syscall.SIGKILL) }

// pause stops the process where it stands, and returns when all of it has:
// that takes a moment after the signal.
func (s *server) pause() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(s.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || !status.Stopped() {
			s.t.Fatalf("the server did not stop: %v, %v", status, err)
		}
		return
	}
}

// stop asks the server to drain and checks that it ends with 0.
func (s *server) stop() {
	s.t.Helper()
	s.end(syscall.SIGTERM)
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Fatalf("the server ended with %d after SIGTERM:\n%s", code, s.log)
	}
}

// end signals the process and waits until it is gone.
func (s *server) end(signal syscall.Signal) {
	err := s.cmd.Process.Signal(signal)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Errorf("signal: %v", err)
	}
	s.cmd.Cancel()
}

// client runs a client subcommand against the server and answers its output.
func (s *server) client(args ...string) string {
	s.t.Helper()
	out, err := s.tryClient(args...)
	if err != nil {
		s.t.Fatalf("tributary %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// tryClient is client for calls that may fail; out holds standard error too then.
func (s *server) tryClient(args ...string) (out string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := program(ctx, append(args, "--data", s.data)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String() + stderr.String(), err
	}
	return stdout.String(), nil
}

// metric reads one number off /metrics, summed over its labels.
func (s *server) metric(name string, labels ...string) float64 {
	s.t.Helper()
	response, err := http.Get("http://" + s.addresses["admin"] + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return sumMetric(s.t, string(text), name, labels)
}

// row is a message as `query -o json` prints it.
type row struct {
	Device, Channel, Protocol, Key string
	Payload                        []byte
	ReceivedAt, StoredAt           time.Time
	Measurements                   []struct {
		Name        string
		DoubleValue float64
	}
}

// query answers what the store has of a device, oldest first.
func (s *server) query(name string) []row {
	s.t.Helper()
	return parseLines[row](s.t, s.client("query", "--device", name, "--limit", "10000", "-o", "json"))
}

// parseLines reads one JSON object a line.
func parseLines[T any](t testing.TB, text string) []T {
	t.Helper()
	var rows []T
	for line := range strings.Lines(text) {
		var r T
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		rows = append(rows, r)
	}
	return rows
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting for %s", what)
		}
		time.Sleep(10 * time.Millisecond) // between two looks; no assertion hangs on it
	}
}

// addDevice registers a device, or what the options say, and answers its secret.
func (s *server) addDevice(name string, options ...string) string {
	s.t.Helper()
	added := parseLines[struct{ Secret string }](s.t, s.client(append([]string{"device", "add", name, "-o", "json"}, options...)...))
	if len(added) != 1 || added[0].Secret == "" {
		s.t.Fatalf("device add answered %+v", added)
	}
	return added[0].Secret
}

// sumMetric adds up the samples of a metric whose labels contain all the given
// `name="value"` pairs.
func sumMetric(t testing.TB, text, name string, labels []string) (sum float64) {
	t.Helper()
	for line := range strings.Lines(text) {
		sample, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		metric, rest, _ := strings.Cut(sample, "{")
		if metric != name {
			continue
		}
		wanted := true
		for _, label := range labels {
			wanted = wanted && strings.Contains(rest, label)
		}
		if !wanted {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		sum += n
	}
	return sum
}

// rest asks the admin listener as the operator and answers the body of a 200.
func (s *server) rest(path string) string {
	s.t.Helper()
	token, err := os.ReadFile(filepath.Join(s.data, "admin.token"))
	if err != nil {
		s.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.addresses["admin"]+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		s.t.Fatalf("GET %s: %s, %v: %s", path, response.Status, err, body)
	}
	return string(body)
}
