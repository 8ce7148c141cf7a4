package options

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml/ast"
)

// List is a key of the file whose value is a list of items, each with keys of its
// own. Only the file holds lists: a flag or variable has one value. The fields of
// an item are tagged as flags are, and mean the same.
type List struct {
	Key   string // at the top of the file
	Title string // its heading in the example
	Help  string

	into reflect.Value // the slice
}

// ListOf makes a List whose items become those of into, a slice of structs.
func ListOf[T any](key, title, help string, into *[]T) List {
	return List{key, title, help, reflect.ValueOf(into).Elem()}
}

// maxItems bounds a list.
const maxItems = 100

// item is one item of a list, or the example of one.
type item struct {
	name  string // "bridges[0]"
	at    place
	value reflect.Value // a pointer to the struct
}

// make answers a new item with its defaults, and its options.
func (l List) make(name string, at place) (*item, []Option, error) {
	it := &item{name: name, at: at, value: reflect.New(l.into.Type().Elem())}
	parser, err := kong.New(it.value.Interface(), append(Kong(), kong.Name(l.Key), kong.NoDefaultHelp())...)
	if err != nil {
		return nil, nil, fmt.Errorf("items of %s: %w", l.Key, err)
	}
	if _, err := parser.Parse(nil); err != nil {
		return nil, nil, fmt.Errorf("items of %s: %w", l.Key, err)
	}
	all := Of(parser.Model.Node)
	for i := range all {
		all[i].Key, all[i].Env, all[i].item = name+"."+all[i].Key, "", it
	}
	return it, all, nil
}

// list reads the items below a list's key.
func (f *file) list(l List, n ast.Node) {
	switch n := n.(type) {
	case *ast.NullNode: // all items are commented out
	case *ast.SequenceNode:
		for i, one := range n.Values {
			if i == maxItems {
				f.wrong(one, "%s has more than %d items", l.Key, maxItems)
				return
			}
			f.item(l, fmt.Sprintf("%s[%d]", l.Key, i), one)
		}
	default:
		f.wrong(n, "%s is a list: begin each item with - and give it the keys %s", l.Key, strings.Join(l.names(), ", "))
	}
}

func (f *file) item(l List, name string, n ast.Node) {
	it, options, err := l.make(name, at(f.name, begin(n).GetToken()))
	if err != nil {
		f.wrong(n, "%v", err) // a fault of ours in the tags
		return
	}
	if _, empty := n.(*ast.NullNode); empty {
		f.wrong(n, "%s is empty: give it the keys %s", name, strings.Join(l.names(), ", "))
		return
	}
	inside := newFile(f.name, options, nil)
	inside.section(name, n)
	f.entries = append(f.entries, inside.entries...)
	f.problems = append(f.problems, inside.problems...)
	f.items = append(f.items, itemOf{l, it, options})
}

// begin is where an item begins: a mapping's own token is its first colon.
func begin(n ast.Node) ast.Node {
	switch n := n.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 {
			return n.Values[0].Key
		}
	case *ast.MappingValueNode:
		return n.Key
	}
	return n
}

// itemOf is an item that was read, with what it is made of.
type itemOf struct {
	list    List
	item    *item
	options []Option
}

// names are the keys an item may have.
func (l List) names() []string {
	_, options, err := l.make("", place{})
	if err != nil {
		return nil
	}
	var names []string
	for _, o := range options {
		names = append(names, strings.TrimPrefix(o.Key, "."))
	}
	return names
}

// example writes the list with one item, every key of it commented out.
func (l List) example(b *strings.Builder) {
	_, options, err := l.make("", place{})
	if err != nil {
		fmt.Fprintf(b, "\n# %v\n", err)
		return
	}
	fmt.Fprintf(b, "\n# --- %s\n", strings.TrimSuffix(l.Title, ":"))
	comment(b, "", l.Help)
	fmt.Fprintf(b, "\n%s:\n", l.Key)
	for i, o := range options {
		indent, dash := "    ", ""
		if i == 0 {
			indent, dash = "  ", "- "
		}
		comment(b, indent, o.help())
		fmt.Fprintf(b, "%s#%s%s: %s\n", indent, dash, strings.TrimPrefix(o.Key, "."), o.sample())
	}
}
