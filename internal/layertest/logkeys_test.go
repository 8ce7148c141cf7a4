package layertest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestLogKeysAreDocumented: the keys of all log lines are those docs/operations.md
// lists, so that one thing has one name in the log of every room.
func TestLogKeysAreDocumented(t *testing.T) {
	const root = "../.."
	text, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Log lines\n")
	section, _, _ = strings.Cut(section, "\n## ")
	listed := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| ((?:`\\w+`(?:, )?)+) \\| .+ \\|$").FindAllStringSubmatch(section, -1) {
		for _, key := range regexp.MustCompile(`\w+`).FindAllString(row[1], -1) {
			listed[key] = true
		}
	}
	used := map[string]string{} // key: where
	calls := 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".pb.go") {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if args := logged(set, call); args != nil {
					calls++
					keys(t, set, args, used)
				}
			}
			return true
		})
		return nil
	})
	if err != nil || calls < 20 {
		t.Fatalf("%d log lines found, %v", calls, err)
	}
	for _, key := range slices.Sorted(maps.Keys(used)) {
		if !listed[key] {
			t.Errorf("%s: the key %q is not in docs/operations.md: use one that is, or add its row", used[key], key)
		}
	}
	for key := range listed {
		if used[key] == "" {
			t.Errorf("docs/operations.md lists the key %s, which no log line has", key)
		}
	}
}

var (
	aLogger = regexp.MustCompile(`(?i)(^|\.)(log|logger|slog)(\([^()]*\))?$`)
	levels  = map[string]bool{"Debug": true, "Info": true, "Warn": true, "Error": true, "With": true}
)

// logged answers the keys and values of a log line; nil for another call.
func logged(set *token.FileSet, call *ast.CallExpr) []ast.Expr {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !levels[method.Sel.Name] {
		return nil
	}
	var who bytes.Buffer
	if printer.Fprint(&who, set, method.X) != nil || !aLogger.MatchString(who.String()) {
		return nil
	}
	if method.Sel.Name == "With" {
		return call.Args
	}
	return call.Args[1:]
}

// keys enters the keys among the arguments of a log line.
func keys(t *testing.T, set *token.FileSet, args []ast.Expr, used map[string]string) {
	for i := 0; i < len(args); i++ {
		where := set.Position(args[i].Pos()).String()
		switch arg := args[i].(type) {
		case *ast.BasicLit:
			key, err := strconv.Unquote(arg.Value)
			if err != nil {
				t.Errorf("%s: %v", where, err)
			}
			used[key] = where
			i++ // its value
		case *ast.CallExpr:
			if method, ok := arg.Fun.(*ast.SelectorExpr); ok && method.Sel.Name == "Log" { // device.ID
				used["tenant"], used["device"] = where, where
				continue
			}
			t.Errorf("%s: this attribute's key cannot be told; say it as text", where)
		default:
			t.Errorf("%s: this key is not plain text", where)
		}
	}
}
