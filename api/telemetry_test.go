package api_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
	"github.com/tributary-iot/tributary/storage"
)

const dev1 = "tenants/default/devices/dev1"

// queryAll reads every page; each is oldest first and before the last.
func queryAll(t *testing.T, h *house, req *pb.QueryRequest) (all []int64, pages int) {
	t.Helper()
	for {
		page, err := pb.NewTelemetryServiceClient(h.conn).Query(authorized(t), req)
		if err != nil {
			t.Fatal(err)
		}
		if pages++; pages > 500 {
			t.Fatal("paging does not end")
		}
		all = append(numbers(page.GetMessages()), all...)
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			return all, pages
		}
	}
}

func TestQuery(t *testing.T) {
	h := open(t)
	h.store.messages = several(1, 2500, 10)
	if all, pages := queryAll(t, h, &pb.QueryRequest{Parent: dev1}); !slices.Equal(all, upTo(1, 2500)) || pages != 25 {
		t.Errorf("%d pages of 100 hold %d messages", pages, len(all))
	}
	if all, pages := queryAll(t, h, &pb.QueryRequest{Parent: dev1, PageSize: 10_000}); !slices.Equal(all, upTo(1, 2500)) || pages != 1 {
		t.Errorf("%d pages of 10,000 hold %d messages", pages, len(all))
	}
	page, err := pb.NewTelemetryServiceClient(h.conn).Query(authorized(t), &pb.QueryRequest{Parent: dev1, PageSize: 3})
	if err != nil || !slices.Equal(numbers(page.GetMessages()), upTo(2498, 2500)) {
		t.Fatalf("the newest 3 are %v, %v", numbers(page.GetMessages()), err)
	}
	m := page.GetMessages()[2]
	if p, err := devicepb.DecodePosition(m.GetPosition()); err != nil || p.Seq != 2500 || m.GetStoredAt() == nil || m.GetProtocol() != "mqtt" {
		t.Errorf("message %v, %v", m, err)
	}
}

func TestQueryPagesAreCutByBytes(t *testing.T) {
	h := open(t)
	h.store.messages = several(1, 40, 300<<10) // ten and a bit in 3 MiB
	all, pages := queryAll(t, h, &pb.QueryRequest{Parent: dev1, PageSize: 1000})
	if !slices.Equal(all, upTo(1, 40)) || pages < 3 || pages > 5 {
		t.Errorf("%d pages hold %v", pages, all)
	}
	h.store.messages = append(several(1, 200, 10), several(201, 210, 1<<20)...)
	all, pages = queryAll(t, h, &pb.QueryRequest{Parent: dev1, PageSize: 1000})
	if !slices.Equal(all, upTo(1, 210)) || pages < 3 || pages > 5 {
		t.Errorf("%d pages hold %d messages", pages, len(all))
	}
}

func TestQueryAsksWhatWasAsked(t *testing.T) {
	h, ctx := open(t), authorized(t)
	client := pb.NewTelemetryServiceClient(h.conn)
	main, since, until := "", time.Unix(1000, 0).UTC(), time.Unix(2000, 0).UTC()
	_, err := client.Query(ctx, &pb.QueryRequest{
		Parent: dev1, Channel: &main, Measurement: "n", Since: timestamppb.New(since), Until: timestamppb.New(until), PageSize: 20_000,
	})
	q := h.store.asked
	if err != nil || q.Device != "dev1" || q.Tenant != "default" || q.Channel == nil || *q.Channel != "" || q.Name != "n" ||
		!q.Since.Equal(since) || !q.Until.Equal(until) {
		t.Errorf("asked %+v, %v", q, err)
	}
	long := strings.Repeat("x", 300)
	for name, req := range map[string]*pb.QueryRequest{
		"any device":     {Parent: "tenants/default/devices/-"},
		"backwards":      {Parent: dev1, Since: timestamppb.New(until), Until: timestamppb.New(since)},
		"year 3000":      {Parent: dev1, Until: &timestamppb.Timestamp{Seconds: 32503680000}},
		"year 0":         {Parent: dev1, Since: &timestamppb.Timestamp{Seconds: -62135596800}},
		"broken time":    {Parent: dev1, Since: &timestamppb.Timestamp{Nanos: -1}},
		"negative size":  {Parent: dev1, PageSize: -1},
		"no such token":  {Parent: dev1, PageToken: "x"},
		"long token":     {Parent: dev1, PageToken: long + long + long + long},
		"long channel":   {Parent: dev1, Channel: &long},
		"nothing at all": {},
	} {
		if _, err := client.Query(ctx, req); err == nil {
			t.Errorf("%s: answered", name)
		} else {
			wantCode(t, err, codes.InvalidArgument)
		}
	}
}

