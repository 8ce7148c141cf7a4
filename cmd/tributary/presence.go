package main

import (
	"context"
	"errors"
	"io"

	"github.com/alecthomas/kong"

	"github.com/tributary-iot/tributary/api"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// presenceCmd is `tributary presence`.
type presenceCmd struct {
	clientFlags
	Device string `placeholder:"DEVICE" help:"Only this device. Default: all of the tenant."`
	Watch  bool   `help:"Print beginnings and ends of sessions as they happen."`
	From   string `placeholder:"POSITION" help:"With --watch: go on after this position, which an earlier watch printed."`
}

// Help is shown by `tributary presence --help`.
func (presenceCmd) Help() string {
	return `Without --watch it prints the sessions that are open now, on all nodes. An end is
told with its reason: closed, connection-lost, keep-alive, protocol-error,
taken-over, disabled, drain or node-lost.

Example:
  tributary presence --device thermo-1
  tributary presence --watch -o json`
}

// Run prints who is connected.
func (p *presenceCmd) Run(ctx context.Context, app *kong.Context) error {
	id, err := p.deviceOrAny(p.Device)
	if err != nil {
		return err
	}
	if p.From != "" && !p.Watch {
		return errors.New("--from needs --watch: it is where a watch goes on")
	}
	return p.with(app, func(c *client) error {
		who := pb.NewPresenceServiceClient(c.conn)
		parent := api.DeviceName(id.Tenant, id.Device)
		if p.Watch {
			return c.watchPresence(ctx, who, &pb.WatchPresenceRequest{Parent: parent, Position: p.From})
		}
		return c.listSessions(ctx, who, parent, "Nobody is connected.")
	})
}

// listSessions prints the open sessions of a device or tenant, or that there
// are none.
func (c *client) listSessions(ctx context.Context, who pb.PresenceServiceClient, parent, none string) error {
	shown := 0
	for token := ""; ; {
		page, err := who.ListSessions(ctx, &pb.ListSessionsRequest{Parent: parent, PageToken: token})
		if err != nil {
			return err
		}
		for _, s := range page.GetSessions() {
			if c.out.json {
				err = c.out.object(s)
			} else {
				if shown == 0 {
					err = c.out.row("DEVICE", "PROTOCOL", "NODE", "CLIENT", "VIA", "SINCE")
				}
				err = errors.Join(err, c.out.row(s.GetDevice(), s.GetProtocol(), s.GetNode(), orDash(s.GetClient()), orDash(s.GetVia()), moment(s.GetSince())))
			}
			if err != nil {
				return err
			}
			shown++
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if shown == 0 {
		c.out.none("%s", none)
	}
	return nil
}

func (c *client) watchPresence(ctx context.Context, who pb.PresenceServiceClient, req *pb.WatchPresenceRequest) error {
	stream, err := who.WatchPresence(ctx, req)
	if err != nil {
		return err
	}
	last := ""
	for {
		e, err := stream.Recv()
		if ctx.Err() != nil {
			if last != "" {
				c.out.note("Go on where this ended with --from %s", last)
			}
			return nil
		}
		if errors.Is(err, io.EOF) {
			return errors.New("the server ended the watch; try again")
		}
		if err != nil {
			return err
		}
		last = e.GetPosition()
		if c.out.json {
			err = c.out.object(e)
		} else {
			what := "connected"
			if !e.GetConnected() {
				what = "left: " + e.GetReason()
			}
			err = c.out.line("%s  %-4s  %s  on %s  %s", clock(e.GetTime()), e.GetProtocol(), e.GetDevice(), e.GetNode(), what)
		}
		if err != nil {
			return err
		}
	}
}
