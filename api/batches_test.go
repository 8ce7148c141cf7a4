package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// fakeBatches has one batch, b1 of acme, and remembers what was asked.
type fakeBatches struct {
	batch  device.Batch
	listed []string
	calls  []string
}

func (f *fakeBatches) Create(_ context.Context, b device.Batch, listed []string) (device.Batch, error) {
	if err := b.Validate(); err != nil {
		return b, err
	}
	b.State, b.Total, b.CreatedAt = device.BatchRunning, max(len(listed), 7), time.Unix(1, 0)
	f.batch, f.listed = b, listed
	return b, nil
}

func (f *fakeBatches) do(what, tenant, id string) (device.Batch, error) {
	if tenant != "acme" || id != "b1" {
		return device.Batch{}, device.Errorf(device.NotFound, "there is no batch %s", id)
	}
	f.calls = append(f.calls, what)
	return f.batch, nil
}

func (f *fakeBatches) Get(_ context.Context, tenant, id string) (device.Batch, error) {
	return f.do("get", tenant, id)
}
func (f *fakeBatches) Pause(_ context.Context, tenant, id string) (device.Batch, error) {
	return f.do("pause", tenant, id)
}
func (f *fakeBatches) Resume(_ context.Context, tenant, id string) (device.Batch, error) {
	return f.do("resume", tenant, id)
}
func (f *fakeBatches) Cancel(_ context.Context, tenant, id, reason string) (device.Batch, error) {
	return f.do("cancel "+reason, tenant, id)
}

func (f *fakeBatches) List(_ context.Context, tenant, after string, limit int) (all []device.Batch, _ error) {
	for i := range 5 {
		b := device.Batch{ID: fmt.Sprint("b", i), Tenant: tenant}
		if b.ID > after && len(all) < limit {
			all = append(all, b)
		}
	}
	return all, nil
}

func (f *fakeBatches) Watch(_ context.Context, _, _ string, fn func(device.Batch) error) error {
	b := f.batch
	for range 2 {
		if err := fn(b); err != nil {
			return err
		}
		b.State, b.EndedAt, b.Progress.Succeeded = device.BatchCompleted, time.Unix(9, 0), 7
	}
	return nil
}

func (f *fakeBatches) Results(_ context.Context, _, _ string, fn func(device.BatchResult) error) error {
	return errors.Join(fn(device.BatchResult{Device: "a b", Command: "01J", State: device.StateSucceeded, Status: 200}),
		fn(device.BatchResult{Device: "d2", Error: "too many wait"}))
}

