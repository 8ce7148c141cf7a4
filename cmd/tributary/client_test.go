package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/options"
	"github.com/tributary-iot/tributary/registry"
	"github.com/tributary-iot/tributary/registry/registrytest"
	"github.com/tributary-iot/tributary/storage"
)

// apiServer is the real API and registry on a free port, with made-up commands,
// store and feed, and a data directory that leads to it.
type apiServer struct {
	data     string
	addr     string
	registry *registry.Registry
	commands *scriptedCommands
	store    *listStore
	stop     func()
}

func serveAPI(t *testing.T) *apiServer {
	t.Helper()
	reg, err := registry.New(registry.Config{Store: new(registrytest.Memory), Pepper: make([]byte, registry.PepperBytes)})
	if err != nil {
		t.Fatal(err)
	}
	s := &apiServer{data: t.TempDir(), registry: reg, commands: &scriptedCommands{}, store: &listStore{}}
	server, err := api.Open(api.Config{Addr: "127.0.0.1:0", Token: "token-of-the-operator"},
		api.Needs{Devices: reg, Commands: s.commands, Reader: s.store, Feed: s.store})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve() }()
	s.addr = server.Addr().String()
	s.stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	}
	t.Cleanup(s.stop)
	s.write(t, "admin.token", "token-of-the-operator\n")
	s.write(t, "addresses.json", `{"grpc":"`+s.addr+`","durability":"strict"}`)
	return s
}

func (s *apiServer) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.data, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// line runs a command line in this process, and answers what it printed and
// its exit code.
func (s *apiServer) line(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	return runLine(t, t.Context(), append(args, "--data", s.data)...)
}

func runLine(t *testing.T, ctx context.Context, args ...string) (string, string, int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	var line struct{ clientCommands }
	parser, err := kong.New(&line, append(options.Kong(), kong.Name("tributary"), kong.Writers(&stdout, &stderr), kong.Exit(func(int) {}))...)
	if err != nil {
		t.Fatal(err)
	}
	chosen, err := parser.Parse(args)
	if err != nil {
		return stdout.String(), err.Error(), 2
	}
	chosen.BindTo(ctx, (*context.Context)(nil))
	if err := chosen.Run(); err != nil {
		var coded *exitError
		if errors.As(err, &coded) {
			return stdout.String(), err.Error(), coded.ExitCode()
		}
		return stdout.String(), err.Error(), 1
	}
	return stdout.String(), stderr.String(), 0
}

// ok is line for what must succeed.
func (s *apiServer) ok(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, code := s.line(t, args...)
	if code != 0 {
		t.Fatalf("tributary %s: exit code %d: %s\n%s", strings.Join(args, " "), code, errs, out)
	}
	return out
}

// objects reads -o json output: one object a line.
func objects(t *testing.T, out string) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(out) {
		var o map[string]any
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%v in line %q", err, line)
		}
		all = append(all, o)
	}
	return all
}

