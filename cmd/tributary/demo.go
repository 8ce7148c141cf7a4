package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/tributary-iot/tributary/cmd/tributary/demo"
)

// demoCmd shows everything at once.
type demoCmd struct {
	For     time.Duration `placeholder:"D" help:"End by itself after this long, for example 20s. Default: Ctrl-C ends it."`
	PerDoor int           `name:"per-protocol" default:"3" placeholder:"N" help:"Thermostats on each protocol."`
}

// Help is shown by `tributary demo --help`.
func (demoCmd) Help() string {
	return `Runs the whole server in a temporary directory on free ports, with simulated
thermostats on MQTT, AMQP and HTTP and one rule that commands their heating.
At the end every message a thermostat saw acknowledged must come back through
a query, once; otherwise the exit code is 1.`
}

// Run plays the demo.
func (d *demoCmd) Run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "tributary-demo-")
	if err != nil {
		return fmt.Errorf("demo: no temporary directory: %w", err)
	}
	defer os.RemoveAll(dir)
	cfg, err := demoConfig(dir)
	if err != nil {
		return err
	}
	h, err := openHouse(ctx, cfg, cfg.logger())
	if err != nil {
		return err
	}
	// The server outlives the play: the verdict still has to query it.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- h.serve(serving) }()
	played := demo.Run(ctx, demo.Options{
		Addresses: h.addresses, Token: h.token, Data: dir, For: d.For, PerDoor: d.PerDoor, Out: os.Stdout,
	})
	stop()
	if err := <-ended; err != nil && played == nil {
		return err
	}
	return played
}

// demoConfig is the server's own default configuration on free ports, open,
// and quiet but for what goes wrong. What the environment says is for serve.
func demoConfig(dir string) (serveConfig, error) {
	return parseServe("--open", "--data", dir, "--log-level", "warn",
		"--mqtt", "127.0.0.1:0", "--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--mqtts", "127.0.0.1:0", "--amqps", "127.0.0.1:0", "--https", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0")
}
