package api

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

const (
	callTimeout = time.Minute      // of a call that says none
	callGrace   = 10 * time.Second // for what is done for a call after its caller has left
)

// Call sends a command that lives as long as the call, and answers what the
// device answers.
func (c *commands) Call(ctx context.Context, req *pb.CallRequest) (*pb.CallResponse, error) {
	id, err := parseDevice(req.GetParent())
	if err != nil {
		return nil, err
	}
	timeout, err := duration("timeout", req.GetTimeout())
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.s.untilStop(ctx)
	defer cancel()
	if timeout == 0 {
		timeout = callTimeout
		if deadline, given := ctx.Deadline(); given {
			timeout = time.Until(deadline)
		}
	}
	ctx, cancel = context.WithTimeout(ctx, timeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	cmd := device.Command{
		Tenant: id.Tenant, Device: id.Device, Name: req.GetCommand(), Payload: req.GetPayload(),
		ContentType: req.GetContentType(), Sender: callerOf(ctx).String(), Deadline: deadline, ResponseTimeout: timeout,
	}
	if err := cmd.Validate(); err != nil {
		return nil, err
	}
	last, err := c.sendAndWait(ctx, cmd)
	if err != nil {
		return nil, c.s.streamEnd(err)
	}
	return answerOf(&last)
}

// sendAndWait answers the command as it has ended. It knows whether the command
// was stored, also when the caller has left meanwhile: what was is withdrawn
// unless the device may have it.
func (c *commands) sendAndWait(ctx context.Context, cmd device.Command) (last device.CommandRecord, err error) {
	sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), callGrace)
	defer cancel()
	if last, err = c.s.needs.Commands.Send(sending, cmd); err != nil {
		return last, err
	}
	sent := last.Command
	err = c.s.needs.Commands.Watch(ctx, sent.ForDevice(), sent.ID, func(r device.CommandRecord) error {
		if last = r; r.Last().State.Terminal(false) {
			return errWatchEnds
		}
		return nil
	})
	if err == nil || errors.Is(err, errWatchEnds) {
		return last, nil
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), callGrace)
	defer cancel()
	// Refused once it was sent; otherwise its deadline, which is the call's, ends it.
	if _, failed := c.s.needs.Commands.Cancel(after, sent.ForDevice(), sent.ID); failed != nil && device.CodeOf(failed) != device.Precondition {
		c.s.cfg.Logger.Warn("the command of an abandoned call was not withdrawn", "command", sent.ID, "error", failed)
	}
	return last, err
}

// answerOf is the device's answer, or why there is none.
func answerOf(r *device.CommandRecord) (*pb.CallResponse, error) {
	last := r.Last()
	switch {
	case last.Status != 0:
		return &pb.CallResponse{
			Name:   CommandName(r.Command.Tenant, r.Command.Device, r.Command.ID),
			Status: int32(last.Status), Payload: last.Response, ContentType: last.ContentType,
		}, nil
	case last.State == device.StateRejected:
		return nil, device.Errorf(device.Precondition, "the device rejected command %s: %s", r.Command.ID, last.Reason)
	case last.State == device.StateCancelled:
		return nil, status.Errorf(codes.Aborted, "command %s was cancelled before it was sent", r.Command.ID)
	case last.State == device.StateExpired:
		return nil, status.Errorf(codes.DeadlineExceeded, "command %s did not reach the device in time", r.Command.ID)
	}
	return nil, status.Errorf(codes.DeadlineExceeded, "the device has command %s and did not answer in time", r.Command.ID)
}
