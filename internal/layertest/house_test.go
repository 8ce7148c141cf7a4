package layertest

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// maxLines is how long a file may be. Most are 80 to 150 lines; one that
// nears the limit holds two ideas.
const maxLines = 600

// listed is what `go list -json` says of a package.
type listed struct {
	Dir, ImportPath, Name             string
	GoFiles, CgoFiles, IgnoredGoFiles []string
	TestGoFiles, XTestGoFiles         []string
	Imports, TestImports              []string
	XTestImports                      []string
}

func TestLayers(t *testing.T) {
	var pkgs []pkg
	for _, p := range list(t) {
		found := pkg{path: p.ImportPath, imports: p.Imports, testImports: append(p.TestImports, p.XTestImports...)}
		for _, name := range p.IgnoredGoFiles { // for another system or build tag
			imports := importsOf(t, filepath.Join(p.Dir, name))
			if strings.HasSuffix(name, "_test.go") {
				found.testImports = append(found.testImports, imports...)
			} else {
				found.imports = append(found.imports, imports...)
			}
		}
		pkgs = append(pkgs, found)
	}
	for _, broken := range check(layers, pkgs) {
		t.Error(broken)
	}
}

func TestEveryPackageHasItsSentence(t *testing.T) {
	for _, p := range list(t) {
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command " + filepath.Base(p.Dir) + " "
		}
		opens := false
		for _, name := range append(p.GoFiles, p.CgoFiles...) {
			opens = opens || strings.HasPrefix(docOf(t, filepath.Join(p.Dir, name)), want)
		}
		if !opens && len(p.GoFiles)+len(p.CgoFiles) > 0 {
			t.Errorf("%s has no package sentence: open one of its files with a comment that begins %q", local(p.ImportPath), want)
		}
	}
}

func TestNoFileIsTooLong(t *testing.T) {
	for _, p := range list(t) {
		for _, names := range [][]string{p.GoFiles, p.CgoFiles, p.IgnoredGoFiles, p.TestGoFiles, p.XTestGoFiles} {
			for _, name := range names {
				if strings.HasSuffix(name, ".pb.go") || strings.HasSuffix(name, ".pb.gw.go") {
					continue
				}
				text, err := os.ReadFile(filepath.Join(p.Dir, name))
				if err != nil {
					t.Fatal(err)
				}
				if n := bytes.Count(text, []byte("\n")); n > maxLines {
					t.Errorf("%s/%s has %d lines, the limit is %d: give its second idea a file of its own", local(p.ImportPath), name, n, maxLines)
				}
			}
		}
	}
}

// list answers every package of the module, from one run of go list.
func list(t *testing.T) []listed {
	t.Helper()
	pkgs, err := listOnce()
	if err != nil {
		t.Fatal(err)
	}
	return pkgs
}

var listOnce = sync.OnceValues(func() ([]listed, error) {
	// -e: what does not build is for the compiler to say, not for this test.
	cmd := exec.Command("go", "list", "-e", "-pgo=off", "-json", module+"/...") // with a profile, what main imports has names of its own
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.New("go list: " + err.Error() + ": " + stderr.String())
	}
	var pkgs []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); err == io.EOF {
			return pkgs, nil
		} else if err != nil {
			return nil, err
		}
		pkgs = append(pkgs, p)
	}
})

func parse(t *testing.T, file string, mode parser.Mode) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, mode)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func docOf(t *testing.T, file string) string {
	t.Helper()
	return parse(t, file, parser.PackageClauseOnly|parser.ParseComments).Doc.Text()
}

func importsOf(t *testing.T, file string) []string {
	t.Helper()
	var paths []string
	for _, spec := range parse(t, file, parser.ImportsOnly).Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}
