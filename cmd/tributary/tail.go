package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/alecthomas/kong"

	"github.com/tributary-iot/tributary/api"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// tailCmd is `tributary tail`.
type tailCmd struct {
	clientFlags
	Device string `env:"-" placeholder:"DEVICE" help:"Only of this device: NAME, or NAME@TENANT. Default: every device of the tenant."`
	From   string `env:"-" placeholder:"POSITION" help:"Begin after this message: the position that -o json shows. Default: begin now."`
}

// Help is shown by `tributary tail --help`.
func (tailCmd) Help() string {
	return `Runs until Ctrl-C. When the server goes away it ends with exit code 1 and says
how to take up the thread where it was.

Example:
  tributary tail --device thermo-1 -o json`
}

// Run prints messages until the context or the server ends.
func (t *tailCmd) Run(ctx context.Context, app *kong.Context) error {
	id, err := t.deviceOrAny(t.Device)
	if err != nil {
		return err
	}
	return t.with(app, func(c *client) error {
		position := t.From
		err := c.tail(ctx, &pb.SubscribeRequest{Parent: api.DeviceName(id.Tenant, id.Device), Position: t.From}, &position)
		if ctx.Err() != nil {
			return nil
		}
		if position != "" && position != t.From {
			c.out.note("Go on where this ended with --from %s", position)
		}
		return err
	})
}

// tail prints a subscription and keeps the position of what was printed last.
func (c *client) tail(ctx context.Context, req *pb.SubscribeRequest, position *string) error {
	stream, err := c.telemetry.Subscribe(ctx, req)
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return errors.New("the server ended the subscription; try again")
		}
		if err != nil {
			return err
		}
		if err := c.tailLine(m); err != nil {
			return fmt.Errorf("cannot print: %w", err)
		}
		*position = m.GetPosition()
	}
}

func (c *client) tailLine(m *pb.Message) error {
	if c.out.json {
		return c.out.object(m)
	}
	address := m.GetDevice()
	if m.GetChannel() != "" {
		address += "/" + m.GetChannel()
	}
	return c.out.line("%s  %-4s  %s  %s", clock(m.GetReceivedAt()), m.GetProtocol(), address, values(m))
}