func TestReadsWaitForTheStoreButNotForLong(t *testing.T) {
	var passed, late int
	h := open(t, func(c *api.Config, n *api.Needs) {
		c.BarrierTimeout = 20 * time.Millisecond
		n.Barrier = func(ctx context.Context) error {
			if passed++; passed > 4 {
				<-ctx.Done()
				late++
				return ctx.Err()
			}
			return nil
		}
	})
	h.store.messages = several(1, 3, 10)
	ctx := authorized(t)
	client := pb.NewTelemetryServiceClient(h.conn)
	for range 2 {
		if r, err := client.Query(ctx, &pb.QueryRequest{Parent: dev1}); err != nil || len(r.GetMessages()) != 3 {
			t.Errorf("Query: %v, %v", r, err)
		}
		if _, err := client.QueryPoints(ctx, &pb.QueryPointsRequest{Parent: dev1, Measurement: "n"}); err != nil {
			t.Errorf("QueryPoints: %v", err)
		}
		if _, err := client.Latest(ctx, &pb.LatestRequest{Parent: dev1}); err != nil {
			t.Errorf("Latest: %v", err)
		}
		if _, err := pb.NewCommandServiceClient(h.conn).ListCommands(ctx, &pb.ListCommandsRequest{Parent: dev1}); err != nil {
			t.Errorf("ListCommands: %v", err)
		}
	}
	if passed != 8 || late != 4 {
		t.Errorf("waited %d times, %d of them in vain; want 8 and 4", passed, late)
	}
}

func TestQueryPoints(t *testing.T) {
	h, ctx := open(t), authorized(t)
	client := pb.NewTelemetryServiceClient(h.conn)
	for n := range 5000 {
		h.store.points = append(h.store.points, storage.Point{Time: time.Unix(int64(n), 7).UTC(), Value: device.Double(float64(n))})
	}
	for limit, want := range map[int32]int{0: 1000, 10: 10, 4999: 4999, 100_000: 5000, 200_000: 5000} {
		r, err := client.QueryPoints(ctx, &pb.QueryPointsRequest{Parent: dev1, Measurement: "n", Limit: limit})
		if err != nil || len(r.GetPoints()) != want {
			t.Errorf("limit %d answers %d points, %v", limit, len(r.GetPoints()), err)
			continue
		}
		for i, p := range r.GetPoints() {
			if n := float64(5000 - want + i); p.GetDoubleValue() != n || p.GetTime().GetSeconds() != int64(n) {
				t.Fatalf("limit %d: point %d is %v", limit, i, p)
			}
		}
	}
	r, err := client.QueryPoints(ctx, &pb.QueryPointsRequest{Parent: dev1, Measurement: "n",
		Since: timestamppb.New(time.Unix(100, 7)), Until: timestamppb.New(time.Unix(200, 7)), Limit: 500})
	if err != nil || len(r.GetPoints()) != 100 || r.GetPoints()[0].GetDoubleValue() != 100 {
		t.Errorf("[100, 200) answers %d points, %v", len(r.GetPoints()), err)
	}
	for i := range h.store.points {
		h.store.points[i].Value = device.String(strings.Repeat("x", 4<<10))
	}
	_, err = client.QueryPoints(ctx, &pb.QueryPointsRequest{Parent: dev1, Measurement: "n", Limit: 5000})
	wantCode(t, err, codes.InvalidArgument)
	_, err = client.QueryPoints(ctx, &pb.QueryPointsRequest{Parent: dev1})
	wantCode(t, err, codes.InvalidArgument)
}

