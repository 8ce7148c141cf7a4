package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// commandsCmd is `tributary commands`.
type commandsCmd struct {
	List   commandsListCmd   `cmd:"" help:"Print commands, newest first."`
	Show   commandsShowCmd   `cmd:"" help:"Print one command with everything that happened to it."`
	Watch  commandsWatchCmd  `cmd:"" help:"Print what happens to a command until it has ended."`
	Cancel commandsCancelCmd `cmd:"" help:"Withdraw a command that was not sent yet."`
}

type commandsListCmd struct {
	clientFlags
	Device string   `env:"-" placeholder:"DEVICE" help:"Only of this device: NAME, or NAME@TENANT."`
	State  []string `env:"-" placeholder:"STATE" help:"Only those that stand in one of these: queued, sent, delivered, rejected, expired, cancelled, succeeded, failed."`
	Limit  int      `env:"-" default:"50" placeholder:"N" help:"At most so many."`
}

// Help is shown by `tributary commands list --help`.
func (commandsListCmd) Help() string {
	return `Example, what has not reached its device yet:
  tributary commands list --state queued,sent`
}

// Run prints pages up to the limit.
func (l *commandsListCmd) Run(ctx context.Context, app *kong.Context) error {
	id, err := l.deviceOrAny(l.Device)
	if err != nil {
		return err
	}
	req := &pb.ListCommandsRequest{Parent: api.DeviceName(id.Tenant, id.Device)}
	if req.States, err = parseStates(l.State); err != nil {
		return err
	}
	if err := checkLimit(l.Limit); err != nil {
		return err
	}
	return l.with(app, func(c *client) error {
		c.out.head("CREATED", "ID", "DEVICE", "COMMAND", "STATE", "LAST")
		for left := l.Limit; left > 0; {
			req.PageSize = int32(min(left, 1000))
			page, err := c.commands.ListCommands(ctx, req)
			if err != nil {
				return err
			}
			for _, cmd := range page.GetCommands() {
				if err := c.commandRow(cmd); err != nil {
					return err
				}
			}
			left -= len(page.GetCommands())
			if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		if c.out.headless() {
			c.out.none("No command matches; `tributary send DEVICE NAME%s` sends one.", l.again())
		}
		return nil
	})
}

func (c *client) commandRow(cmd *pb.Command) error {
	if c.out.json {
		return c.out.object(cmd)
	}
	last := ""
	if n := len(cmd.GetEvents()); n > 0 {
		last = because(cmd.GetEvents()[n-1])
	}
	return c.out.row(moment(cmd.GetCreateTime()), cmd.GetId(), cmd.GetDevice(), orDash(cmd.GetCommand()), stateName(cmd.GetState()), orDash(last))
}

// commandArg is a command line about one command.
type commandArg struct {
	clientFlags
	ID string `arg:"" name:"id" help:"The command's id, as send and list print it."`
}

func (a *commandArg) name() string { return api.CommandName(a.Tenant, "", a.ID) }

type commandsShowCmd struct{ commandArg }

// Help is shown by `tributary commands show --help`.
func (commandsShowCmd) Help() string {
	return `Example:
  tributary commands show 01JZX3T6M9Q0V8Y4K2B7N5D1RC`
}

// Run prints the command.
func (s *commandsShowCmd) Run(ctx context.Context, app *kong.Context) error {
	return s.with(app, func(c *client) error {
		cmd, err := c.commands.GetCommand(ctx, &pb.GetCommandRequest{Name: s.name()})
		if err != nil {
			return err
		}
		return c.printCommand(cmd)
	})
}

func (c *client) printCommand(cmd *pb.Command) error {
	if c.out.json {
		return c.out.object(cmd)
	}
	for _, row := range [][2]string{
		{"id", cmd.GetId()}, {"device", cmd.GetDevice()}, {"tenant", cmd.GetTenant()}, {"command", orDash(cmd.GetCommand())},
		{"payload", orDash(payload(cmd.GetPayload()))}, {"created", moment(cmd.GetCreateTime())},
		{"deadline", moment(cmd.GetDeadline())}, {"order", devicepb.OrderFromProto(cmd.GetOrder()).String()}, {"state", stateName(cmd.GetState())},
	} {
		if err := c.out.row(row[0], row[1]); err != nil {
			return err
		}
	}
	if err := c.out.close(); err != nil {
		return err
	}
	return c.steps()(cmd)
}

type commandsWatchCmd struct{ commandArg }

// Help is shown by `tributary commands watch --help`.
func (commandsWatchCmd) Help() string {
	return `Begins with everything that happened so far. The exit code is 0 when the command
SUCCEEDED (one-way: DELIVERED) and 3 when it ended otherwise. With -o json the
whole command is printed after every step.

Example:
  tributary commands watch 01JZX3T6M9Q0V8Y4K2B7N5D1RC`
}

// Run follows the command to its end.
func (w *commandsWatchCmd) Run(ctx context.Context, app *kong.Context) error {
	return w.with(app, func(c *client) error {
		show := c.steps()
		if c.out.json {
			show = func(cmd *pb.Command) error { return c.out.object(cmd) }
		}
		last, err := c.watch(ctx, &pb.Command{Name: w.name(), Id: w.ID}, show)
		if err != nil {
			return err
		}
		return verdictOf(last)
	})
}

type commandsCancelCmd struct{ commandArg }

// Help is shown by `tributary commands cancel --help`.
func (commandsCancelCmd) Help() string {
	return `Only a QUEUED command can be cancelled; once it was SENT its device may have it.

Example:
  tributary commands cancel 01JZX3T6M9Q0V8Y4K2B7N5D1RC`
}

// Run cancels the command.
func (k *commandsCancelCmd) Run(ctx context.Context, app *kong.Context) error {
	return k.with(app, func(c *client) error {
		cmd, err := c.commands.CancelCommand(ctx, &pb.CancelCommandRequest{Name: k.name()})
		if err != nil {
			return err
		}
		if c.out.json {
			return c.out.object(cmd)
		}
		return c.out.line("%s  %s", cmd.GetId(), stateName(cmd.GetState()))
	})
}

func parseStates(names []string) ([]pb.CommandState, error) {
	var states []pb.CommandState
	for _, name := range names {
		n, ok := pb.CommandState_value["COMMAND_STATE_"+strings.ToUpper(name)]
		if !ok || n == 0 {
			return nil, fmt.Errorf("--state %s is not a state; see `tributary commands list --help`", name)
		}
		states = append(states, pb.CommandState(n))
	}
	return states, nil
}

func checkLimit(n int) error {
	if n < 1 {
		return fmt.Errorf("--limit %d prints nothing; say 1 or more", n)
	}
	return nil
}
