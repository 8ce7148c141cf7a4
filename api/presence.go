package api

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// presence is PresenceService.
type presence struct {
	pb.UnimplementedPresenceServiceServer
	s *Server
}

func (p *presence) ListSessions(ctx context.Context, req *pb.ListSessionsRequest) (*pb.ListSessionsResponse, error) {
	id, err := parseScope(req.GetParent())
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(req.GetPageSize(), 100, 1000)
	if err != nil {
		return nil, err
	}
	if err := checkToken(req.GetPageToken()); err != nil {
		return nil, err
	}
	found, next, err := p.s.needs.Presence.Sessions(ctx, id.Tenant, id.Device, req.GetPageToken(), limit)
	if err != nil {
		return nil, err
	}
	resp := &pb.ListSessionsResponse{NextPageToken: next}
	for i := range found {
		resp.Sessions = append(resp.Sessions, devicepb.PresenceToProto(&found[i]))
	}
	return resp, nil
}

func (p *presence) WatchPresence(req *pb.WatchPresenceRequest, stream grpc.ServerStreamingServer[pb.PresenceEvent]) error {
	id, err := parseScope(req.GetParent())
	if err != nil {
		return err
	}
	var after *device.Position
	if req.GetPosition() != "" {
		at, err := devicepb.DecodePosition(req.GetPosition())
		if err != nil {
			return err
		}
		after = &at
	}
	ctx, cancel := p.s.untilStop(stream.Context())
	defer cancel()
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	err = p.s.needs.Presence.Follow(ctx, id.Tenant, id.Device, after, func(e device.StoredPresence) error {
		return stream.Send(devicepb.StoredPresenceToProto(&e))
	})
	var gone OutOfStream
	if errors.As(err, &gone) {
		return purgedStatus(gone, "what came after this position is no longer kept: list the sessions, and watch from now")
	}
	return p.s.streamEnd(err)
}
