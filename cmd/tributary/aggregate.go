package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// aggregate is `tributary query --step`.
func (q *queryCmd) aggregate(ctx context.Context, c *client, id device.ID) error {
	if q.Name == "" {
		return errors.New("--step needs --name: say which measurement to put in buckets")
	}
	channel, err := q.channelOf(ctx, c, id)
	if err != nil {
		return err
	}
	answer, err := c.telemetry.Aggregate(ctx, &pb.AggregateRequest{
		Parent: api.DeviceName(id.Tenant, id.Device), Channel: channel, Measurement: q.Name,
		Since: q.Since.proto(), Until: q.Until.proto(), Step: durationpb.New(q.Step), Limit: int32(min(q.Limit, 10_000)),
	})
	if err != nil {
		return err
	}
	if len(answer.GetBuckets()) == 0 {
		c.out.none("Nothing of %s matches; `tributary latest%s` shows who has said what.", id, q.again())
		return nil
	}
	if !c.out.json {
		header := []string{"START"}
		for _, agg := range q.Agg {
			header = append(header, strings.ToUpper(agg))
		}
		if err := c.out.row(header...); err != nil {
			return err
		}
	}
	for _, b := range answer.GetBuckets() {
		if err := c.bucketRow(b, q.Agg); err != nil {
			return err
		}
	}
	return nil
}

// channelOf is --channel, or the only channel that carries the measurement.
func (q *queryCmd) channelOf(ctx context.Context, c *client, id device.ID) (string, error) {
	if q.Channel != nil {
		return *q.Channel, nil
	}
	latest, err := c.telemetry.Latest(ctx, &pb.LatestRequest{Parent: api.DeviceName(id.Tenant, id.Device)})
	if err != nil {
		return "", err
	}
	var channels []string
	for _, v := range latest.GetValues() {
		if v.GetMeasurement().GetName() == q.Name {
			channels = append(channels, v.GetChannel())
		}
	}
	if len(channels) > 1 {
		return "", fmt.Errorf("%s measures %s on several channels (%q): choose one with --channel", id, q.Name, channels)
	}
	return strings.Join(channels, ""), nil
}

func (c *client) bucketRow(b *pb.Bucket, aggs []string) error {
	if c.out.json {
		return c.out.object(onlyAsked(b, aggs))
	}
	cells := []string{moment(b.GetStart())}
	for _, agg := range aggs {
		cells = append(cells, bucketCell(b, agg))
	}
	return c.out.row(cells...)
}

// onlyAsked leaves out of a bucket what was not asked for.
func onlyAsked(b *pb.Bucket, aggs []string) *pb.Bucket {
	out := &pb.Bucket{Start: b.Start}
	if slices.Contains(aggs, "count") {
		out.Count = b.Count
	}
	if slices.Contains(aggs, "avg") {
		out.Avg, out.Numbers = b.Avg, b.Numbers
	}
	if slices.Contains(aggs, "min") {
		out.Min = b.Min
	}
	if slices.Contains(aggs, "max") {
		out.Max = b.Max
	}
	if slices.Contains(aggs, "sum") {
		out.Sum, out.Numbers = b.Sum, b.Numbers
	}
	if slices.Contains(aggs, "first") {
		out.First = b.First
	}
	if slices.Contains(aggs, "last") {
		out.Last = b.Last
	}
	return out
}

func bucketCell(b *pb.Bucket, agg string) string {
	number := func(x *float64) string {
		if x == nil {
			return "-"
		}
		return strconv.FormatFloat(*x, 'g', 6, 64)
	}
	switch agg {
	case "avg":
		return number(b.Avg)
	case "min":
		return number(b.Min)
	case "max":
		return number(b.Max)
	case "sum":
		return number(b.Sum)
	case "first":
		return measurement(b.GetFirst())
	case "last":
		return measurement(b.GetLast())
	}
	return strconv.FormatInt(b.GetCount(), 10)
}
