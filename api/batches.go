package api

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// batches is CommandBatchService.
type batches struct {
	pb.UnimplementedCommandBatchServiceServer
	s *Server
}

// errNoBatches is what a server says that has none.
var errNoBatches = device.Errorf(device.Unavailable, "this server keeps no batches")

func (b *batches) room() (Batches, error) {
	if b.s.needs.Batches == nil {
		return nil, errNoBatches
	}
	return b.s.needs.Batches, nil
}

func (b *batches) CreateCommandBatch(ctx context.Context, req *pb.CreateCommandBatchRequest) (*pb.CommandBatch, error) {
	tenant, err := parseTenant(req.GetParent())
	if err != nil {
		return nil, err
	}
	room, err := b.room()
	if err != nil {
		return nil, err
	}
	made, err := batchFromProto(tenant, req.GetCommandBatch())
	if err != nil {
		return nil, err
	}
	made.ID, made.Command.Sender = req.GetCommandBatchId(), callerOf(ctx).String()
	made, err = room.Create(ctx, made, req.GetCommandBatch().GetDevices())
	if err != nil {
		return nil, err
	}
	b.s.cfg.Logger.Info("batch made", "tenant", tenant, "batch", made.ID, "devices", made.Total, "by", callerOf(ctx))
	return batchToProto(&made), nil
}

// batchFromProto reads what is asked for; whoever makes the batch validates it.
func batchFromProto(tenant string, in *pb.CommandBatch) (device.Batch, error) {
	out := device.Batch{
		Tenant: tenant, Selector: in.GetSelector(),
		Rate: int(in.GetRate()), Window: int(in.GetWindow()), AbortPercent: int(in.GetAbortPercent()), AbortAfter: int(in.GetAbortAfter()),
		Command: device.Command{
			Name: in.GetCommand(), Payload: in.GetPayload(), ContentType: in.GetContentType(), OneWay: in.GetOneWay(),
			MaxAttempts: int(in.GetMaxAttempts()), Order: devicepb.OrderFromProto(in.GetOrder()),
		},
	}
	var err error
	if out.TTL, err = duration("ttl", in.GetTtl()); err != nil {
		return out, err
	}
	if out.Command.ResponseTimeout, err = duration("response_timeout", in.GetResponseTimeout()); err != nil {
		return out, err
	}
	out.Command.RetryPause, err = duration("retry_pause", in.GetRetryPause())
	return out, err
}

func (b *batches) GetCommandBatch(ctx context.Context, req *pb.GetCommandBatchRequest) (*pb.CommandBatch, error) {
	return b.one(req.GetName(), func(room Batches, tenant, id string) (device.Batch, error) { return room.Get(ctx, tenant, id) })
}

func (b *batches) PauseCommandBatch(ctx context.Context, req *pb.PauseCommandBatchRequest) (*pb.CommandBatch, error) {
	return b.one(req.GetName(), func(room Batches, tenant, id string) (device.Batch, error) { return room.Pause(ctx, tenant, id) })
}

func (b *batches) ResumeCommandBatch(ctx context.Context, req *pb.ResumeCommandBatchRequest) (*pb.CommandBatch, error) {
	return b.one(req.GetName(), func(room Batches, tenant, id string) (device.Batch, error) { return room.Resume(ctx, tenant, id) })
}

func (b *batches) CancelCommandBatch(ctx context.Context, req *pb.CancelCommandBatchRequest) (*pb.CommandBatch, error) {
	reason := req.GetReason()
	if len(reason) > device.MaxCommandNameBytes {
		return nil, device.Errorf(device.Invalid, "the reason is %d bytes long, the limit is %d", len(reason), device.MaxCommandNameBytes)
	}
	return b.one(req.GetName(), func(room Batches, tenant, id string) (device.Batch, error) {
		return room.Cancel(ctx, tenant, id, reason)
	})
}

// one answers a batch by its resource name, as act leaves it.
func (b *batches) one(name string, act func(room Batches, tenant, id string) (device.Batch, error)) (*pb.CommandBatch, error) {
	tenant, id, err := parseBatch(name)
	if err != nil {
		return nil, err
	}
	room, err := b.room()
	if err != nil {
		return nil, err
	}
	found, err := act(room, tenant, id)
	if err != nil {
		return nil, err
	}
	return batchToProto(&found), nil
}

