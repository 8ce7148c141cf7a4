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

// Questions about one series: its points, and its points in buckets.

func (t *telemetry) QueryPoints(ctx context.Context, req *pb.QueryPointsRequest) (*pb.QueryPointsResponse, error) {
	id, err := parseSeries(req)
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(req.GetLimit(), 1000, 100_000)
	if err != nil {
		return nil, err
	}
	q := storage.PointQuery{Tenant: id.Tenant, Device: id.Device, Channel: req.GetChannel(), Name: req.GetMeasurement()}
	if q.Since, q.Until, err = timeRange(req.GetSince(), req.GetUntil()); err != nil {
		return nil, err
	}
	t.s.barrier(ctx)
	points, err := newest(limit, q.Until, "points", func(limit int, until time.Time) ([]*pb.Measurement, time.Time, error) {
		q.Limit, q.Until = limit, until
		points, err := t.s.needs.Reader.Points(ctx, q)
		out := make([]*pb.Measurement, 0, len(points))
		for _, p := range points {
			out = append(out, pointToProto(p))
		}
		if len(points) < limit {
			return out, time.Time{}, err
		}
		return out, points[0].Time, nil
	})
	if err != nil {
		return nil, err
	}
	return &pb.QueryPointsResponse{Points: points}, nil
}

// minStep is the shortest bucket; below it are the points themselves.
const minStep = time.Millisecond

func (t *telemetry) Aggregate(ctx context.Context, req *pb.AggregateRequest) (*pb.AggregateResponse, error) {
	id, err := parseSeries(req)
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(req.GetLimit(), 1000, 10_000)
	if err != nil {
		return nil, err
	}
	q := storage.BucketQuery{Tenant: id.Tenant, Device: id.Device, Channel: req.GetChannel(), Name: req.GetMeasurement()}
	if q.Since, q.Until, err = timeRange(req.GetSince(), req.GetUntil()); err != nil {
		return nil, err
	}
	if q.Step, err = duration("step", req.GetStep()); err != nil {
		return nil, err
	}
	if q.Step < minStep || q.Step%time.Microsecond != 0 {
		return nil, device.Errorf(device.Invalid, "step is required: the length of a bucket, %s or more, in whole microseconds", minStep)
	}
	t.s.barrier(ctx)
	buckets, err := newest(limit, q.Until, "buckets", func(limit int, until time.Time) ([]*pb.Bucket, time.Time, error) {
		q.Limit, q.Until = limit, until
		buckets, err := t.s.needs.Reader.Buckets(ctx, q)
		out := make([]*pb.Bucket, 0, len(buckets))
		for i := range buckets {
			out = append(out, bucketToProto(&buckets[i]))
		}
		if len(buckets) < limit {
			return out, time.Time{}, err
		}
		return out, buckets[0].Start, nil
	})
	if err != nil {
		return nil, err
	}
	return &pb.AggregateResponse{Buckets: buckets}, nil
}

// parseSeries reads what names a series.
func parseSeries(req interface {
	GetParent() string
	GetChannel() string
	GetMeasurement() string
}) (device.ID, error) {
	id, err := parseDevice(req.GetParent())
	if err != nil {
		return id, err
	}
	if req.GetMeasurement() == "" {
		return id, device.Errorf(device.Invalid, "measurement is required: it names the series")
	}
	return id, device.ValidateChannel(req.GetChannel())
}

// newest reads the newest limit items of a series in steps, each ending where
// the one before began, so that an answer too large is noticed early. fetch
// answers up to limit items before until (zero: unbounded), oldest first, and
// where the items before those end (zero: there are none).
func newest[T proto.Message](limit int, until time.Time, what string, fetch func(limit int, until time.Time) ([]T, time.Time, error)) ([]T, error) {
	page := pager[T]{want: limit, size: func(m T) int { return proto.Size(m) + 4 }}
	page.fetch = func(limit int, cursor string) ([]T, string, error) {
		before := until
		if cursor != "" {
			var err error
			if before, err = time.Parse(time.RFC3339Nano, cursor); err != nil {
				return nil, "", err
			}
		}
		items, rest, err := fetch(limit, before)
		slices.Reverse(items) // paging goes back in time
		if err != nil || rest.IsZero() {
			return items, "", err
		}
		return items, rest.UTC().Format(time.RFC3339Nano), nil
	}
	items, next, err := page.collect("")
	if err != nil {
		return nil, err
	}
	if next != "" && len(items) < limit {
		return nil, device.Errorf(device.TooLarge, "the newest %d %s are as much as one answer holds: ask for fewer, or for a shorter time", len(items), what)
	}
	slices.Reverse(items)
	return items, nil
}

func pointToProto(p storage.Point) *pb.Measurement {
	return devicepb.MeasurementToProto(device.Measurement{Time: p.Time, Value: p.Value})
}

func bucketToProto(b *storage.Bucket) *pb.Bucket {
	out := &pb.Bucket{Start: timestamppb.New(b.Start), Count: b.Count, Numbers: b.Numbers, First: pointToProto(b.First), Last: pointToProto(b.Last)}
	if b.Numbers > 0 {
		avg := b.Sum / float64(b.Numbers)
		out.Avg, out.Min, out.Max, out.Sum = &avg, &b.Min, &b.Max, &b.Sum
	}
	return out
}
