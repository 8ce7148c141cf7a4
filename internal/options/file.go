package options

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxFile bounds a configuration file; the longest sensible one has a few kilobytes.
const maxFile = 1 << 20

// entry is one key of the file with its value as text.
type entry struct {
	key, text string
	at        place // of the value
}

// place is where something was said.
type place struct {
	text         string // FILE:LINE:COLUMN, a variable, or a flag with its dashes
	line, column int    // of the file
}

func (p place) problem(format string, args ...any) Problem {
	return Problem{At: p.text, Text: fmt.Sprintf(format, args...), line: p.line, column: p.column}
}

// file is a configuration file being read.
type file struct {
	name     string
	options  map[string]bool     // the keys there are
	sections map[string][]string // what stands above keys, with the names below it; "" is the top
	lists    []List
	entries  []entry
	items    []itemOf
	problems Problems
}

// readFile answers the file read: its entries that are keys of options, its items
// of lists, and what is wrong with the rest.
func readFile(name string, all []Option, lists []List) *file {
	src, err := slurp(name)
	if err != nil {
		return &file{problems: Problems{{Text: fmt.Sprintf("the configuration file cannot be read: %v", err)}}}
	}
	return parse(name, src, all, lists)
}

func slurp(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(src) > maxFile {
		err = fmt.Errorf("%s is larger than %s", name, showSize(maxFile))
	}
	return src, err
}

// newFile is a file that may hold these options and lists.
func newFile(name string, all []Option, lists []List) *file {
	f := &file{name: name, options: map[string]bool{}, sections: map[string][]string{}, lists: lists}
	for _, o := range all {
		if o.Key == "" {
			continue
		}
		f.options[o.Key] = true
		for above, below, more := "", o.Key, true; more; {
			var next string
			next, below, more = strings.Cut(below, ".")
			if !slices.Contains(f.sections[above], next) {
				f.sections[above] = append(f.sections[above], next)
			}
			above = join(above, next)
		}
	}
	for _, l := range lists {
		f.sections[""] = append(f.sections[""], l.Key)
	}
	return f
}

func parse(name string, src []byte, all []Option, lists []List) *file {
	f := newFile(name, all, lists)
	if !utf8.Valid(src) {
		f.problems = Problems{{At: name, Text: "this is not text in UTF-8"}}
		return f
	}
	doc, problem := document(name, src)
	if problem != nil {
		f.problems = Problems{*problem}
		return f
	}
	if doc != nil {
		f.section("", doc)
	}
	return f
}

// document answers the one document of a file; nil for an empty one.
func document(name string, src []byte) (body ast.Node, problem *Problem) {
	defer func() {
		if recover() != nil { // the YAML parser's own mistake
			body, problem = nil, &Problem{At: name, Text: "this is not YAML"}
		}
	}()
	tree, err := parser.ParseBytes(src, 0)
	if err != nil {
		var told yaml.Error
		if errors.As(err, &told) && told.GetToken() != nil {
			// The message alone: the source beside it might hold a secret.
			problem := at(name, told.GetToken()).problem("this is not YAML: %s", told.GetMessage())
			return nil, &problem
		}
		return nil, &Problem{At: name, Text: "this is not YAML"}
	}
	for _, d := range tree.Docs {
		switch {
		case d.Body == nil || d.Body.Type() == ast.DirectiveType || d.Body.Type() == ast.CommentType:
		case body != nil:
			problem := at(name, d.Body.GetToken()).problem("a second document begins here: there is room for one")
			return nil, &problem
		default:
			body = d.Body
		}
	}
	return body, nil
}

func at(name string, t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{text: name}
	}
	line, column := t.Position.Line, t.Position.Column
	return place{fmt.Sprintf("%s:%d:%d", name, line, column), line, column}
}

func (f *file) wrong(n ast.Node, format string, args ...any) {
	f.problems = append(f.problems, at(f.name, n.GetToken()).problem(format, args...))
}

