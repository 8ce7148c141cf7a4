package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/tributary-iot/tributary/api"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// batchCmd is `tributary batch`.
type batchCmd struct {
	Create  batchCreateCmd  `cmd:"" help:"Send one command to many devices."`
	Watch   batchWatchCmd   `cmd:"" help:"Show how far a batch is until it has ended."`
	Results batchResultsCmd `cmd:"" help:"Print what became of each device's command, as it ends."`
	List    batchListCmd    `cmd:"" help:"Print batches, newest first."`
	Pause   batchPauseCmd   `cmd:"" help:"Send nothing more until the batch is resumed."`
	Resume  batchResumeCmd  `cmd:"" help:"Let a paused batch go on."`
	Cancel  batchCancelCmd  `cmd:"" help:"End a batch: send nothing more, and withdraw what devices do not have yet."`
}

type batchCreateCmd struct {
	clientFlags
	Name     string `arg:"" help:"What the devices should do: at most 128 bytes, without / + #."`
	Payload  string `arg:"" optional:"" help:"Text to send with it; @FILE sends a file, - standard input."`
	Selector string `env:"-" short:"l" placeholder:"SELECTOR" help:"To the devices whose labels match, as in \"device list\"; a group's name alone means the group."`
	Devices  string `env:"-" placeholder:"FILE" help:"To the devices that the file names, one a line; - reads standard input."`
	ID       string `name:"id" env:"-" placeholder:"ID" help:"Your own name for the batch: making it again makes no second one. Default: one is made up."`
	Watch    bool   `env:"-" help:"Show how far it is until it has ended."`

	Rate         uint32 `env:"-" placeholder:"N" help:"Send so many a second. Default: as fast as they go."`
	Window       uint32 `env:"-" placeholder:"N" help:"At most so many that have not ended, those to devices that are away included. Default: any number."`
	AbortPercent uint32 `env:"-" placeholder:"P" help:"Send nothing more once P percent of those that ended have failed. Default: whatever happens."`
	AbortAfter   uint32 `env:"-" placeholder:"N" help:"But not before so many have ended. Default: 10."`

	OneWay          bool          `env:"-" help:"Expect no answer: DELIVERED is the end."`
	TTL             time.Duration `name:"ttl" env:"-" placeholder:"D" help:"A command expires unless delivered so long after it was sent. Default: 24h."`
	ResponseTimeout time.Duration `env:"-" placeholder:"D" help:"A command fails when the device has not answered so long after delivery. Default: 60s."`
	MaxAttempts     uint32        `env:"-" placeholder:"N" help:"A command expires when so many deliveries came to nothing."`
	RetryPause      time.Duration `env:"-" placeholder:"D" help:"Leave a command alone so long before it is offered again, longer each time. Default: 100ms."`
	Order           string        `env:"-" enum:"burst,until-delivered,until-response" default:"burst" help:"As in \"send\"."`
	ContentType     string        `env:"-" placeholder:"TYPE" help:"Default: application/json when the payload is JSON, else text/plain or application/octet-stream."`
}

// Help is shown by `tributary batch create --help`.
func (batchCreateCmd) Help() string {
	return `The devices are those that are meant now; each gets one command, whatever is
restarted meanwhile. With --watch the exit code says how the batch ended: 0 when
every device's command succeeded, 3 otherwise.

Examples:
  tributary batch create update '{"to":"2.1"}' --selector 'model=t-1,!pilot' --rate 50 --abort-percent 5 --watch
  tributary device list -o json | jq -r .device | tributary batch create reboot --devices - --one-way`
}

// Run makes the batch.
func (b *batchCreateCmd) Run(ctx context.Context, app *kong.Context) error {
	devices, err := b.listed()
	if err != nil {
		return err
	}
	body, err := readPayload(b.Payload, os.Stdin)
	if err != nil {
		return err
	}
	req := &pb.CreateCommandBatchRequest{Parent: api.TenantName(b.Tenant), CommandBatchId: b.ID, CommandBatch: &pb.CommandBatch{
		Command: b.Name, Payload: body, ContentType: contentType(b.ContentType, body), OneWay: b.OneWay,
		Ttl: optional(b.TTL), ResponseTimeout: optional(b.ResponseTimeout), MaxAttempts: b.MaxAttempts, RetryPause: optional(b.RetryPause),
		Order: orders[b.Order], Selector: b.Selector, Devices: devices,
		Rate: b.Rate, Window: b.Window, AbortPercent: b.AbortPercent, AbortAfter: b.AbortAfter,
	}}
	return b.with(app, func(c *client) error {
		made, err := c.batches.CreateCommandBatch(ctx, req)
		switch {
		case err != nil:
			return err
		case b.Watch:
			return c.watchBatch(ctx, made.GetName())
		case c.out.json:
			return c.out.object(made)
		}
		return c.out.line("%s  %d devices  %s", made.GetId(), made.GetTotal(), batchState(made.GetState()))
	})
}