func (b *batches) ListCommandBatches(ctx context.Context, req *pb.ListCommandBatchesRequest) (*pb.ListCommandBatchesResponse, error) {
	tenant, err := parseTenant(req.GetParent())
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(req.GetPageSize(), 50, 1000)
	if err != nil {
		return nil, err
	}
	after, err := parseNameToken(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	room, err := b.room()
	if err != nil {
		return nil, err
	}
	found, err := room.List(ctx, tenant, after, limit)
	if err != nil {
		return nil, err
	}
	resp := &pb.ListCommandBatchesResponse{}
	for i := range found {
		resp.CommandBatches = append(resp.CommandBatches, batchToProto(&found[i]))
	}
	if len(found) == limit {
		resp.NextPageToken = nameToken(found[limit-1].ID)
	}
	return resp, nil
}

func (b *batches) WatchCommandBatch(req *pb.WatchCommandBatchRequest, stream grpc.ServerStreamingServer[pb.CommandBatch]) error {
	return b.follow(req.GetName(), stream, func(ctx context.Context, room Batches, tenant, id string) error {
		return room.Watch(ctx, tenant, id, func(found device.Batch) error { return stream.Send(batchToProto(&found)) })
	})
}

func (b *batches) WatchCommandBatchResults(req *pb.WatchCommandBatchResultsRequest, stream grpc.ServerStreamingServer[pb.CommandBatchResult]) error {
	return b.follow(req.GetName(), stream, func(ctx context.Context, room Batches, tenant, id string) error {
		return room.Results(ctx, tenant, id, func(r device.BatchResult) error { return stream.Send(resultToProto(tenant, &r)) })
	})
}

func (b *batches) follow(name string, stream grpc.ServerStream, watch func(ctx context.Context, room Batches, tenant, id string) error) error {
	tenant, id, err := parseBatch(name)
	if err != nil {
		return err
	}
	room, err := b.room()
	if err != nil {
		return err
	}
	if _, err := room.Get(stream.Context(), tenant, id); err != nil {
		return err
	}
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	ctx, cancel := b.s.untilStop(stream.Context())
	defer cancel()
	return b.s.streamEnd(watch(ctx, room, tenant, id))
}

func batchToProto(b *device.Batch) *pb.CommandBatch {
	p := &b.Progress
	out := &pb.CommandBatch{
		Name: BatchName(b.Tenant, b.ID), Id: b.ID, Tenant: b.Tenant,
		Command: b.Command.Name, Payload: b.Command.Payload, ContentType: b.Command.ContentType, OneWay: b.Command.OneWay,
		MaxAttempts: uint32(b.Command.MaxAttempts), Order: devicepb.OrderToProto(b.Command.Order), Sender: b.Command.Sender,
		Ttl: optionalDuration(b.TTL), ResponseTimeout: optionalDuration(b.Command.ResponseTimeout), RetryPause: optionalDuration(b.Command.RetryPause),
		Selector: b.Selector, Rate: uint32(b.Rate), Window: uint32(b.Window), AbortPercent: uint32(b.AbortPercent), AbortAfter: uint32(b.AbortAfter),
		State: pb.CommandBatchState(b.State), Reason: b.Reason, CreateTime: timestamppb.New(b.CreatedAt), Total: uint32(b.Total),
		Progress: &pb.CommandBatchProgress{
			Unsent: uint32(p.Unsent), Pending: uint32(p.Pending), Succeeded: uint32(p.Succeeded), Failed: uint32(p.Failed),
			Rejected: uint32(p.Rejected), Expired: uint32(p.Expired), Cancelled: uint32(p.Cancelled), Refused: uint32(p.Refused),
		},
	}
	if !b.EndedAt.IsZero() {
		out.EndTime = timestamppb.New(b.EndedAt)
	}
	return out
}

func resultToProto(tenant string, r *device.BatchResult) *pb.CommandBatchResult {
	out := &pb.CommandBatchResult{Device: r.Device, State: devicepb.StateToProto(r.State), Status: int32(r.Status), Error: r.Error}
	if r.Command != "" {
		out.Command = CommandName(tenant, r.Device, r.Command)
	}
	return out
}
