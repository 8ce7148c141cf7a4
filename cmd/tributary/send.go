package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/alecthomas/kong"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// The exit codes of `send --wait` and `commands watch`, beside 1 for failed
// calls and 2 for a wrong command line.
const (
	exitNotDone = 3 // the command has ended, and not well
	exitWaiting = 4 // it has not ended in time
)

// sendCmd is `tributary send`.
type sendCmd struct {
	clientFlags
	Device          string        `arg:"" help:"The device: NAME, or NAME@TENANT."`
	Name            string        `arg:"" help:"What it should do: at most 128 bytes, without / + #."`
	Payload         string        `arg:"" optional:"" help:"Text to send with it; @FILE sends a file, - standard input."`
	Wait            time.Duration `env:"-" placeholder:"D" help:"Wait until the command has ended, at most this long."`
	OneWay          bool          `env:"-" help:"Expect no answer: DELIVERED is the end."`
	TTL             time.Duration `name:"ttl" env:"-" placeholder:"D" help:"Expire unless delivered by then. Default: 24h."`
	ResponseTimeout time.Duration `env:"-" placeholder:"D" help:"Fail when the device has not answered so long after delivery. Default: 60s."`
	MaxAttempts     uint32        `env:"-" placeholder:"N" help:"Expire when so many deliveries came to nothing. Default: as many as --ttl allows."`
	RetryPause      time.Duration `env:"-" placeholder:"D" help:"Leave it alone so long before it is offered again, longer each time. Default: 100ms."`
	Order           string        `env:"-" enum:"burst,until-delivered,until-response" default:"burst" help:"burst (as soon as the device takes it), or one at a time: until-delivered, until-response."`
	ContentType     string        `env:"-" placeholder:"TYPE" help:"Default: application/json when the payload is JSON, else text/plain or application/octet-stream."`
	Key             string        `env:"-" placeholder:"KEY" help:"Your own name for this command: sending it again with the same content sends nothing twice."`
}

// Help is shown by `tributary send --help`.
func (sendCmd) Help() string {
	return `The command is kept until the device takes it, on whichever protocol it connects
with, or until --ttl has passed. The answer is printed with its id. With --wait
each step is printed as it happens, and the exit code says how it ended:

  0  SUCCEEDED (with --one-way: DELIVERED); without --wait: QUEUED, durably
  1  the server refused the call or could not be reached
  3  the command ended otherwise: REJECTED, EXPIRED, CANCELLED or FAILED
  4  it had not ended when --wait was over; it goes on

Example:
  tributary send thermo-1 heat '{"on":true}' --wait 10s`
}

// orders are the words of --order.
var orders = map[string]pb.CommandOrder{
	"burst":           pb.CommandOrder_COMMAND_ORDER_BURST,
	"until-delivered": pb.CommandOrder_COMMAND_ORDER_ONE_AT_A_TIME_UNTIL_DELIVERED,
	"until-response":  pb.CommandOrder_COMMAND_ORDER_ONE_AT_A_TIME_UNTIL_RESPONSE,
}

// Run sends, and waits when asked to.
func (s *sendCmd) Run(ctx context.Context, app *kong.Context) error {
	id, err := s.device(s.Device)
	if err != nil {
		return err
	}
	body, err := readPayload(s.Payload, os.Stdin)
	if err != nil {
		return err
	}
	req := &pb.SendCommandRequest{
		Parent: api.DeviceName(id.Tenant, id.Device), Command: s.Name, Payload: body,
		ContentType: contentType(s.ContentType, body), Key: s.Key, OneWay: s.OneWay,
		Ttl: optional(s.TTL), ResponseTimeout: optional(s.ResponseTimeout),
		MaxAttempts: s.MaxAttempts, RetryPause: optional(s.RetryPause), Order: orders[s.Order],
	}
	return s.with(app, func(c *client) error {
		sent, err := c.commands.SendCommand(ctx, req)
		switch {
		case err != nil:
			return err
		case s.Wait > 0:
			return s.wait(ctx, c, sent)
		case c.out.json:
			return c.out.object(sent)
		}
		return c.out.line("%s  %s", sent.GetId(), stateName(sent.GetState()))
	})
}

