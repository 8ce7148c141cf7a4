package options

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

// things is a program with one command that has every kind of option.
type things struct {
	Serve serveThings `cmd:""`
	Ask   struct {
		Tenant string `env:"TRIBUTARY_TENANT" default:"default"`
		Limit  int    `env:"-" default:"3"`
	} `cmd:""`
}

type serveThings struct {
	Config string        `key:"-"`
	Data   string        `default:"things" help:"Where things are."`
	MQTT   string        `name:"mqtt" key:"listen.mqtt" type:"address" default:":1883" help:"The door."`
	NATS   string        `name:"nats" key:"nats.url" example:"nats://host:4222" help:"A server."`
	Keep   int64         `name:"stream-keep-bytes" key:"stream.keep_bytes" type:"size" max:"8GiB" default:"4GiB" help:"So much."`
	Age    time.Duration `key:"store.max_age" min:"1h" default:"7d" help:"So long."`
	Mode   string        `enum:"strict,relaxed" default:"strict" help:"How."`
	Roles  []string      `enum:"mqtt,api,persist" default:"mqtt,api" help:"What it does."`
	Open   bool          `help:"To everybody."`
	Count  int           `min:"1" default:"3" help:"How many."`
}

// settle parses a command line of things, with a file unless content is "-".
func settle(t testing.TB, content string, env Environment, args ...string) (*things, *Settled) {
	t.Helper()
	var all things
	parser, err := kong.New(&all, Kong()...)
	if err != nil {
		t.Fatal(err)
	}
	file := ""
	if content != "-" {
		file = filepath.Join(t.TempDir(), "x.yaml")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, err := parser.Parse(append([]string{"serve"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	return &all, Settle(ctx, file, env)
}

func TestTheStrongestSourceWins(t *testing.T) {
	const content = "data: from-file\nlisten: {mqtt: ':1'}\nstream:\n  keep_bytes: 1KiB\nroles: [persist, mqtt]\nopen: true\n"
	all, s := settle(t, content, Environment{"TRIBUTARY_DATA": "from-env", "TRIBUTARY_MQTT": ":2"}, "--data", "from-flag")
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	got := all.Serve
	if got.Data != "from-flag" || got.MQTT != ":2" || got.Keep != 1024 || !slices.Equal(got.Roles, []string{"persist", "mqtt"}) || !got.Open || got.Age != 7*24*time.Hour {
		t.Errorf("settled to %+v", got)
	}
	from := map[string]string{}
	for _, v := range s.Values() {
		from[v.Name] = v.Text + " by " + filepath.Base(v.From)
	}
	for name, want := range map[string]string{
		"data": "from-flag by --data", "listen.mqtt": ":2 by TRIBUTARY_MQTT", "stream.keep_bytes": "1KiB by x.yaml:4:15",
		"roles": "persist,mqtt by x.yaml:5:8", "store.max_age": "7d by default", "nats.url": " by default", "--config": " by default",
	} {
		if from[name] != want {
			t.Errorf("%s is %q, want %q", name, from[name], want)
		}
	}
}

func TestWhatIsWrongWithAFile(t *testing.T) {
	for _, c := range []struct{ content, want string }{
		{"", ""},
		{"# nothing\n", ""},
		{"---\ndata: x\n", ""},
		{"listen:\n  #mqtt: off\n", ""},
		{"mode: relaxed\nroles: mqtt,api", ""},
		{"data: |\n  x\n", ""},
		{"dta: x", `1:1: unknown key "dta"; did you mean "data"?`},
		{"listen:\n  mqt: off", `2:3: unknown key "mqt" below "listen"; did you mean "mqtt" below "listen"?`},
		{"mqtt: off", `1:1: unknown key "mqtt"; did you mean "mqtt" below "listen"?`},
		{"stream-keep-bytes: 1", `1:1: unknown key "stream-keep-bytes"; did you mean "keep_bytes" below "stream"?`},
		{"listen.mqtt: off", `1:1: unknown key "listen.mqtt"; did you mean "mqtt" below "listen"?`},
		{"zzzzzzzz: 1", `1:1: unknown key "zzzzzzzz"; the keys here: data, listen, nats, stream, store, mode, roles, open, count`},
		{"config: x", `1:1: unknown key "config"; the keys here`},
		{"listen: off", "1:9: listen is a section and takes no value itself; the keys below it: mqtt"},
		{"data: {x: 1}", "1:7: data takes one value and has no keys below it"},
		{"data:\n", "1:1: data has no value"},
		{"data: x\ndata: y", "2:1: this is not YAML: mapping key \"data\" already defined"},
		{"data: [x", "1:7: this is not YAML: "},
		{"data: x\n---\nmode: strict", "3:5: a second document begins here"},
		{"data: &a x", "1:7: data: say the value plainly"},
		{"roles: [[mqtt]]", "1:9: roles is a list of plain values"},
		{"- x", "1:1: a configuration is keys with values"},
		{"? [a]\n: b", "2:1: this is not YAML: "},
		{"1: x", "1:1: a key is a plain word"},
		{"data: \xff", "this is not text in UTF-8"},
		{"stream: {keep_bytes: 4GB}", `1:22: stream.keep_bytes: "4GB" is not a size: say a number of bytes, or a whole number with KiB, MiB, GiB or TiB; did you mean 4GiB?`},
		{"stream: {keep_bytes: 9GiB}", "1:22: stream.keep_bytes: 9GiB is out of bounds: choose at most 8GiB"},
		{"store: {max_age: 30}", `1:18: store.max_age: "30" is not a duration: say numbers with d, h, m, s or ms, such as 7d, 1h30m or 30s; did you mean 30s?`},
		{"store: {max_age: 59m}", "1:18: store.max_age: 59m is out of bounds: choose at least 1h"},
		{"mode: stict", `1:7: mode: "stict" is not one of strict, relaxed; did you mean strict?`},
		{"roles: [mqtt, apo]", `1:8: roles: "apo" is not one of mqtt, api, persist; did you mean api?`},
		{"open: maybe", "1:7: open: "},
		{"count: 0", "1:8: count: 0 is out of bounds: choose at least 1"},
		{"count: many", "1:8: count: "},
		{"listen: {mqtt: 1883}", `1:16: listen.mqtt: "1883" is not an address`},
	} {
		_, s := settle(t, c.content, nil)
		got := ""
		if err := s.Err(); err != nil {
			_, got, _ = strings.Cut(err.Error(), "x.yaml:")
		}
		if (c.want == "") != (got == "") || !strings.HasPrefix(strings.TrimSpace(got), c.want) || strings.Contains(got, "\n") {
			t.Errorf("%q: told %q, want %q", c.content, got, c.want)
		}
	}
}

func TestEveryMistakeIsToldInOrder(t *testing.T) {
	_, s := settle(t, "mode: x\nlisten:\n  mqtt: 1\nzzzzzzzz: 1\ndata:\n", Environment{"TRIBUTARY_COUNT": "0"})
	s.Add(Wrongf("open", "not today"))
	s.Add(Wrongf("stream-keep-bytes", "too little"))
	var told []string
	for _, p := range s.Err().(Problems) {
		told = append(told, strings.Split(p.String(), " ")[0])
	}
	for i, want := range []string{"--open:", "--stream-keep-bytes:", "TRIBUTARY_COUNT:", ":1:7:", ":3:9:", ":4:1:", ":5:1:"} {
		if len(told) != 7 || !strings.HasSuffix(told[i], want) {
			t.Fatalf("told %q; want %s at %d of 7", told, want, i)
		}
	}
}

func TestAFileThatCannotBeRead(t *testing.T) {
	var all things
	parser, _ := kong.New(&all, Kong()...)
	ctx, err := parser.Parse([]string{"serve"})
	if err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{filepath.Join(t.TempDir(), "no"): "no such file", t.TempDir(): "directory", large: "larger than 1MiB"} {
		if err := Settle(ctx, file, nil).Err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", file, err, want)
		}
	}
}

func TestVariablesNobodyReads(t *testing.T) {
	_, s := settle(t, "-", EnvironmentOf([]string{
		"TRIBUTARY_STREM_KEEP_BYTES=1", "TRIBUTARY_ZZZZ=1", "TRIBUTARY_TENANT=x", "TRIBUTARY_LIMIT=9", "OTHER=1",
		"TRIBUTARY_SERVICE_HOST=10.0.0.1", "TRIBUTARY_PORT_1883_TCP_ADDR=10.0.0.1", "TRIBUTARY_NATS_PORT=tcp://10.0.0.1:4222", "TRIBUTARY_TEST_X=1",
	}))
	want := []Stranger{{"TRIBUTARY_LIMIT", ""}, {"TRIBUTARY_STREM_KEEP_BYTES", "TRIBUTARY_STREAM_KEEP_BYTES"}, {"TRIBUTARY_ZZZZ", ""}}
	if !slices.Equal(s.Strange, want) {
		t.Errorf("strangers %v, want %v", s.Strange, want)
	}
	if err := s.Err(); err != nil {
		t.Error(err)
	}
}

func TestSecretsOfURLsAreNotShown(t *testing.T) {
	const secret = "hush"
	_, s := settle(t, "nats: {url: 'nats://user:hush@host:4222?password=hush'}\nlisten: {mqtt: 'mqtt://u:hush@h'}\nmode: 'x://u:hush@h'\n'k://hush@x': 1\n", Environment{"TRIBUTARY_COUNT": "p://:hush@h"})
	s.Add(Wrongf("nats", "%s", Redact("nats://user:hu/sh@host?sslpassword=hush")))
	text := s.Err().Error()
	for _, v := range s.Values() {
		text += v.Text
	}
	if strings.Contains(text, secret) || strings.Contains(text, "hu/sh") {
		t.Errorf("a secret is shown: %s", text)
	}
	if !strings.Contains(text, "nats://…@host:4222") {
		t.Errorf("the host is hidden, too: %s", text)
	}
}

func TestTheExampleHasEveryOption(t *testing.T) {
	var all things
	parser, err := kong.New(&all, Kong()...)
	if err != nil {
		t.Fatal(err)
	}
	example := Example(parser.Model.Children[0], "Head.\nSecond.")
	if _, s := settle(t, example, nil); s.Err() != nil || s.Values()[1].From != "default" {
		t.Errorf("as it is: %v %v", s.Err(), s.Values())
	}
	bare := Uncommented(example)
	got, s := settle(t, bare, nil)
	if err := s.Err(); err != nil {
		t.Errorf("uncommented: %v\n%s", err, bare)
	}
	for _, v := range s.Values()[1:] {
		if v.From == "default" {
			t.Errorf("%s is not in the example:\n%s", v.Name, example)
		}
	}
	fresh, _ := settle(t, "-", nil)
	fresh.Serve.NATS = got.Serve.NATS // has no default
	if !slices.Equal(got.Serve.Roles, fresh.Serve.Roles) || got.Serve.Keep != fresh.Serve.Keep || got.Serve.Age != fresh.Serve.Age || got.Serve.MQTT != fresh.Serve.MQTT {
		t.Errorf("the example says %+v, the defaults are %+v", got.Serve, fresh.Serve)
	}
}

func FuzzFile(f *testing.F) {
	for _, seed := range []string{"data: x\nlisten:\n  mqtt: off\n", "stream: {keep_bytes: 4GiB}", "? a\n: b", "a: &x 1\nb: *x", "roles: [mqtt, api]", "data: |\n x\n", "- - -\n", "%YAML 1.2\n---\n", "<<: {data: x}", "\"data\": !!str x", "#", "data: 'it''s'", "bridges:\n- name: x\n  count: 9\n-\n"} {
		f.Add([]byte(seed))
	}
	var all things
	parser, err := kong.New(&all, Kong()...)
	if err != nil {
		f.Fatal(err)
	}
	flags := Of(parser.Model.Children[0])
	f.Fuzz(func(t *testing.T, src []byte) {
		var many []bridgeThing
		read := parse("x", src, flags, []List{ListOf("bridges", "", "", &many)})
		known := flags
		for _, one := range read.items {
			known = append(known, one.options...)
		}
		for _, e := range read.entries {
			if !slices.ContainsFunc(known, func(o Option) bool { return o.Key == e.key }) || e.at.line < 1 {
				t.Errorf("%q became %+v", src, e)
			}
			for _, o := range known {
				if o.Key == e.key {
					_, _ = o.read(e.text)
				}
			}
		}
		for _, p := range read.problems {
			if p.Text == "" || !strings.HasPrefix(p.At, "x") {
				t.Errorf("%q: problem %+v", src, p)
			}
		}
	})
}
