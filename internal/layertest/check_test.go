package layertest

import (
	"strings"
	"testing"
)

// The check itself must be able to fail, and must say what to do.
func TestCheckFindsWhatIsWrong(t *testing.T) {
	house := []room{
		{path: "device"},
		{path: "adapters/mqtt", rooms: []string{"device"}, others: []string{"example.org/metrics"}},
		{path: "adapters/adaptertest", rooms: []string{"device"}, helper: true},
		{path: "pipeline", rooms: []string{"device"}, others: []string{"example.org/nats"}, tests: []string{"pipeline/embedded"}},
		{path: "pipeline/embedded"},
	}
	const us = module + "/"
	for _, c := range []struct {
		name string
		pkg  pkg
		want string // in the one complaint; "" when there is none
	}{
		{"allowed arrow", pkg{path: us + "adapters/mqtt", imports: []string{"net", us + "device", "example.org/metrics/http"}}, ""},
		{"sibling", pkg{path: us + "adapters/mqtt", imports: []string{us + "pipeline"}}, "adapters/mqtt imports pipeline: rooms never import a sibling"},
		{"foreign module", pkg{path: us + "adapters/mqtt", imports: []string{"example.org/nats"}}, "adapters/mqtt imports example.org/nats: this module is not one"},
		{"prefix is not a path", pkg{path: us + "adapters/mqtt", imports: []string{"example.org/metrics2"}}, "imports example.org/metrics2"},
		{"words import nothing", pkg{path: us + "device", imports: []string{us + "pipeline"}}, "device imports pipeline"},
		{"helper in code", pkg{path: us + "adapters/mqtt", imports: []string{us + "adapters/adaptertest"}}, "for tests only"},
		{"helper in a test", pkg{path: us + "adapters/mqtt", testImports: []string{us + "adapters/adaptertest", us + "adapters/mqtt"}}, ""},
		{"client in a test", pkg{path: us + "adapters/mqtt", testImports: []string{"example.org/client"}}, ""},
		{"sibling in a test", pkg{path: us + "adapters/mqtt", testImports: []string{us + "pipeline"}}, "a test of adapters/mqtt imports pipeline"},
		{"test arrow in a test", pkg{path: us + "pipeline", testImports: []string{us + "pipeline/embedded"}}, ""},
		{"test arrow in code", pkg{path: us + "pipeline", imports: []string{us + "pipeline/embedded"}}, "pipeline imports pipeline/embedded"},
		{"new package", pkg{path: us + "adapters/coap"}, "adapters/coap is a new package: enter it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pkgs := []pkg{c.pkg}
			for _, r := range house {
				if us+r.path != c.pkg.path {
					pkgs = append(pkgs, pkg{path: us + r.path})
				}
			}
			got := check(house, pkgs)
			switch {
			case c.want == "" && len(got) > 0:
				t.Errorf("complains: %q", got)
			case c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)):
				t.Errorf("got %q, want one complaint with %q", got, c.want)
			}
		})
	}
}

func TestCheckFindsEntriesWithoutPackage(t *testing.T) {
	got := check([]room{{path: "device", rooms: []string{"words"}}}, nil)
	if len(got) != 2 || !strings.Contains(got[0], "device, which does not exist") || !strings.Contains(got[1], "import words, which has no entry") {
		t.Errorf("got %q", got)
	}
}