// section reads the keys below one key, or those at the top.
func (f *file) section(path string, n ast.Node) {
	names := strings.Join(f.sections[path], ", ")
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, pair := range n.Values {
			f.pair(path, pair)
		}
	case *ast.MappingValueNode:
		f.pair(path, n)
	case *ast.NullNode: // a section whose keys are all commented out
	default:
		if path == "" {
			f.wrong(n, "a configuration is keys with values, one a line: data: /var/lib/tributary")
			return
		}
		f.wrong(n, "%s is a section and takes no value itself; the keys below it: %s", path, names)
	}
}

func (f *file) pair(above string, pair *ast.MappingValueNode) {
	key, ok := pair.Key.(*ast.StringNode)
	if !ok {
		f.wrong(pair.Key, "a key is a plain word")
		return
	}
	path := join(above, key.Value)
	for _, l := range f.lists {
		if l.Key == path {
			f.list(l, pair.Value)
			return
		}
	}
	switch {
	case strings.Contains(key.Value, "."):
		f.unknown(key, above)
	case f.options[path]:
		f.value(path, key, pair.Value)
	case f.sections[path] != nil:
		f.section(path, pair.Value)
	default:
		f.unknown(key, above)
	}
}

// value takes an option's value, as the text a flag would have.
func (f *file) value(path string, key, n ast.Node) {
	switch n := n.(type) {
	case *ast.NullNode:
		f.wrong(key, "%s has no value: give it one, or take the line away", path)
	case *ast.MappingNode, *ast.MappingValueNode:
		f.wrong(n, "%s takes one value and has no keys below it", path)
	case *ast.SequenceNode:
		var parts []string
		for _, item := range n.Values {
			text, ok := scalar(item)
			if !ok {
				f.wrong(item, "%s is a list of plain values", path)
				return
			}
			parts = append(parts, strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(text))
		}
		f.entries = append(f.entries, entry{path, strings.Join(parts, ","), at(f.name, n.GetToken())})
	default:
		text, ok := scalar(n)
		if !ok {
			f.wrong(n, "%s: say the value plainly; anchors, aliases and tags mean nothing here", path)
			return
		}
		f.entries = append(f.entries, entry{path, text, at(f.name, n.GetToken())})
	}
}

// scalar is a plain value's text, whatever YAML takes its type for: what a
// value means is the option's to say.
func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return strings.TrimRight(n.Value.Value, "\n"), true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// unknown says what a key that is none may have been meant to be.
func (f *file) unknown(key *ast.StringNode, above string) {
	where, meant := "", ""
	if above != "" {
		where = fmt.Sprintf(" below %q", above)
	}
	if near := nearest(key.Value, f.sections[above]); near != "" {
		meant = join(above, near)
	} else {
		meant = f.elsewhere(join(above, key.Value), key.Value)
	}
	hint := "the keys here: " + strings.Join(f.sections[above], ", ")
	if meant != "" {
		hint = "did you mean " + spelled(meant) + "?"
	}
	f.wrong(key, "unknown key %q%s; %s", Redact(key.Value), where, hint)
}

// elsewhere looks for a key in all sections: written as a flag, with dots, or
// one level too high or low.
func (f *file) elsewhere(path, name string) string {
	var keys []string
	for key := range f.options {
		if key == name || strings.HasSuffix(key, "."+name) {
			return key
		}
		keys = append(keys, key)
	}
	if near := nearest(path, keys); near != "" {
		return near
	}
	return nearest(name, keys)
}

// spelled is a key the way it is written.
func spelled(key string) string {
	if section, name, ok := strings.Cut(key, "."); ok {
		return fmt.Sprintf("%q below %q", name, section)
	}
	return fmt.Sprintf("%q", key)
}

func join(above, name string) string {
	if above == "" {
		return name
	}
	return above + "." + name
}
