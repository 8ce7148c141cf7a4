package main

import (
	"context"
	"errors"
	"path"
	"strconv"

	"github.com/alecthomas/kong"

	"github.com/tributary-iot/tributary/api"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// bridgeCmd is `tributary bridge`.
type bridgeCmd struct {
	Status bridgeStatusCmd `cmd:"" help:"Print how the bridges of a tenant are, and what passed them."`
}

type bridgeStatusCmd struct{ clientFlags }

// Help is shown by "tributary bridge status --help".
func (bridgeStatusCmd) Help() string {
	return `Asks the server for the bridges it runs: whether each is connected to its broker,
why not, and what passed it since the server started. With several nodes, each
tells of its own. The exit code is 1 when a bridge is not up.

Example:
  tributary bridge status
  tributary bridge status --tenant acme -o json`
}

// errBridgeDown only chooses the exit code; the table has said the rest.
var errBridgeDown = errors.New("a bridge is not up")

// Run asks and prints.
func (b *bridgeStatusCmd) Run(ctx context.Context, app *kong.Context) error {
	return b.with(app, func(c *client) error {
		found, err := pb.NewBridgeServiceClient(c.conn).ListBridges(ctx, &pb.ListBridgesRequest{Parent: api.TenantName(b.Tenant)})
		if err != nil {
			return err
		}
		c.out.head("BRIDGE", "STATE", "SINCE", "RECEIVED", "ACCEPTED", "REJECTED", "RELEASED", "IN FLIGHT", "DEVICES", "COMMANDS", "ANSWERS", "BROKER", "ERROR")
		var down error
		for _, one := range found.GetBridges() {
			if one.GetState() != "up" {
				down = errBridgeDown
			}
			if err := c.bridge(one); err != nil {
				return err
			}
		}
		if len(found.GetBridges()) == 0 {
			c.out.none("The server runs no bridges of tenant %q: they are configured in its file, see docs/bridge.md.", b.Tenant)
		}
		return down
	})
}

func (c *client) bridge(b *pb.Bridge) error {
	if c.out.json {
		return c.out.object(b)
	}
	count := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return c.out.row(path.Base(b.GetName()), b.GetState(), moment(b.GetSince()), count(b.GetReceived()), count(b.GetAccepted()), count(b.GetRejected()),
		count(b.GetReleased()), count(b.GetInFlight()), count(b.GetDevices()), count(b.GetCommandsOut()), count(b.GetAnswers()), b.GetUrl(), orDash(b.GetError()))
}
