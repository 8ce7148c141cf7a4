package layertest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// named finds `package/path.TestName` in a document.
var named = regexp.MustCompile("`([a-z0-9_/]+)\\.(Test[A-Za-z0-9]+)`")

// TestReferenceNamesTests: every line of docs/reference.md is held by a test
// that is there, until the heading of what is not there yet.
func TestReferenceNamesTests(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root, "docs/reference.md"))
	if err != nil {
		t.Fatal(err)
	}
	held, _, found := strings.Cut(string(raw), "\n## Not yet\n")
	if !found {
		t.Fatal("docs/reference.md has no heading for what is not there yet")
	}
	heldByTests(t, held, "| what ", 50)
}

// TestAMQPConformanceNamesTests: the same for the requirements in docs/amqp.md,
// which name the file as well.
func TestAMQPConformanceNamesTests(t *testing.T) { conforms(t, "amqp") }

// TestMQTTConformanceNamesTests: the same for those in docs/mqtt.md.
func TestMQTTConformanceNamesTests(t *testing.T) { conforms(t, "mqtt") }

func conforms(t *testing.T, door string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, "docs", door+".md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(raw), "\n## Conformance\n")
	if !found {
		t.Fatalf("docs/%s.md has no heading for its table", door)
	}
	heldByTests(t, table, "| section ", 50)
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| section ") || len(cells) < 6 {
			continue
		}
		for _, name := range strings.Split(cells[3], ",") {
			file := strings.Trim(strings.TrimSpace(name), "`")
			if _, err := os.Stat(filepath.Join(root, "adapters", door, file)); err != nil {
				t.Errorf("%v, which is to hold: %s", err, line)
			}
		}
	}
}

// heldByTests checks the lines of a document's tables, whose heads begin with
// head: each names tests that are there.
func heldByTests(t *testing.T, text, head string, least int) {
	t.Helper()
	tests := map[string]map[string]bool{}
	lines := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, head) {
			continue
		}
		lines++
		names := named.FindAllStringSubmatch(line, -1)
		if len(names) == 0 {
			t.Errorf("no test holds this: %s", line)
		}
		for _, n := range names {
			if tests[n[1]] == nil {
				tests[n[1]] = testsOf(t, n[1])
			}
			if !tests[n[1]][n[2]] {
				t.Errorf("there is no %s in %s, which is to hold: %s", n[2], n[1], line)
			}
		}
	}
	if lines < least {
		t.Errorf("%d lines were looked at", lines)
	}
}

// testsOf is the test functions of a package.
func testsOf(t *testing.T, pkg string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				found[f.Name.Name] = true
			}
		}
	}
	return found
}
