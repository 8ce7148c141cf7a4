package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestLook(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	events := write("events", `{"Action":"pass","Package":"github.com/tributary-iot/tributary/a","Test":"TestGood"}
{"Action":"fail","Package":"github.com/tributary-iot/tributary/a","Test":"TestBad"}
{"Action":"skip","Package":"github.com/tributary-iot/tributary/a/b","Test":"TestAway"}
{"Action":"skip","Package":"github.com/tributary-iot/tributary/a","Test":"TestPart/x"}
{"Action":"pass","Package":"github.com/tributary-iot/tributary/a","Test":"TestPart"}
not json
{"Action":"pass","Package":"github.com/tributary-iot/tributary/a"}
`)
	doc := write("doc.md", "| x | `a.TestGood`, `a.TestBad` |\n| y | `a/b.TestAway`, `a.TestPart` |\n| z | `a.TestNever`, `a.TestGood` |\n")
	missing, held, err := look(events, []string{doc})
	want := []string{doc + ": a.TestBad: fail", doc + ": a.TestNever did not run", doc + ": a.TestPart: its part x was skipped", doc + ": a/b.TestAway: skip"}
	if err != nil || held != 1 || !slices.Equal(missing, want) {
		t.Errorf("%d, %v\n%q", held, err, missing)
	}
}