// sameTable compares a table with times put out of sight.
func sameTable(t *testing.T, got, want string) {
	t.Helper()
	got = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}`).ReplaceAllString(got, when)
	got = regexp.MustCompile(`\b\d\d:\d\d:\d\d\.\d{3}`).ReplaceAllString(got, "<time>")
	if got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}

const when = "<date and time         " // as wide as a moment

func TestDeviceCommands(t *testing.T) {
	s := serveAPI(t)
	out, note, code := s.line(t, "device", "add", "dev1")
	if code != 0 || !regexp.MustCompile(`^device  dev1\ntenant  default\nsecret  trib_\w+\n$`).MatchString(out) || !strings.Contains(note, "not shown again") {
		t.Errorf("add printed %q, %q, %d", out, note, code)
	}
	secret := objects(t, s.ok(t, "device", "add", "dev2@acme", "-o", "json"))[0]["secret"].(string)
	if _, err := s.registry.Authenticate(t.Context(), device.Credential{User: "dev2@acme", Secret: secret}); err != nil {
		t.Errorf("the secret printed: %v", err)
	}
	s.ok(t, "device", "add", "a%b")
	s.ok(t, "device", "disable", "dev1")
	sameTable(t, s.ok(t, "device", "list"), "DEVICE  TENANT   KIND    FOR  STATE     CREATED                  CHANGED                  LABELS\n"+
		"a%b     default  device  -    enabled   "+when+"  "+when+"  -\n"+
		"dev1    default  device  -    disabled  "+when+"  "+when+"  -\n")
	listed := objects(t, s.ok(t, "device", "list", "-o", "json"))
	if len(listed) != 2 || listed[0]["name"] != "tenants/default/devices/a%25b" || listed[1]["disabled"] != true || listed[1]["secret"] != nil {
		t.Errorf("listed %v", listed)
	}
	s.ok(t, "device", "enable", "dev1@default")
	if shown := objects(t, s.ok(t, "device", "show", "dev1", "-o", "json")); len(shown) != 1 || shown[0]["disabled"] != nil {
		t.Errorf("shown %v", shown)
	}
	fresh := objects(t, s.ok(t, "device", "rotate", "dev2", "--tenant", "acme", "-o", "json"))[0]["secret"]
	if fresh == "" || fresh == secret {
		t.Errorf("rotated to %v", fresh)
	}
	if out := s.ok(t, "device", "rm", "dev1"); out != "dev1 removed\n" {
		t.Errorf("rm printed %q", out)
	}
	for _, args := range [][]string{{"device", "rm", "dev1"}, {"device", "show", "dev1"}, {"device", "add", "dev2@acme"}, {"device", "add", "a/b"}, {"device", "add", "telemetry"}} {
		if out, errs, code := s.line(t, args...); code != 1 || out != "" || errs == "" || strings.Contains(errs, "rpc error") {
			t.Errorf("%v: %q, %q, %d", args, out, errs, code)
		}
	}
}

func TestLabelCommands(t *testing.T) {
	s := serveAPI(t)
	s.ok(t, "device", "add", "dev1", "--label", "site=berlin", "--label", "roof")
	s.ok(t, "device", "add", "dev2")
	if got := objects(t, s.ok(t, "device", "label", "dev2", "site=rome", "model=t-1", "roof-", "-o", "json")); fmt.Sprint(got[0]["labels"]) != "map[model:t-1 site:rome]" {
		t.Errorf("labelled %v", got)
	}
	if out := s.ok(t, "device", "label", "dev1", "roof-"); !strings.HasSuffix(out, "  site=berlin\n") {
		t.Errorf("printed %q", out)
	}
	if got := objects(t, s.ok(t, "device", "list", "--selector", "site in (rome,paris)", "-o", "json")); len(got) != 1 || got[0]["device"] != "dev2" {
		t.Errorf("listed %v", got)
	}
	if _, note, _ := s.line(t, "device", "list", "--selector", "roof"); !strings.Contains(note, "No device of tenant default matches") {
		t.Errorf("noted %q", note)
	}
	file := filepath.Join(t.TempDir(), "devices")
	if err := os.WriteFile(file, []byte(`{"device":"dev3","labels":{"roof":"","site":"oslo"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.ok(t, "device", "import", file)
	if got := objects(t, s.ok(t, "device", "list", "-l", "roof", "-o", "json")); len(got) != 1 || got[0]["device"] != "dev3" {
		t.Errorf("listed %v", got)
	}
	for _, args := range [][]string{
		{"device", "label", "dev1", "a b"}, {"device", "label", "dev1", "a=1", "a=2"}, {"device", "label", "nosuch", "a"},
		{"device", "list", "--selector", "a b"}, {"device", "add", "dev4", "--label", "=x"},
	} {
		if _, errs, code := s.line(t, args...); code != 1 || errs == "" || strings.Contains(errs, "rpc error") {
			t.Errorf("%v: %q, %d", args, errs, code)
		}
	}
}

func TestWhatToDoWhenTheServerIsNotThere(t *testing.T) {
	s := serveAPI(t)
	empty := t.TempDir()
	token := filepath.Join(s.data, "admin.token")
	wrong := filepath.Join(empty, "wrong")
	if err := os.WriteFile(wrong, []byte("not-the-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := runLine(t, t.Context(), "device", "list", "--grpc", s.addr, "--token-file", token); code != 0 {
		t.Errorf("--grpc and --token-file: %s", errs)
	}
	check := func(want string, args ...string) {
		t.Helper()
		out, errs, code := runLine(t, t.Context(), append([]string{"device", "list"}, args...)...)
		if code != 1 || !strings.Contains(errs, want) || strings.Contains(errs, "\n") || strings.Contains(errs, "rpc error") {
			t.Errorf("%v: %q, %q, %d; want %q", args, out, errs, code, want)
		}
	}
	check("no server is ready on", "--data", empty)
	check("token cannot be read", "--grpc", s.addr, "--data", empty)
	check("does not accept the token", "--data", s.data, "--token-file", wrong)
	s.stop()
	check("no server answers at "+s.addr, "--data", s.data)
	s.write(t, "addresses.json", `{"mqtt":"127.0.0.1:1"}`)
	check("gRPC listener off", "--data", s.data)
	s.write(t, "addresses.json", `{`)
	check("not what a server writes", "--data", s.data)
}

// listStore answers from slices in the stream's order.
type listStore struct {
	storage.Reader
	messages []device.Stored
	latest   []storage.LatestValue
	records  []device.CommandRecord
	asked    storage.MessageQuery
}

func (l *listStore) Messages(_ context.Context, q storage.MessageQuery) (storage.MessagePage, error) {
	l.asked = q
	end := len(l.messages)
	if q.Cursor != "" {
		end, _ = strconv.Atoi(q.Cursor)
	}
	start := max(0, end-q.Limit)
	page := storage.MessagePage{Messages: l.messages[start:end]}
	if start > 0 {
		page.Next = strconv.Itoa(start)
	}
	return page, nil
}

func (l *listStore) Latest(context.Context, storage.LatestQuery) ([]storage.LatestValue, error) {
	return l.latest, nil
}

func (l *listStore) Commands(_ context.Context, q storage.CommandQuery) (storage.CommandPage, error) {
	return storage.CommandPage{Records: l.records[:min(q.Limit, len(l.records))]}, nil
}

// Follow is the feed: everything after the position, and then an end.
func (l *listStore) Follow(_ context.Context, _, name string, after *device.Position, fn func(device.Stored) error) error {
	for _, m := range l.messages {
		if (after == nil || after.Before(m.Position)) && (name == "" || name == m.Device) {
			if err := fn(m); err != nil {
				return err
			}
		}
	}
	return device.Errorf(device.Unavailable, "the stream went away")
}

// reading is message n of a device.
func reading(n int) device.Stored {
	at := time.Date(2026, 5, 1, 12, 0, 0, n*1e6, time.Local)
	return device.Stored{
		Message: device.Message{
			Tenant: "default", Device: "dev1", Channel: "room", Protocol: device.MQTT, ReceivedAt: at,
			Payload: []byte(`{"n":` + strconv.Itoa(n) + `}`), ContentType: "application/json",
			Measurements: []device.Measurement{{Name: "n", Unit: "Cel", Time: at, Value: device.Int(int64(n))}},
		},
		Position: device.Position{Epoch: 1, Seq: uint64(n)}, StoredAt: at,
	}
}

func TestQueryCommand(t *testing.T) {
	s := serveAPI(t)
	for n := 1; n <= 25; n++ {
		s.store.messages = append(s.store.messages, reading(n))
	}
	bare := reading(26)
	bare.Channel, bare.Measurements, bare.Payload = "", nil, []byte("\x1b[2J\xff")
	s.store.messages = append(s.store.messages, bare)
	sameTable(t, s.ok(t, "query", "--device", "dev1", "--limit", "3"), "RECEIVED                 CHANNEL  PROTOCOL  VALUES\n"+
		when+"  room     mqtt      n=24 Cel\n"+
		when+"  room     mqtt      n=25 Cel\n"+
		when+"  -        mqtt      (5 bytes)\n")
	all := objects(t, s.ok(t, "query", "--device", "dev1@default", "--limit", "20000", "-o", "json"))
	if len(all) != 26 {
		t.Fatalf("%d messages", len(all))
	}
	raw, err := base64.StdEncoding.DecodeString(all[3]["payload"].(string))
	first := all[3]["measurements"].([]any)[0].(map[string]any)
	if err != nil || string(raw) != `{"n":4}` || first["intValue"] != "4" || all[3]["receivedAt"] == nil || all[3]["position"] == nil {
		t.Errorf("message 4 is %v", all[3])
	}
	s.ok(t, "query", "--device", "dev1", "--name", "n", "--channel", "room", "--since", "1h", "--until", "2100-01-01")
	q := s.store.asked
	if q.Name != "n" || q.Channel == nil || *q.Channel != "room" || time.Since(q.Since) < time.Hour || time.Since(q.Since) > time.Hour+time.Minute || q.Until.Year() < 2099 {
		t.Errorf("asked %+v", q)
	}
	s.ok(t, "query", "--device", "dev1", "--channel=")
	if q := s.store.asked; q.Channel == nil || *q.Channel != "" {
		t.Errorf("asked for channel %v", q.Channel)
	}
	for _, args := range [][]string{
		{"query"}, {"query", "--device", "dev1", "--since", "yesterday"}, {"query", "--device", "dev1", "-o", "xml"},
	} {
		if _, _, code := s.line(t, args...); code != 2 {
			t.Errorf("%v: exit code %d, want 2", args, code)
		}
	}
	if _, errs, code := s.line(t, "query", "--device", "dev1", "--limit", "0"); code != 1 || !strings.Contains(errs, "--limit") {
		t.Errorf("--limit 0: %q, %d", errs, code)
	}
}

func TestTailCommand(t *testing.T) {
	s := serveAPI(t)
	for n := 1; n <= 3; n++ {
		s.store.messages = append(s.store.messages, reading(n))
	}
	out, errs, code := s.line(t, "tail")
	if sameTable(t, out, "<time>  mqtt  dev1/room  n=1 Cel\n<time>  mqtt  dev1/room  n=2 Cel\n<time>  mqtt  dev1/room  n=3 Cel\n"); code != 1 || errs != "the stream went away" {
		t.Errorf("ended with %q, %d", errs, code)
	}
	out, _, _ = s.line(t, "tail", "--device", "dev1", "-o", "json")
	all := objects(t, out)
	if len(all) != 3 {
		t.Fatalf("printed %v", all)
	}
	out, _, _ = s.line(t, "tail", "-o", "json", "--from", all[1]["position"].(string))
	if rest := objects(t, out); len(rest) != 1 || rest[0]["position"] != all[2]["position"] {
		t.Errorf("from the second on: %v", rest)
	}
	if _, errs, code := s.line(t, "tail", "--from", "nonsense"); code != 1 || !strings.Contains(errs, "position") {
		t.Errorf("--from nonsense: %q, %d", errs, code)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, errs, code := runLine(t, ctx, "tail", "--data", s.data); code != 0 {
		t.Errorf("Ctrl-C: %q, %d", errs, code)
	}
}

func TestLatestCommand(t *testing.T) {
	s := serveAPI(t)
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.Local)
	s.store.latest = []storage.LatestValue{
		{Device: "dev1", Channel: "room", Measurement: device.Measurement{Name: "temperature", Unit: "Cel", Time: at, Value: device.Double(21.5)}},
		{Device: "dev2", Measurement: device.Measurement{Name: "on", Time: at, Value: device.Bool(false)}},
	}
	sameTable(t, s.ok(t, "latest"), "DEVICE  CHANNEL  NAME         VALUE  UNIT  MEASURED\n"+
		"dev1    room     temperature  21.5   Cel   "+when+"\n"+
		"dev2    -        on           false  -     "+when+"\n")
	if all := objects(t, s.ok(t, "latest", "--device", "dev1", "-o", "json")); len(all) != 2 || all[0]["device"] != "dev1" {
		t.Errorf("printed %v", all)
	}
}

// TestEmptyAnswers: a person reads a sentence, a program nothing at all.
func TestEmptyAnswers(t *testing.T) {
	s := serveAPI(t)
	for line, says := range map[string]string{
		"device list":           "No devices of tenant default yet: `tributary device add NAME --data ",
		"device list -o json":   "",
		"commands list":         "No command matches; `tributary send ",
		"commands list -o json": "",
		"latest":                "Nothing was measured by the devices of tenant default yet",
		"latest --device d@t":   "Nothing was measured by d@t yet",
		"query --device d":      "Nothing of d@default matches",
	} {
		out, note, code := s.line(t, strings.Fields(line)...)
		if code != 0 || out != "" || !strings.HasPrefix(note, says) || (note == "") != (says == "") {
			t.Errorf("%s: %q, noted %q, code %d", line, out, note, code)
		}
	}
}

// TestWrongCommandLine runs the program itself: exit code 2, one line that says
// what was wrong and where to read on, and nothing that a pipe would take for
// an answer.
func TestWrongCommandLine(t *testing.T) {
	for _, c := range []struct{ line, says, help string }{
		{"query", "--device", "tributary query --help"},
		{"query --device d --since yesterday", "--since", "tributary query --help"},
		{"device frob", "frob", "tributary device --help"},
		{"frob", "frob", "tributary --help"},
	} {
		var out, errs bytes.Buffer
		cmd := program(t.Context(), strings.Fields(c.line)...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		var exit *exec.ExitError
		if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
			t.Errorf("%s ended with %v, want exit code 2", c.line, err)
		}
		if text := errs.String(); out.Len() != 0 || strings.Count(text, "\n") != 1 || !strings.Contains(text, c.says) || !strings.Contains(text, c.help) {
			t.Errorf("%s said %q and on standard error %q", c.line, &out, text)
		}
	}
}
