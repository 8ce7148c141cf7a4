package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// Bridges answers the bridges of a tenant that this node runs, in the order of its
// configuration.
type Bridges func(tenant string) []Bridge

// Bridge is how a connection to another broker is, and what passed it since this
// node started.
type Bridge struct {
	Tenant, Name string
	Node         string
	URL          string // without a password
	State        string // connecting, up, down, stopped
	Err          string // why it is not up
	Since        time.Time
	RetryAt      time.Time // when it connects again, or zero
	Receive      []string
	Commands     string
	Received     uint64
	Accepted     uint64
	Rejected     uint64
	Released     uint64
	InFlight     int
	Devices      int
	CommandsOut  uint64
	Answers      uint64
}

// bridges is BridgeService.
type bridges struct {
	pb.UnimplementedBridgeServiceServer
	s *Server
}

func (b *bridges) ListBridges(_ context.Context, req *pb.ListBridgesRequest) (*pb.ListBridgesResponse, error) {
	tenant, err := parseTenant(req.GetParent())
	if err != nil {
		return nil, err
	}
	resp := &pb.ListBridgesResponse{}
	if b.s.needs.Bridges == nil {
		return resp, nil
	}
	for _, one := range b.s.needs.Bridges(tenant) {
		resp.Bridges = append(resp.Bridges, bridgeToProto(one))
	}
	return resp, nil
}

func bridgeToProto(b Bridge) *pb.Bridge {
	out := &pb.Bridge{
		Name: BridgeName(b.Tenant, b.Name), Node: b.Node, Url: b.URL, State: b.State, Error: b.Err,
		Since: timestamppb.New(b.Since), Receive: b.Receive, Commands: b.Commands,
		Received: b.Received, Accepted: b.Accepted, Rejected: b.Rejected, Released: b.Released, InFlight: uint64(max(b.InFlight, 0)),
		Devices: uint64(b.Devices), CommandsOut: b.CommandsOut, Answers: b.Answers,
	}
	if !b.RetryAt.IsZero() {
		out.RetryTime = timestamppb.New(b.RetryAt)
	}
	return out
}