func TestCommandBatches(t *testing.T) {
	f := &fakeBatches{}
	h, ctx := open(t, func(_ *api.Config, n *api.Needs) { n.Batches = f }), authorized(t)
	client := pb.NewCommandBatchServiceClient(h.conn)
	asked := &pb.CommandBatch{
		Command: "heat", Payload: []byte("1"), ContentType: "text/plain", Ttl: durationpb.New(time.Hour), ResponseTimeout: durationpb.New(time.Minute),
		MaxAttempts: 3, RetryPause: durationpb.New(time.Second), Order: pb.CommandOrder_COMMAND_ORDER_ONE_AT_A_TIME_UNTIL_RESPONSE,
		Selector: "roof", Rate: 50, Window: 1000, AbortPercent: 5, AbortAfter: 20,
	}
	made, err := client.CreateCommandBatch(ctx, &pb.CreateCommandBatchRequest{Parent: "tenants/acme", CommandBatchId: "b1", CommandBatch: asked})
	if err != nil || made.GetName() != "tenants/acme/commandBatches/b1" || made.GetTotal() != 7 || made.GetSender() != "operator" ||
		made.GetState() != pb.CommandBatchState_COMMAND_BATCH_STATE_RUNNING || made.GetEndTime() != nil {
		t.Fatalf("made %v, %v", made, err)
	}
	if made.GetCommand() != "heat" || string(made.GetPayload()) != "1" || made.GetTtl().AsDuration() != time.Hour || made.GetResponseTimeout().AsDuration() != time.Minute ||
		made.GetMaxAttempts() != 3 || made.GetRetryPause().AsDuration() != time.Second || made.GetOrder() != asked.Order ||
		made.GetSelector() != "roof" || made.GetRate() != 50 || made.GetWindow() != 1000 || made.GetAbortPercent() != 5 || made.GetAbortAfter() != 20 {
		t.Errorf("made %v", made)
	}
	for _, name := range []string{"tenants/acme/commandBatches/b1", "tenants/acme/commandBatches/nosuch", "tenants/acme/commandBatches/-", "tenants/acme"} {
		_, err1 := client.GetCommandBatch(ctx, &pb.GetCommandBatchRequest{Name: name})
		_, err2 := client.PauseCommandBatch(ctx, &pb.PauseCommandBatchRequest{Name: name})
		_, err3 := client.ResumeCommandBatch(ctx, &pb.ResumeCommandBatchRequest{Name: name})
		_, err4 := client.CancelCommandBatch(ctx, &pb.CancelCommandBatchRequest{Name: name, Reason: "why"})
		for _, err := range []error{err1, err2, err3, err4} {
			switch {
			case strings.HasSuffix(name, "b1") && err != nil:
				t.Error(err)
			case strings.HasSuffix(name, "nosuch"):
				wantCode(t, err, codes.NotFound)
			case !strings.HasSuffix(name, "b1"):
				wantCode(t, err, codes.InvalidArgument)
			}
		}
	}
	if got := strings.Join(f.calls, ","); got != "get,pause,resume,cancel why" {
		t.Errorf("asked for %s", got)
	}
	_, err = client.CreateCommandBatch(ctx, &pb.CreateCommandBatchRequest{Parent: "tenants/acme", CommandBatch: &pb.CommandBatch{Devices: []string{"a", "b"}, Command: "a/b"}})
	wantCode(t, err, codes.InvalidArgument)
	if _, err = client.CreateCommandBatch(ctx, &pb.CreateCommandBatchRequest{Parent: "tenants/acme", CommandBatch: &pb.CommandBatch{Devices: []string{"a", "b"}}}); err != nil || len(f.listed) != 2 {
		t.Errorf("listed %v, %v", f.listed, err)
	}
	page, err := client.ListCommandBatches(ctx, &pb.ListCommandBatchesRequest{Parent: "tenants/acme", PageSize: 3})
	if err != nil || len(page.GetCommandBatches()) != 3 {
		t.Fatal(page, err)
	}
	page, err = client.ListCommandBatches(ctx, &pb.ListCommandBatchesRequest{Parent: "tenants/acme", PageSize: 3, PageToken: page.GetNextPageToken()})
	if err != nil || len(page.GetCommandBatches()) != 2 || page.GetNextPageToken() != "" {
		t.Error(page, err)
	}
}

func TestWatchCommandBatch(t *testing.T) {
	f := &fakeBatches{batch: device.Batch{ID: "b1", Tenant: "acme", State: device.BatchRunning, Total: 7}}
	h, ctx := open(t, func(_ *api.Config, n *api.Needs) { n.Batches = f }), authorized(t)
	client := pb.NewCommandBatchServiceClient(h.conn)
	stream, err := client.WatchCommandBatch(ctx, &pb.WatchCommandBatchRequest{Name: "tenants/acme/commandBatches/b1"})
	var last *pb.CommandBatch
	for err == nil {
		var b *pb.CommandBatch
		if b, err = stream.Recv(); err == nil {
			last = b
		}
	}
	if !errors.Is(err, io.EOF) || last.GetEndTime().GetSeconds() != 9 || last.GetProgress().GetSucceeded() != 7 {
		t.Errorf("watched %v, %v", last, err)
	}
	results, err := client.WatchCommandBatchResults(ctx, &pb.WatchCommandBatchResultsRequest{Name: "tenants/acme/commandBatches/b1"})
	var got []string
	for err == nil {
		var r *pb.CommandBatchResult
		if r, err = results.Recv(); err == nil {
			got = append(got, fmt.Sprint(r.GetDevice(), " ", r.GetCommand(), " ", r.GetStatus(), r.GetError()))
		}
	}
	if strings.Join(got, ";") != "a b tenants/acme/devices/a b/commands/01J 200;d2  0too many wait" {
		t.Errorf("results %q, %v", got, err)
	}
	results, err = client.WatchCommandBatchResults(ctx, &pb.WatchCommandBatchResultsRequest{Name: "tenants/acme/commandBatches/nosuch"})
	if err == nil {
		_, err = results.Recv()
	}
	wantCode(t, err, codes.NotFound)
}
