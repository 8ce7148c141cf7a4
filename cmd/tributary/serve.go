package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/pprof"

	"github.com/alecthomas/kong"

	"github.com/tributary-iot/tributary/internal/options"
)

// serveCmd runs the server.
type serveCmd struct {
	serveConfig

	settled *options.Settled
}

// Help is shown by `tributary serve --help`.
func (serveCmd) Help() string {
	return `Runs every door, the stream, the store and the command service in this process.
Once all listeners are ready their addresses are in DIR/addresses.json, and the
operator's token, made on the first start, is in DIR/admin.token; the client
subcommands find both through --data.

Every option below is also a key in the YAML file that --config names, and an
environment variable: --stream-keep-bytes is TRIBUTARY_STREAM_KEEP_BYTES. A flag
says more than the environment, the environment more than the file. "tributary
config example" prints a file with every key. Sizes are bytes, or 64KiB, 1MiB,
4GiB; times are 30s, 5m, 1h30m, 7d.

SIGTERM and Ctrl-C drain: nothing new is accepted, what was accepted is stored
and acknowledged, and the exit code is 0. A second signal stops at once.

Examples:
  tributary serve --data ./data --open
    lets devices in without credentials, from this machine only
  tributary serve --config /etc/tributary.yaml
    serves as the file says; "tributary config check" says whether it is sound`
}

// AfterApply hears the environment and the file, once the flags are read.
func (s *serveCmd) AfterApply(app *kong.Context, env options.Environment) error {
	if s.Config == "" {
		s.Config = env[options.Prefix+"CONFIG"]
	}
	s.settled = options.Settle(app, s.Config, env, s.lists()...)
	if s.Open {
		s.keepInside(s.settled.Said)
	}
	s.settled.Add(s.validate())
	return nil
}

// Run serves until the context ends.
func (s *serveCmd) Run(ctx context.Context) error {
	if err := s.settled.Err(); err != nil {
		return err
	}
	log := s.logger()
	warnOfStrangers(log, s.settled.Strange)
	for _, v := range s.settled.Values() {
		if v.From != "default" {
			log.Debug("option", "option", v.Name, "value", v.Text, "said_by", v.From)
		}
	}
	profiled, err := profileCPU(s.CPUProfile)
	if err != nil {
		return err
	}
	defer profiled()
	h, err := openHouse(ctx, s.serveConfig, log)
	if err != nil {
		return err
	}
	return h.serve(ctx)
}

// profileCPU begins to write a profile to a file, unless it has no name; done ends it.
func profileCPU(name string) (done func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("--cpu-profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("--cpu-profile: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}

// warnOfStrangers tells of variables that look like options. They do not stop
// the server: an orchestrator sets variables nobody asked for.
func warnOfStrangers(log *slog.Logger, all []options.Stranger) {
	for _, v := range all {
		log.Warn("an environment variable looks like an option and is none", "variable", v.Name, "meant", v.Meant)
	}
}

// settleServe reads flags and env as `tributary serve` would.
func settleServe(env options.Environment, args ...string) (*serveCmd, error) {
	var c cli
	parser, err := newParser(&c, env)
	if err != nil {
		return nil, fmt.Errorf("serve: %w", err)
	}
	if _, err := parser.Parse(append([]string{"serve"}, args...)); err != nil {
		return nil, fmt.Errorf("serve: %w", err)
	}
	return &c.Serve, nil
}

// parseServe is settleServe with flags alone, refusing what is wrong.
func parseServe(args ...string) (serveConfig, error) {
	s, err := settleServe(nil, args...)
	if err != nil {
		return serveConfig{}, err
	}
	return s.serveConfig, s.settled.Err()
}
