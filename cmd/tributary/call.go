package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/alecthomas/kong"

	"github.com/tributary-iot/tributary/api"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// callCmd is `tributary call`.
type callCmd struct {
	clientFlags
	Device      string        `arg:"" help:"The device: NAME, or NAME@TENANT."`
	Name        string        `arg:"" help:"What it should do: at most 128 bytes, without / + #."`
	Payload     string        `arg:"" optional:"" help:"Text to send with it; @FILE sends a file, - standard input."`
	Timeout     time.Duration `env:"-" default:"30s" placeholder:"D" help:"Wait for the answer at most so long."`
	ContentType string        `env:"-" placeholder:"TYPE" help:"Default: application/json when the payload is JSON, else text/plain or application/octet-stream."`
}

// Help is shown by `tributary call --help`.
func (callCmd) Help() string {
	return `Sends a command and prints what the device answers. The command lives as long as
the call: when the time is over, or on Ctrl-C, it is cancelled unless the device
may have it already. The exit code says how it ended:

  0  the device answered with a 2xx status
  1  the device rejected the command, or did not answer in time
  3  the device answered with another status, which is printed on standard error

Example:
  tributary call thermo-1 reading --timeout 5s`
}

// Run calls and prints the answer.
func (k *callCmd) Run(ctx context.Context, app *kong.Context) error {
	id, err := k.device(k.Device)
	if err != nil {
		return err
	}
	body, err := readPayload(k.Payload, os.Stdin)
	if err != nil {
		return err
	}
	req := &pb.CallRequest{
		Parent: api.DeviceName(id.Tenant, id.Device), Command: k.Name, Payload: body,
		ContentType: contentType(k.ContentType, body), Timeout: optional(k.Timeout),
	}
	return k.with(app, func(c *client) error {
		answer, err := c.commands.Call(ctx, req)
		if err != nil {
			return err
		}
		if c.out.json {
			err = c.out.object(answer)
		} else if text := payload(answer.GetPayload()); text != "" {
			err = c.out.line("%s", text)
		}
		if s := answer.GetStatus(); err == nil && (s < 200 || s > 299) {
			err = &exitError{exitNotDone, fmt.Sprintf("the device answered with status %d", s)}
		}
		return err
	})
}
