package options

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Example is a commented configuration file with every option of a command:
// read as it is, it changes no default; each option is a line that begins with
// # and its key, to be uncommented and edited. Lists come last, each with an item.
func Example(command *kong.Node, head string, lists ...List) string {
	var b strings.Builder
	comment(&b, "", head)
	group, section := "", ""
	for _, o := range Of(command) {
		if o.Key == "" || o.flag.Hidden {
			continue
		}
		if g := o.flag.Group; g != nil && g.Key != group {
			group, section = g.Key, ""
			fmt.Fprintf(&b, "\n# --- %s\n", strings.TrimSuffix(g.Title, ":"))
			comment(&b, "", g.Description)
		}
		above, name, nested := strings.Cut(o.Key, ".")
		if !nested {
			above, name = "", o.Key
		}
		b.WriteByte('\n')
		if above != section && nested {
			fmt.Fprintf(&b, "%s:\n", above)
		}
		section = above
		indent := ""
		if nested {
			indent = "  "
		}
		comment(&b, indent, o.help())
		fmt.Fprintf(&b, "%s#%s: %s\n", indent, name, o.sample())
	}
	for _, l := range lists {
		l.example(&b)
	}
	return b.String()
}

// commentedOut is a line of the example that holds an option; prose has a space
// after its #.
var commentedOut = regexp.MustCompile(`(?m)^( *)#([a-z]|- [a-z])`)

// Uncommented is an example with every option said.
func Uncommented(example string) string { return commentedOut.ReplaceAllString(example, "$1$2") }

// help is the flag's help with what values there are.
func (o Option) help() string {
	text := o.flag.Help
	if lacks := func(v string) bool { return !strings.Contains(text, v) }; slices.ContainsFunc(o.flag.EnumSlice(), lacks) {
		text += " One of: " + strings.Join(o.flag.EnumSlice(), ", ") + "."
	}
	if o.flag.Tag.Get("min") != "" || o.flag.Tag.Get("max") != "" {
		text += " " + strings.ToUpper(o.between()[:1]) + o.between()[1:] + "."
	}
	return text
}

// sample is the default, or what the placeholder shows in its place.
func (o Option) sample() string {
	switch {
	case o.flag.Default != "":
		return quoted(o.flag.Default)
	case o.flag.IsBool():
		return "false"
	case o.flag.Tag.Has("example"):
		return quoted(o.flag.Tag.Get("example"))
	}
	return o.flag.FormatPlaceHolder()
}

// quoted is text as YAML reads it back: plain where that is safe.
func quoted(text string) string {
	if strings.ContainsAny(text, "#{}[]&*!|>'\"%@`,") || strings.Contains(text, ": ") {
		return "'" + strings.ReplaceAll(text, "'", "''") + "'"
	}
	return text
}

// width is where comments wrap.
const width = 78

func comment(b *strings.Builder, indent, text string) {
	for _, paragraph := range strings.Split(strings.TrimSpace(text), "\n") {
		line := indent + "#"
		for _, word := range strings.Fields(paragraph) {
			if len(line)+1+len(word) > width {
				fmt.Fprintln(b, line)
				line = indent + "#"
			}
			line += " " + word
		}
		if text != "" {
			fmt.Fprintln(b, line)
		}
	}
}