func TestLatest(t *testing.T) {
	h, ctx := open(t), authorized(t)
	client := pb.NewTelemetryServiceClient(h.conn)
	for d := range 25 {
		for _, name := range []string{"a", "b"} {
			h.store.latest = append(h.store.latest, storage.LatestValue{
				Device: fmt.Sprintf("d%02d", d), Measurement: device.Measurement{Name: name, Value: device.Bool(true)},
			})
		}
	}
	req := &pb.LatestRequest{Parent: "tenants/default/devices/-", PageSize: 10}
	var seen []string
	for {
		page, err := client.Latest(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.GetValues()) > 20 {
			t.Errorf("a page of 10 devices holds %d values", len(page.GetValues()))
		}
		for _, v := range page.GetValues() {
			seen = append(seen, v.GetDevice()+v.GetMeasurement().GetName())
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if len(seen) != 50 || !slices.IsSorted(seen) {
		t.Errorf("the tenant shows %v", seen)
	}
	one, err := client.Latest(ctx, &pb.LatestRequest{Parent: "tenants/default/devices/d07"})
	if err != nil || len(one.GetValues()) != 2 || one.GetNextPageToken() != "" {
		t.Errorf("one device shows %v, %v", one, err)
	}
}

func TestAggregate(t *testing.T) {
	h, ctx := open(t), authorized(t)
	client := pb.NewTelemetryServiceClient(h.conn)
	for n := range 5000 {
		h.store.points = append(h.store.points, storage.Point{Time: time.Unix(int64(n), 0).UTC(), Value: device.Double(float64(n))})
	}
	ask := func(req *pb.AggregateRequest) (*pb.AggregateResponse, error) {
		req.Parent, req.Measurement = dev1, "n"
		return client.Aggregate(ctx, req)
	}
	for limit, want := range map[int32]int{0: 1000, 10: 10, 200_000: 5000} {
		r, err := ask(&pb.AggregateRequest{Limit: limit, Step: durationpb.New(time.Second)})
		if err != nil || len(r.GetBuckets()) != want {
			t.Errorf("limit %d answers %d buckets, %v", limit, len(r.GetBuckets()), err)
			continue
		}
		for i, b := range r.GetBuckets() {
			n := float64(5000 - want + i)
			if b.GetStart().GetSeconds() != int64(n) || b.GetAvg() != n || b.GetSum() != n || b.GetFirst().GetDoubleValue() != n || b.GetCount() != 1 {
				t.Fatalf("limit %d: bucket %d is %v", limit, i, b)
			}
		}
	}
	h.store.points[4999].Value = device.String("off")
	r, err := ask(&pb.AggregateRequest{Limit: 1, Step: durationpb.New(time.Second)})
	if err != nil || r.GetBuckets()[0].Avg != nil || r.GetBuckets()[0].Min != nil || r.GetBuckets()[0].GetLast().GetStringValue() != "off" {
		t.Errorf("a bucket without numbers is %v, %v", r, err)
	}
	for _, step := range []*durationpb.Duration{nil, durationpb.New(0), durationpb.New(-time.Second), durationpb.New(time.Microsecond), durationpb.New(time.Second + 1)} {
		_, err := ask(&pb.AggregateRequest{Step: step})
		wantCode(t, err, codes.InvalidArgument)
	}
	_, err = client.Aggregate(ctx, &pb.AggregateRequest{Parent: dev1, Step: durationpb.New(time.Second)})
	wantCode(t, err, codes.InvalidArgument)
}
