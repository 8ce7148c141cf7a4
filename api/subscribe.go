package api

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// Subscribe streams messages in stream order.
func (t *telemetry) Subscribe(req *pb.SubscribeRequest, stream grpc.ServerStreamingServer[pb.Message]) error {
	id, err := parseScope(req.GetParent())
	if err != nil {
		return err
	}
	var after *device.Position
	if req.GetPosition() != "" {
		p, err := devicepb.DecodePosition(req.GetPosition())
		if err != nil {
			return err
		}
		after = &p
	}
	ctx, cancel := t.s.untilStop(stream.Context())
	defer cancel()
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	return t.s.streamEnd(t.s.needs.Feed.Follow(ctx, id.Tenant, id.Device, after, func(m device.Stored) error {
		return stream.Send(devicepb.StoredToProto(&m))
	}))
}
