package api

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
	"github.com/tributary-iot/tributary/storage"
)

// commands is CommandService.
type commands struct {
	pb.UnimplementedCommandServiceServer
	s *Server
}

// sender is who commands sent with the operator's token are from.
const sender = "operator"

func (c *commands) SendCommand(ctx context.Context, req *pb.SendCommandRequest) (*pb.Command, error) {
	id, err := parseDevice(req.GetParent())
	if err != nil {
		return nil, err
	}
	cmd := device.Command{
		Tenant: id.Tenant, Device: id.Device, Name: req.GetCommand(), Payload: req.GetPayload(),
		ContentType: req.GetContentType(), Key: req.GetKey(), OneWay: req.GetOneWay(), Sender: callerOf(ctx).String(),
		MaxAttempts: int(req.GetMaxAttempts()), Order: devicepb.OrderFromProto(req.GetOrder()),
	}
	ttl, err := duration("ttl", req.GetTtl())
	if err != nil {
		return nil, err
	}
	if ttl > 0 {
		cmd.Deadline = time.Now().Add(ttl)
	}
	if cmd.ResponseTimeout, err = duration("response_timeout", req.GetResponseTimeout()); err != nil {
		return nil, err
	}
	if cmd.RetryPause, err = duration("retry_pause", req.GetRetryPause()); err != nil {
		return nil, err
	}
	if err := cmd.Validate(); err != nil {
		return nil, err
	}
	return recordOr(c.s.needs.Commands.Send(ctx, cmd))
}

func (c *commands) GetCommand(ctx context.Context, req *pb.GetCommandRequest) (*pb.Command, error) {
	id, cmd, err := parseCommand(req.GetName())
	if err != nil {
		return nil, err
	}
	return recordOr(c.s.needs.Commands.Get(ctx, id, cmd))
}

func (c *commands) CancelCommand(ctx context.Context, req *pb.CancelCommandRequest) (*pb.Command, error) {
	id, cmd, err := parseCommand(req.GetName())
	if err != nil {
		return nil, err
	}
	return recordOr(c.s.needs.Commands.Cancel(ctx, id, cmd))
}

func (c *commands) ListCommands(ctx context.Context, req *pb.ListCommandsRequest) (*pb.ListCommandsResponse, error) {
	id, err := parseDevices(req.GetParent())
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(req.GetPageSize(), 50, 1000)
	if err != nil {
		return nil, err
	}
	if err := checkToken(req.GetPageToken()); err != nil {
		return nil, err
	}
	q := storage.CommandQuery{Tenant: id.Tenant, Device: id.Device}
	if q.States, err = statesFromProto(req.GetStates()); err != nil {
		return nil, err
	}
	c.s.barrier(ctx)
	page := pager[*pb.Command]{want: limit, size: func(c *pb.Command) int { return proto.Size(c) }}
	page.fetch = func(limit int, cursor string) ([]*pb.Command, string, error) {
		q.Limit, q.Cursor = limit, cursor
		p, err := c.s.needs.Reader.Commands(ctx, q)
		var out []*pb.Command
		for i := range p.Records {
			out = append(out, recordToProto(&p.Records[i]))
		}
		return out, p.Next, err
	}
	resp := &pb.ListCommandsResponse{}
	resp.Commands, resp.NextPageToken, err = page.collect(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// errWatchEnds ends a watch whose command will not change again.
var errWatchEnds = errors.New("the command has ended")

func (c *commands) WatchCommand(req *pb.WatchCommandRequest, stream grpc.ServerStreamingServer[pb.Command]) error {
	id, cmd, err := parseCommand(req.GetName())
	if err != nil {
		return err
	}
	ctx, cancel := c.s.untilStop(stream.Context())
	defer cancel()
	err = c.s.needs.Commands.Watch(ctx, id, cmd, func(r device.CommandRecord) error {
		if err := stream.Send(recordToProto(&r)); err != nil {
			return err
		}
		if r.Last().State.Terminal(r.Command.OneWay) {
			return errWatchEnds
		}
		return nil
	})
	if errors.Is(err, errWatchEnds) {
		return nil
	}
	return c.s.streamEnd(err)
}

// streamEnd explains why a stream ended when it is our stopping that ended it.
func (s *Server) streamEnd(err error) error {
	if s.stopping.Err() != nil {
		return device.Wrap(device.Unavailable, "the server is stopping: call again", err)
	}
	return err
}

func recordOr(r device.CommandRecord, err error) (*pb.Command, error) {
	if err != nil {
		return nil, err
	}
	return recordToProto(&r), nil
}

// recordToProto adds the resource name as this API writes it.
func recordToProto(r *device.CommandRecord) *pb.Command {
	out := devicepb.RecordToProto(r)
	out.Name = CommandName(r.Command.Tenant, r.Command.Device, r.Command.ID)
	return out
}

func statesFromProto(in []pb.CommandState) ([]device.CommandState, error) {
	var out []device.CommandState
	for _, s := range in {
		state := devicepb.StateFromProto(s)
		if state == device.StateNone {
			return nil, device.Errorf(device.Invalid, "%s is not a state to ask for", s)
		}
		out = append(out, state)
	}
	return out, nil
}

// optionalDuration is absent for zero.
func optionalDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// duration reads an optional positive duration; zero when it is absent.
func duration(field string, d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if d.CheckValid() != nil || d.AsDuration() <= 0 {
		return 0, device.Errorf(device.Invalid, "%s must be longer than nothing; leave it out for the default", field)
	}
	return d.AsDuration(), nil
}
