// Command tributary gives every device a front door in its own protocol, keeps
// what comes in durably, and carries commands back out. `tributary serve` is
// the server, `tributary demo` shows it at work, the other subcommands are its
// clients.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/tributary-iot/tributary/internal/options"
)

// cli is everything that can be said on the command line.
type cli struct {
	Serve  serveCmd  `cmd:"" group:"server" help:"Run the server."`
	Config configCmd `cmd:"" group:"server" help:"Check a configuration file, or print one to begin with."`
	Demo   demoCmd   `cmd:"" group:"server" help:"Run the server with simulated thermostats on every protocol."`
	Bench  benchCmd  `cmd:"" group:"server" help:"Measure this machine: acked messages a second, latency, rows."`

	clientCommands `embed:"" group:"client"`

	Version kong.VersionFlag `env:"-" help:"Print the version and exit."`
}

func main() {
	os.Exit(run(os.Args[1:]))
}

// run parses and runs one command and answers the exit code: 0 done, 1 failed,
// 2 the command line was wrong. Subcommands may choose others (see exitCode).
func run(args []string) int {
	var c cli
	parser, err := newParser(&c, options.EnvironmentOf(os.Environ()))
	if err != nil {
		fmt.Fprintln(os.Stderr, "tributary:", err)
		return 2
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	chosen, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "tributary: %v; `%s --help` says what can be said\n", options.Redact(err.Error()), wanted(err))
		return 2
	}
	// The first signal asks for a clean end; the second one is not caught.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	defer stop()
	chosen.BindTo(ctx, (*context.Context)(nil))
	if err := chosen.Run(); err != nil {
		return report(err)
	}
	return 0
}

// newParser reads command lines into c, with the options of serve from env, too.
func newParser(c *cli, env options.Environment) (*kong.Kong, error) {
	groups := append([]kong.Group{{Key: "server", Title: "Server"}, {Key: "client", Title: "Client"}}, serveGroups()...)
	return kong.New(c, append(options.Kong(),
		kong.Name("tributary"),
		kong.Description("One front door for every device: MQTT, AMQP 1.0 and HTTP in, one durable stream, one store, commands back out."),
		kong.ValueFormatter(helpOf),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, Tree: true}),
		kong.ExplicitGroups(groups),
		kong.Bind(env),
		kong.Vars{"version": version()},
	)...)
}

// helpOf is a flag's help with its default, which kong leaves out beside a placeholder.
func helpOf(v *kong.Value) string {
	if v.HasDefault && v.Tag.PlaceHolder != "" && v.Default != off && v.Default != "0s" && v.Default != "0" {
		copied := *v
		copied.Help += " Default: " + v.Default + "."
		v = &copied
	}
	return kong.DefaultHelpValueFormatter(v)
}

// wanted is the command that a wrong command line was about.
func wanted(err error) string {
	var wrong *kong.ParseError
	if errors.As(err, &wrong) && wrong.Context != nil && wrong.Context.Selected() != nil {
		return "tributary " + wrong.Context.Selected().Path()
	}
	return "tributary"
}

// exitCoder is an error that chooses the program's exit code.
type exitCoder interface {
	error
	ExitCode() int
}

func report(err error) int {
	var wrong options.Problems
	if errors.As(err, &wrong) { // lines that begin with a place stay as they are: editors jump there
		fmt.Fprintf(os.Stderr, "%v\ntributary: the configuration has mistakes: %d\n", wrong, len(wrong))
		return wrong.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "tributary:", options.Redact(err.Error()))
	var chosen exitCoder
	if errors.As(err, &chosen) {
		return chosen.ExitCode()
	}
	return 1
}

// version is the module's version, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "tributary (unknown build)"
	}
	text := "tributary " + info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			text += " " + s.Value
		}
	}
	return text + " " + info.GoVersion
}
