package api

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
	"github.com/tributary-iot/tributary/storage"
)

// telemetry is TelemetryService.
type telemetry struct {
	pb.UnimplementedTelemetryServiceServer
	s *Server
}

func (t *telemetry) Query(ctx context.Context, req *pb.QueryRequest) (*pb.QueryResponse, error) {
	q, err := messageQuery(req)
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(req.GetPageSize(), 100, 10_000)
	if err != nil {
		return nil, err
	}
	t.s.barrier(ctx)
	page := pager[*pb.Message]{want: limit, size: func(m *pb.Message) int { return proto.Size(m) }}
	page.fetch = func(limit int, cursor string) ([]*pb.Message, string, error) {
		q.Limit, q.Cursor = limit, cursor
		p, err := t.s.needs.Reader.Messages(ctx, q)
		out := make([]*pb.Message, 0, len(p.Messages))
		for i := range slices.Backward(p.Messages) { // paging goes back in time
			out = append(out, devicepb.StoredToProto(&p.Messages[i]))
		}
		return out, p.Next, err
	}
	resp := &pb.QueryResponse{}
	if resp.Messages, resp.NextPageToken, err = page.collect(req.GetPageToken()); err != nil {
		return nil, err
	}
	slices.Reverse(resp.Messages)
	return resp, nil
}

func messageQuery(req *pb.QueryRequest) (storage.MessageQuery, error) {
	id, err := parseDevice(req.GetParent())
	if err != nil {
		return storage.MessageQuery{}, err
	}
	q := storage.MessageQuery{Tenant: id.Tenant, Device: id.Device, Channel: req.Channel, Name: req.GetMeasurement()}
	if q.Channel != nil {
		if err := device.ValidateChannel(*q.Channel); err != nil {
			return q, err
		}
	}
	if err := checkToken(req.GetPageToken()); err != nil {
		return q, err
	}
	q.Since, q.Until, err = timeRange(req.GetSince(), req.GetUntil())
	return q, err
}

func (t *telemetry) Latest(ctx context.Context, req *pb.LatestRequest) (*pb.LatestResponse, error) {
	id, err := parseScope(req.GetParent())
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(req.GetPageSize(), 100, 1000)
	if err != nil {
		return nil, err
	}
	after, err := parseNameToken(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	t.s.barrier(ctx)
	page := pager[[]*pb.LatestValue]{want: limit, size: latestSize}
	page.fetch = func(limit int, after string) ([][]*pb.LatestValue, string, error) {
		values, err := t.s.needs.Reader.Latest(ctx, storage.LatestQuery{Tenant: id.Tenant, Device: id.Device, After: after, Limit: limit})
		groups := byDevice(values)
		if err != nil || id.Device != "" || len(groups) < limit {
			return groups, "", err
		}
		return groups, values[len(values)-1].Device, nil
	}
	groups, next, err := page.collect(after)
	if err != nil {
		return nil, err
	}
	resp := &pb.LatestResponse{Values: slices.Concat(groups...)}
	if next != "" {
		resp.NextPageToken = nameToken(next)
	}
	return resp, nil
}

// byDevice splits values, ordered by device, into one group a device.
func byDevice(values []storage.LatestValue) (groups [][]*pb.LatestValue) {
	for i, v := range values {
		out := &pb.LatestValue{Device: v.Device, Channel: v.Channel, Measurement: devicepb.MeasurementToProto(v.Measurement)}
		if i == 0 || values[i-1].Device != v.Device {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], out)
	}
	return groups
}

func latestSize(group []*pb.LatestValue) (n int) {
	for _, v := range group {
		n += proto.Size(v) + 4
	}
	return n
}

// timeRange reads [since, until); an absent end is unbounded.
func timeRange(since, until *timestamppb.Timestamp) (from, to time.Time, err error) {
	if from, err = instant("since", since); err != nil {
		return from, to, err
	}
	if to, err = instant("until", until); err != nil {
		return from, to, err
	}
	if !from.IsZero() && !to.IsZero() && !from.Before(to) {
		return from, to, device.Errorf(device.Invalid, "since must be before until")
	}
	return from, to, nil
}

// instant reads a time; what cannot be counted in nanoseconds since 1970 is refused.
func instant(field string, t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	at := t.AsTime()
	if t.CheckValid() != nil || at.Year() < 1970 || at.Year() > 2261 {
		return time.Time{}, device.Errorf(device.Invalid, "%s must lie between the years 1970 and 2261", field)
	}
	return at, nil
}
