package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kong"

	"github.com/tributary-iot/tributary/internal/options"
)

// configCmd is `tributary config`.
type configCmd struct {
	Check   configCheckCmd   `cmd:"" help:"Say what is wrong with a configuration, or what it would run."`
	Example configExampleCmd `cmd:"" help:"Print a commented configuration file with every option."`
}

type configCheckCmd struct {
	File string `arg:"" optional:"" help:"The configuration file. Default: the one TRIBUTARY_CONFIG names; none: the environment alone."`
}

// Help is shown by `tributary config check --help`.
func (configCheckCmd) Help() string {
	return `Reads the file and the environment as "tributary serve --config FILE" would, and
opens nothing. Each mistake is a line FILE:LINE:COLUMN: what is wrong, and what to
say instead; the exit code is 2 then. Without a mistake it prints every option,
its value and where it was said. Passwords in URLs are not printed.

Example:
  tributary config check /etc/tributary.yaml`
}

// Run checks, and prints the options when they are sound.
func (c *configCheckCmd) Run(app *kong.Context, env options.Environment) error {
	var args []string
	if c.File != "" {
		args = []string{"--config", c.File}
	}
	s, err := settleServe(env, args...)
	if err != nil {
		return err
	}
	for _, v := range s.settled.Strange {
		fmt.Fprintln(app.Stderr, "warning:", strangerText(v))
	}
	if err := s.settled.Err(); err != nil {
		return err
	}
	fmt.Fprintf(app.Stdout, "Nothing is wrong. `%s` would run with:\n\n", strings.Join(append([]string{"tributary", "serve"}, args...), " "))
	return printValues(app.Stdout, s.settled.Values())
}

// strangerText says what to make of a variable nobody reads.
func strangerText(v options.Stranger) string {
	if v.Meant == "" {
		return v.Name + ": this environment variable is no option"
	}
	return v.Name + ": this environment variable is no option; did you mean " + v.Meant + "?"
}

func printValues(out io.Writer, all []options.Value) error {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "OPTION\tVALUE\tSAID BY")
	for _, v := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\n", v.Name, orDash(v.Text), v.From)
	}
	return table.Flush()
}

type configExampleCmd struct{}

// Help is shown by `tributary config example --help`.
func (configExampleCmd) Help() string {
	return `Every option is a line that begins with # and its key, with its default; as it
is, the file changes nothing.

Example:
  tributary config example > tributary.yaml`
}

// exampleHead opens the example.
const exampleHead = `A configuration of "tributary serve --config FILE". Every option there is stands here with its default, commented out: take the # away and edit.
"tributary config check FILE" says what is wrong with a file, or what it would run.
An environment variable says more than this file, and a flag more than that: stream.keep_bytes is TRIBUTARY_STREAM_KEEP_BYTES and --stream-keep-bytes.
Sizes are bytes, or whole numbers with KiB, MiB, GiB, TiB. Times are numbers with d, h, m, s, ms: 7d, 1h30m, 30s. Relative paths begin in the directory the server is started in.`

// Run prints the example.
func (configExampleCmd) Run(app *kong.Context) error {
	_, err := io.WriteString(app.Stdout, exampleOf(app.Model.Node))
	return err
}

// exampleOf is the example of a parser's model.
func exampleOf(model *kong.Node) string {
	return options.Example(serveNode(model), exampleHead, new(serveConfig).lists()...)
}

// serveNode is the command whose flags are the options.
func serveNode(model *kong.Node) *kong.Node {
	for _, n := range model.Children {
		if n.Name == "serve" {
			return n
		}
	}
	return nil
}
