package main

import (
	"context"
	"fmt"

	"github.com/alecthomas/kong"
)

// serveCmd runs the server.
type serveCmd struct {
	serveConfig
}

// Help is shown by `tributary serve --help`.
func (serveCmd) Help() string {
	return `Runs every door, the stream, the store and the command service in this process.
Once all listeners are ready their addresses are in DIR/addresses.json, and the
operator's token, made on the first start, is in DIR/admin.token; the client
subcommands find both through --data.

SIGTERM and Ctrl-C drain: nothing new is accepted, what was accepted is stored
and acknowledged, and the exit code is 0. A second signal stops at once.

Example, letting devices in without credentials on this machine only:
  tributary serve --data ./data --open`
}

// Run serves until the context ends.
func (s *serveCmd) Run(ctx context.Context) error {
	log := s.logger()
	h, err := openHouse(ctx, s.serveConfig, log)
	if err != nil {
		return err
	}
	return h.serve(ctx)
}

// parseServe reads flags as `tributary serve` would, defaults and environment included.
func parseServe(args ...string) (serveConfig, error) {
	var c serveCmd
	parser, err := kong.New(&c, kong.Name("tributary serve"), kong.DefaultEnvars("TRIBUTARY"), kong.Exit(func(int) {}))
	if err != nil {
		return serveConfig{}, fmt.Errorf("serve: %w", err)
	}
	if _, err := parser.Parse(args); err != nil {
		return serveConfig{}, fmt.Errorf("serve: %w", err)
	}
	return c.serveConfig, nil
}
