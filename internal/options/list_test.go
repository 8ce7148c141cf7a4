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

// bridgeThing is an item of a list.
type bridgeThing struct {
	Name         string        `example:"plant" help:"What it is called."`
	URL          string        `name:"url" key:"url" example:"amqps://host" help:"Where it leads."`
	PasswordFile string        `example:"/etc/secret" help:"What opens it."`
	Receive      []string      `example:"/queue/a" help:"From where."`
	Count        int           `min:"1" default:"3" help:"How many."`
	Wait         time.Duration `max:"1h" default:"5s" help:"How long."`
}

// settleList is settle with a list.
func settleList(t *testing.T, content string) ([]bridgeThing, *Settled) {
	t.Helper()
	var all things
	parser, err := kong.New(&all, Kong()...)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, err := parser.Parse([]string{"serve"})
	if err != nil {
		t.Fatal(err)
	}
	var many []bridgeThing
	s := Settle(ctx, file, Environment{"TRIBUTARY_NAME": "x"}, ListOf("bridges", "Bridges:", "Ways.", &many))
	return many, s
}

func TestItemsOfAList(t *testing.T) {
	many, s := settleList(t, "data: x\nbridges:\n  - name: one\n    receive: [a, b]\n    wait: 1m\n  - {name: two, count: 9, url: 'amqp://u:hush@h'}\n")
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if len(many) != 2 || many[0].Name != "one" || !slices.Equal(many[0].Receive, []string{"a", "b"}) || many[0].Wait != time.Minute || many[0].Count != 3 ||
		many[1].Name != "two" || many[1].Count != 9 || many[1].Wait != 5*time.Second {
		t.Errorf("the list is %+v", many)
	}
	shown := map[string]string{}
	for _, v := range s.Values() {
		shown[v.Name] = v.Text + " by " + filepath.Base(v.From)
	}
	for name, want := range map[string]string{
		"bridges[0].name": "one by x.yaml:3:11", "bridges[0].count": "3 by default", "bridges[1].count": "9 by x.yaml:6:24",
		"bridges[1].url": "amqp://…@h by x.yaml:6:32", "bridges[1].password_file": " by default",
	} {
		if shown[name] != want {
			t.Errorf("%s is %q, want %q", name, shown[name], want)
		}
	}
}

func TestWhatIsWrongWithAList(t *testing.T) {
	for _, c := range []struct{ content, want string }{
		{"bridges:\n", ""},
		{"bridges: []\n", ""},
		{"bridges:\n  #- name: x\n", ""},
		{"bridges: x", "1:10: bridges is a list: begin each item with - and give it the keys name, url, password_file, receive, count, wait"},
		{"bridges: {name: x}", "1:10: bridges is a list"},
		{"bridges: [x]", "1:11: bridges[0] is a section and takes no value itself; the keys below it: name, url"},
		{"bridges:\n  -\n", "2:5: bridges[0] is empty"},
		{"bridges:\n  - nme: x", `2:5: unknown key "nme" below "bridges[0]"; did you mean "name"`},
		{"bridges:\n  - name: x\n  - count: many", "3:12: bridges[1].count: "},
		{"bridges:\n  - count: 0", "2:12: bridges[0].count: 0 is out of bounds: choose at least 1"},
		{"bridges:\n  - wait: 2h", "2:11: bridges[0].wait: 2h is out of bounds: choose at most 1h"},
		{"bridges:\n  - name:", "2:5: bridges[0].name has no value"},
		{"bridges:\n  - name: x\n    name: y", "3:5: this is not YAML"},
		{"bridgs: []", `1:1: unknown key "bridgs"; did you mean "bridges"?`},
		{"bridges: [" + strings.Repeat("{name: x}, ", maxItems+1) + "]", "1:1111: bridges has more than 100 items"},
	} {
		_, s := settleList(t, c.content)
		got := ""
		if err := s.Err(); err != nil {
			_, got, _ = strings.Cut(err.Error(), "x.yaml:")
		}
		if (c.want == "") != (got == "") || !strings.HasPrefix(strings.TrimSpace(got), c.want) || strings.Contains(got, "\n") {
			t.Errorf("%.60q: told %q, want %q", c.content, got, c.want)
		}
	}
}

// TestAMistakeInAnItem: what a validation finds is told where it was said, and
// what nobody said where the item begins.
func TestAMistakeInAnItem(t *testing.T) {
	_, s := settleList(t, "bridges:\n  - name: one\n  - name: two\n    url: x\n")
	s.Add(Wrongf("bridges[1].url", "leads nowhere"))
	s.Add(Wrongf("bridges[1].password_file", "is missing"))
	var told []string
	for _, p := range s.Err().(Problems) {
		told = append(told, p.String())
	}
	for i, want := range []string{"x.yaml:3:5: bridges[1].password_file: is missing", "x.yaml:4:10: bridges[1].url: leads nowhere"} {
		if len(told) != 2 || !strings.HasSuffix(told[i], want) {
			t.Errorf("told %q, want %q at %d of 2", told, want, i)
		}
	}
}

func TestTheExampleHasAnItem(t *testing.T) {
	var all things
	parser, err := kong.New(&all, Kong()...)
	if err != nil {
		t.Fatal(err)
	}
	var many []bridgeThing
	example := Example(parser.Model.Children[0], "Head.", ListOf("bridges", "Bridges:", "Ways.", &many))
	if none, s := settleList(t, example); s.Err() != nil || len(none) != 0 {
		t.Errorf("as it is: %v, %v", none, s.Err())
	}
	said, s := settleList(t, Uncommented(example))
	if err := s.Err(); err != nil || len(said) != 1 {
		t.Fatalf("uncommented: %v, %v\n%s", said, err, example)
	}
	if got := said[0]; got.Name != "plant" || got.URL != "amqps://host" || !slices.Equal(got.Receive, []string{"/queue/a"}) || got.Count != 3 || got.Wait != 5*time.Second {
		t.Errorf("uncommented it says %+v", got)
	}
}