// wait follows the command; -o json prints it once, as it stands at the end.
func (s *sendCmd) wait(ctx context.Context, c *client, sent *pb.Command) error {
	ctx, cancel := context.WithTimeout(ctx, s.Wait)
	defer cancel()
	var show func(*pb.Command) error
	if !c.out.json {
		if err := c.out.line("%s  %s → %s", sent.GetId(), orDash(sent.GetCommand()), sent.GetDevice()); err != nil {
			return err
		}
		show = c.steps()
	}
	last, err := c.watch(ctx, sent, show)
	if c.out.json {
		if err := c.out.object(last); err != nil {
			return err
		}
	}
	if !ended(last) && (ctx.Err() != nil || status.Code(err) == codes.DeadlineExceeded) {
		return &exitError{exitWaiting, fmt.Sprintf("the command is %s and goes on; follow it with `tributary commands watch %s%s`",
			stateName(last.GetState()), last.GetId(), s.again())}
	}
	if err != nil {
		return err
	}
	return verdictOf(last)
}

// watch follows a command to its end and answers it as last seen.
func (c *client) watch(ctx context.Context, cmd *pb.Command, show func(*pb.Command) error) (*pb.Command, error) {
	last := cmd
	stream, err := c.commands.WatchCommand(ctx, &pb.WatchCommandRequest{Name: cmd.GetName()})
	for err == nil {
		var next *pb.Command
		if next, err = stream.Recv(); err != nil {
			break
		}
		if last = next; show != nil {
			err = show(next)
		}
	}
	if !errors.Is(err, io.EOF) {
		return last, err
	}
	if !ended(last) {
		return last, errors.New("the server ended the watch early; try again")
	}
	return last, nil
}

// steps prints what is new of a command each time it is called.
func (c *client) steps() func(*pb.Command) error {
	seen := 0
	return func(cmd *pb.Command) error {
		for ; seen < len(cmd.GetEvents()); seen++ {
			e := cmd.GetEvents()[seen]
			if err := c.out.line("%s  %-9s  %s", clock(e.GetTime()), stateName(e.GetState()), because(e)); err != nil {
				return err
			}
		}
		return nil
	}
}

// because tells a transition's circumstances in a few words.
func because(e *pb.CommandEvent) string {
	var parts []string
	if e.GetProtocol() != "" {
		parts = append(parts, "over "+e.GetProtocol())
	}
	if e.GetAttempt() > 1 {
		parts = append(parts, fmt.Sprintf("attempt %d", e.GetAttempt()))
	}
	if e.GetUnconfirmed() {
		parts = append(parts, "unconfirmed")
	}
	if e.GetReason() != "" {
		parts = append(parts, e.GetReason())
	}
	if e.GetStatus() != 0 {
		parts = append(parts, fmt.Sprintf("status %d", e.GetStatus()))
	}
	if text := payload(e.GetResponse()); text != "" {
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

func ended(c *pb.Command) bool {
	return devicepb.StateFromProto(c.GetState()).Terminal(c.GetOneWay())
}

// verdictOf is nil when the command did what was asked.
func verdictOf(c *pb.Command) error {
	switch state := devicepb.StateFromProto(c.GetState()); {
	case state == device.StateSucceeded, state == device.StateDelivered && c.GetOneWay():
		return nil
	}
	return &exitError{exitNotDone, fmt.Sprintf("command %s ended as %s", c.GetId(), stateName(c.GetState()))}
}

func stateName(s pb.CommandState) string { return strings.TrimPrefix(s.String(), "COMMAND_STATE_") }

// maxPayload is what the server takes; more is not even read.
const maxPayload = 1 << 20

// readPayload reads the PAYLOAD argument.
func readPayload(arg string, stdin io.Reader) ([]byte, error) {
	in := stdin
	switch file, isFile := strings.CutPrefix(arg, "@"); {
	case isFile:
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("payload: %w", err)
		}
		defer f.Close()
		in = f
	case arg != "-":
		return []byte(arg), nil
	}
	body, err := io.ReadAll(io.LimitReader(in, maxPayload+1))
	if err == nil && len(body) > maxPayload {
		err = fmt.Errorf("it is longer than %d bytes", maxPayload)
	}
	if err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	return body, nil
}

func contentType(given string, body []byte) string {
	switch {
	case given != "" || len(body) == 0:
		return given
	case json.Valid(body):
		return "application/json"
	case utf8.Valid(body):
		return "text/plain"
	}
	return device.OctetStream
}

// optional is absent when it was not given; what was given wrong the server refuses.
func optional(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}
