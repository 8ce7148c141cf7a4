package layertest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	fuzzTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	fuzzRow    = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (Fuzz\\w+) \\| .+ \\|$")
)

// TestEveryFuzzTargetIsDocumented compares docs/testing.md with the tree: every
// target it names exists, every target that exists is named, and no corpus is
// left of a target that is gone.
func TestEveryFuzzTargetIsDocumented(t *testing.T) {
	const root = "../.."
	listed := map[string]bool{}
	text, err := os.ReadFile(filepath.Join(root, "docs", "testing.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range fuzzRow.FindAllStringSubmatch(string(text), -1) {
		listed[row[1]+" "+row[2]] = true
	}
	found, corpora := map[string]bool{}, map[string]bool{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		local, _ := filepath.Rel(root, path)
		local = filepath.ToSlash(local)
		switch {
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git"):
			return filepath.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, "_test.go"):
			code, err := os.ReadFile(path)
			for _, m := range fuzzTarget.FindAllSubmatch(code, -1) {
				found[filepath.ToSlash(filepath.Dir(local))+" "+string(m[1])] = true
			}
			return err
		case d.IsDir() && strings.Contains(local, "/testdata/fuzz/"):
			corpora[strings.Replace(local, "/testdata/fuzz/", " ", 1)] = true
		}
		return nil
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("%d fuzz targets, %v", len(found), err)
	}
	for name := range found {
		if !listed[name] {
			t.Errorf("docs/testing.md does not say what %s holds: add its row", name)
		}
	}
	for name := range listed {
		if !found[name] {
			t.Errorf("docs/testing.md names %s, which does not exist: remove the row or write the target", name)
		}
	}
	for name := range corpora {
		if !found[name] {
			t.Errorf("testdata/fuzz has a corpus of %s, which does not exist", name)
		}
	}
}