// listed reads the names of --devices.
func (b *batchCreateCmd) listed() (names []string, err error) {
	if b.Devices == "" {
		return nil, nil
	}
	if b.Devices == "-" && b.Payload == "-" {
		return nil, errors.New("--devices and the payload cannot both come from standard input")
	}
	in := io.ReadCloser(os.Stdin)
	if b.Devices != "-" {
		if in, err = os.Open(b.Devices); err != nil {
			return nil, err
		}
	}
	defer in.Close()
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if name := strings.TrimSpace(lines.Text()); name != "" {
			names = append(names, name)
		}
	}
	if lines.Err() == nil && len(names) == 0 {
		return nil, fmt.Errorf("--devices %s names no device", b.Devices)
	}
	return names, lines.Err()
}

// batchArg is a command line about one batch.
type batchArg struct {
	clientFlags
	ID string `arg:"" name:"id" help:"The batch's id, as create and list print it."`
}

func (b *batchArg) name() string { return api.BatchName(b.Tenant, b.ID) }

// act calls the server and prints the batch as it then stands.
func (b *batchArg) act(app *kong.Context, do func(c *client, name string) (*pb.CommandBatch, error)) error {
	return b.with(app, func(c *client) error {
		found, err := do(c, b.name())
		switch {
		case err != nil:
			return err
		case c.out.json:
			return c.out.object(found)
		}
		return c.out.line("%s  %s", found.GetId(), batchState(found.GetState()))
	})
}

type batchPauseCmd struct{ batchArg }

// Help is shown by `tributary batch pause --help`.
func (batchPauseCmd) Help() string {
	return `What was sent already goes on.

Example:
  tributary batch pause 01JZX3T6M9Q0V8Y4K2B7N5D1RC`
}

// Run pauses the batch.
func (b *batchPauseCmd) Run(ctx context.Context, app *kong.Context) error {
	return b.act(app, func(c *client, name string) (*pb.CommandBatch, error) {
		return c.batches.PauseCommandBatch(ctx, &pb.PauseCommandBatchRequest{Name: name})
	})
}

type batchResumeCmd struct{ batchArg }

// Help is shown by `tributary batch resume --help`.
func (batchResumeCmd) Help() string {
	return `Example:
  tributary batch resume 01JZX3T6M9Q0V8Y4K2B7N5D1RC`
}

// Run resumes the batch.
func (b *batchResumeCmd) Run(ctx context.Context, app *kong.Context) error {
	return b.act(app, func(c *client, name string) (*pb.CommandBatch, error) {
		return c.batches.ResumeCommandBatch(ctx, &pb.ResumeCommandBatchRequest{Name: name})
	})
}

type batchCancelCmd struct {
	batchArg
	Reason string `env:"-" placeholder:"TEXT" help:"Why, for who asks later."`
}

// Help is shown by `tributary batch cancel --help`.
func (batchCancelCmd) Help() string {
	return `Commands that devices have already go on to their own end.

Example:
  tributary batch cancel 01JZX3T6M9Q0V8Y4K2B7N5D1RC --reason 'wrong version'`
}

// Run cancels the batch.
func (b *batchCancelCmd) Run(ctx context.Context, app *kong.Context) error {
	return b.act(app, func(c *client, name string) (*pb.CommandBatch, error) {
		return c.batches.CancelCommandBatch(ctx, &pb.CancelCommandBatchRequest{Name: name, Reason: b.Reason})
	})
}

func batchState(s pb.CommandBatchState) string {
	return strings.TrimPrefix(s.String(), "COMMAND_BATCH_STATE_")
}
