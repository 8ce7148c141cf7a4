package api_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// oneCommand is a command service that has one command.
type oneCommand struct {
	mu        sync.Mutex
	sent      device.Command
	cancelled chan string
	watching  chan struct{}        // closed when its end is waited for
	end       *device.CommandEvent // nil: it has none
}

func (o *oneCommand) play(h *house) {
	o.cancelled, o.watching = make(chan string, 1), make(chan struct{})
	h.commands.send = func(c device.Command) (device.CommandRecord, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		c.ID, o.sent = "01J", c
		return device.CommandRecord{Command: c, Events: []device.CommandEvent{{State: device.StateQueued}}}, nil
	}
	h.commands.watch = func(ctx context.Context, _ device.ID, id string, fn func(device.CommandRecord) error) error {
		close(o.watching)
		if o.end == nil {
			<-ctx.Done()
			return ctx.Err()
		}
		return fn(device.CommandRecord{Command: device.Command{ID: id, Tenant: "acme", Device: "dev1"}, Events: []device.CommandEvent{{State: device.StateQueued}, *o.end}})
	}
	h.commands.cancel = func(_ device.ID, id string) (device.CommandRecord, error) {
		o.cancelled <- id
		return device.CommandRecord{}, device.Errorf(device.Precondition, "it was sent")
	}
}

// TestCall: a call answers what the device answers, or says why it does not.
func TestCall(t *testing.T) {
	for _, c := range []struct {
		name string
		end  device.CommandEvent
		want codes.Code
	}{
		{"succeeded", device.CommandEvent{State: device.StateSucceeded, Status: 204, Response: []byte("warm"), ContentType: "text/plain"}, codes.OK},
		{"failed", device.CommandEvent{State: device.StateFailed, Status: 204, Response: []byte("warm"), ContentType: "text/plain"}, codes.OK},
		{"silent", device.CommandEvent{State: device.StateFailed}, codes.DeadlineExceeded},
		{"expired", device.CommandEvent{State: device.StateExpired}, codes.DeadlineExceeded},
		{"rejected", device.CommandEvent{State: device.StateRejected}, codes.FailedPrecondition},
		{"cancelled", device.CommandEvent{State: device.StateCancelled}, codes.Aborted},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, one := open(t), &oneCommand{end: &c.end}
			one.play(h)
			before := time.Now()
			got, err := pb.NewCommandServiceClient(h.conn).Call(authorized(t), &pb.CallRequest{
				Parent: "tenants/acme/devices/dev1", Command: "read", Payload: []byte("x"), ContentType: "text/plain", Timeout: durationpb.New(20 * time.Second)})
			if status.Code(err) != c.want {
				t.Fatalf("answered %v, %v", got, err)
			}
			if err == nil && (got.GetStatus() != 204 || string(got.GetPayload()) != "warm" || got.GetContentType() != "text/plain" || got.GetName() != "tenants/acme/devices/dev1/commands/01J") {
				t.Errorf("answered %v", got)
			}
			sent := one.sent
			if sent.Name != "read" || string(sent.Payload) != "x" || sent.ResponseTimeout != 20*time.Second || sent.Sender != "operator" ||
				sent.Deadline.Before(before.Add(20*time.Second)) || sent.Deadline.After(time.Now().Add(20*time.Second)) {
				t.Errorf("sent %+v", sent)
			}
		})
	}
}

// TestCallIsWithdrawn: whoever leaves, the command does not stay behind.
func TestCallIsWithdrawn(t *testing.T) {
	for _, c := range []struct {
		name    string
		timeout *durationpb.Duration
		leave   func(cancel func(), h *house)
		want    codes.Code
	}{
		{"the caller cancels", nil, func(cancel func(), _ *house) { cancel() }, codes.Canceled},
		{"its time is over", durationpb.New(50 * time.Millisecond), func(func(), *house) {}, codes.DeadlineExceeded},
		{"the server stops", nil, func(_ func(), h *house) { h.server.EndStreams() }, codes.Unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, one := open(t), &oneCommand{}
			one.play(h)
			ctx, cancel := context.WithCancel(authorized(t))
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := pb.NewCommandServiceClient(h.conn).Call(ctx, &pb.CallRequest{Parent: "tenants/acme/devices/dev1", Timeout: c.timeout})
				done <- err
			}()
			<-one.watching
			c.leave(cancel, h)
			if err := <-done; status.Code(err) != c.want {
				t.Errorf("answered %v", err)
			}
			if id := <-one.cancelled; id != "01J" {
				t.Errorf("cancelled %q", id)
			}
		})
	}
}

// TestCallLivesByTheCallersDeadline: without a time of its own it is the call's.
func TestCallLivesByTheCallersDeadline(t *testing.T) {
	h, one := open(t), &oneCommand{end: &device.CommandEvent{State: device.StateSucceeded, Status: 200}}
	one.play(h)
	ctx := authorized(t)
	deadline, _ := ctx.Deadline() // earlier than a call without one would have
	if _, err := pb.NewCommandServiceClient(h.conn).Call(ctx, &pb.CallRequest{Parent: "tenants/acme/devices/dev1"}); err != nil {
		t.Fatal(err)
	}
	if late := one.sent.Deadline.Sub(deadline); late > time.Second || late < -20*time.Second {
		t.Errorf("the command's deadline is %v after the caller's", late)
	}
	for _, req := range []*pb.CallRequest{{}, {Parent: "tenants/acme/devices/-"}, {Parent: "tenants/a/devices/d", Command: "a/b"}, {Parent: "tenants/a/devices/d", Timeout: durationpb.New(-1)}} {
		_, err := pb.NewCommandServiceClient(h.conn).Call(ctx, req)
		wantCode(t, err, codes.InvalidArgument)
	}
}

// TestCallOverRESTOutlastsItsBody: how long a body may take to come says nothing
// about how long its answer may.
func TestCallOverRESTOutlastsItsBody(t *testing.T) {
	const body = 100 * time.Millisecond
	r := openREST(t, func(c *api.Config, _ *api.Needs) { c.BodyTimeout = body })
	one := &oneCommand{}
	one.play(r.house)
	r.commands.watch = func(ctx context.Context, _ device.ID, id string, fn func(device.CommandRecord) error) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * body):
			return fn(device.CommandRecord{Events: []device.CommandEvent{{State: device.StateSucceeded, Status: 200, Response: []byte("warm")}}})
		}
	}
	if code, answer := r.call("POST", "/v1/tenants/acme/devices/dev1/commands:call", `{"command":"read"}`); code != 200 || answer["payload"] != "d2FybQ==" {
		t.Errorf("answered %d %v", code, answer)
	}
}
