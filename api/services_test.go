package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

func TestDevices(t *testing.T) {
	h, ctx := open(t), authorized(t)
	client := pb.NewDeviceServiceClient(h.conn)
	made, err := client.CreateDevice(ctx, &pb.CreateDeviceRequest{Parent: "tenants/acme", DeviceId: "100%"})
	if err != nil || made.GetName() != "tenants/acme/devices/100%25" || made.GetSecret() != "secret of 100%" || made.GetCreateTime().GetSeconds() != 1 {
		t.Fatalf("created %v, %v", made, err)
	}
	name := made.GetName()
	_, err = client.CreateDevice(ctx, &pb.CreateDeviceRequest{Parent: "tenants/acme", DeviceId: "100%"})
	wantCode(t, err, codes.AlreadyExists)
	got, err := client.GetDevice(ctx, &pb.GetDeviceRequest{Name: name})
	if err != nil || got.GetSecret() != "" || got.GetDevice() != "100%" {
		t.Errorf("got %v, %v", got, err)
	}
	off, err := client.DisableDevice(ctx, &pb.DisableDeviceRequest{Name: name})
	if err != nil || !off.GetDisabled() {
		t.Errorf("disabled %v, %v", off, err)
	}
	on, err := client.EnableDevice(ctx, &pb.EnableDeviceRequest{Name: name})
	if err != nil || on.GetDisabled() {
		t.Errorf("enabled %v, %v", on, err)
	}
	rotated, err := client.RotateSecret(ctx, &pb.RotateSecretRequest{Name: name})
	if err != nil || rotated.GetSecret() != "new secret of 100% after 0s" {
		t.Errorf("rotated %v, %v", rotated, err)
	}
	if _, err := client.DeleteDevice(ctx, &pb.DeleteDeviceRequest{Name: name}); err != nil {
		t.Error(err)
	}
	_, err = client.DeleteDevice(ctx, &pb.DeleteDeviceRequest{Name: name})
	wantCode(t, err, codes.NotFound)
	_, err = client.CreateDevice(ctx, &pb.CreateDeviceRequest{Parent: "tenants/acme", DeviceId: "a/b"})
	wantCode(t, err, codes.InvalidArgument)
	_, err = client.GetDevice(ctx, &pb.GetDeviceRequest{Name: "tenants/acme/devices/-"})
	wantCode(t, err, codes.InvalidArgument)
}

func TestListDevicesInPages(t *testing.T) {
	h, ctx := open(t), authorized(t)
	client := pb.NewDeviceServiceClient(h.conn)
	for i := range 25 {
		if _, _, err := h.devices.Add(ctx, device.NewPrincipal{ID: device.ID{Tenant: "acme", Device: fmt.Sprintf("d%02d", i)}}); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	pages, token := 0, ""
	for {
		page, err := client.ListDevices(ctx, &pb.ListDevicesRequest{Parent: "tenants/acme", PageSize: 10, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page.GetDevices() {
			names = append(names, d.GetDevice())
		}
		if pages++; page.GetNextPageToken() == "" {
			break
		}
		token = page.GetNextPageToken()
	}
	if len(names) != 25 || pages != 3 || !slices.IsSorted(names) {
		t.Errorf("%d pages: %v", pages, names)
	}
	for _, req := range []*pb.ListDevicesRequest{
		{Parent: "tenants/acme", PageSize: -1},
		{Parent: "tenants/acme", PageToken: "???"},
		{Parent: "tenants/acme", PageToken: "AAAA"},
		{Parent: "tenants/acme/devices/x"},
		{},
	} {
		_, err := client.ListDevices(ctx, req)
		wantCode(t, err, codes.InvalidArgument)
	}
}

func record(id string, oneWay bool, states ...device.CommandState) device.CommandRecord {
	r := device.CommandRecord{Command: device.Command{ID: id, Tenant: "default", Device: "-", Name: "heat", OneWay: oneWay}}
	for _, s := range states {
		r.Events = append(r.Events, device.CommandEvent{Command: id, Tenant: "default", Device: "-", State: s, At: time.Unix(1, 0)})
	}
	return r
}

func TestSendCommand(t *testing.T) {
	h, ctx := open(t), authorized(t)
	client := pb.NewCommandServiceClient(h.conn)
	var sent device.Command
	h.commands.send = func(c device.Command) (device.CommandRecord, error) {
		sent = c
		return record("01J", false, device.StateQueued), nil
	}
	before := time.Now()
	got, err := client.SendCommand(ctx, &pb.SendCommandRequest{
		Parent: "tenants/acme/devices/dev1", Command: "heat", Payload: []byte("on"), ContentType: "text/plain", Key: "k",
		Ttl: durationpb.New(time.Hour), OneWay: true, ResponseTimeout: durationpb.New(time.Minute),
		MaxAttempts: 3, RetryPause: durationpb.New(time.Second), Order: pb.CommandOrder_COMMAND_ORDER_ONE_AT_A_TIME_UNTIL_DELIVERED,
	})
	if err != nil || got.GetName() != "tenants/default/devices/%2D/commands/01J" || got.GetState() != pb.CommandState_COMMAND_STATE_QUEUED {
		t.Errorf("answered %v, %v", got, err)
	}
	if sent.Deadline.Before(before.Add(time.Hour)) || sent.Deadline.After(time.Now().Add(time.Hour)) {
		t.Errorf("the deadline is %v", sent.Deadline)
	}
	sent.Deadline = time.Time{}
	want := device.Command{Tenant: "acme", Device: "dev1", Name: "heat", ContentType: "text/plain", Key: "k",
		OneWay: true, ResponseTimeout: time.Minute, Sender: "operator",
		MaxAttempts: 3, RetryPause: time.Second, Order: device.UntilDelivered}
	payload := string(sent.Payload)
	sent.Payload = nil
	if fmt.Sprint(sent) != fmt.Sprint(want) || payload != "on" {
		t.Errorf("sent %+v %q, want %+v", sent, payload, want)
	}
	for name, req := range map[string]*pb.SendCommandRequest{
		"no parent":   {},
		"any device":  {Parent: "tenants/acme/devices/-"},
		"attempts":    {Parent: "tenants/acme/devices/d", MaxAttempts: 5000},
		"no order":    {Parent: "tenants/acme/devices/d", Order: 77},
		"no pause":    {Parent: "tenants/acme/devices/d", RetryPause: durationpb.New(0)},
		"no time":     {Parent: "tenants/acme/devices/d", Ttl: durationpb.New(0)},
		"past":        {Parent: "tenants/acme/devices/d", Ttl: durationpb.New(-time.Second)},
		"broken time": {Parent: "tenants/acme/devices/d", ResponseTimeout: &durationpb.Duration{Seconds: 1, Nanos: -1}},
		"long name":   {Parent: "tenants/acme/devices/d", Command: strings.Repeat("n", 200)},
		"two levels":  {Parent: "tenants/acme/devices/d", Command: "a/b"},
		"wildcard":    {Parent: "tenants/acme/devices/d", Command: "+"},
		"control":     {Parent: "tenants/acme/devices/d", Command: "a\x00"},
	} {
		if _, err := client.SendCommand(ctx, req); err == nil {
			t.Errorf("%s: sent", name)
		} else {
			wantCode(t, err, codes.InvalidArgument)
		}
	}
}

func TestGetAndCancelByIDAlone(t *testing.T) {
	h, ctx := open(t), authorized(t)
	client := pb.NewCommandServiceClient(h.conn)
	answer := func(state device.CommandState, err error) func(id device.ID, cmd string) (device.CommandRecord, error) {
		return func(id device.ID, cmd string) (device.CommandRecord, error) {
			if id != (device.ID{Tenant: "acme"}) {
				t.Errorf("asked for %+v", id)
			}
			return record(cmd, false, device.StateQueued, state), err
		}
	}
	h.commands.get = answer(device.StateSent, nil)
	h.commands.cancel = answer(0, device.Errorf(device.Precondition, "the command was sent"))
	got, err := client.GetCommand(ctx, &pb.GetCommandRequest{Name: "tenants/acme/devices/-/commands/01J"})
	if err != nil || got.GetId() != "01J" || len(got.GetEvents()) != 2 || got.GetState() != pb.CommandState_COMMAND_STATE_SENT {
		t.Errorf("got %v, %v", got, err)
	}
	_, err = client.CancelCommand(ctx, &pb.CancelCommandRequest{Name: "tenants/acme/devices/-/commands/01J"})
	wantCode(t, err, codes.FailedPrecondition)
}

func TestWatchCommand(t *testing.T) {
	for _, c := range []struct {
		name   string
		oneWay bool
		states []device.CommandState
		want   int
	}{
		{"answered", false, []device.CommandState{device.StateQueued, device.StateSent, device.StateDelivered, device.StateSucceeded}, 4},
		{"one-way", true, []device.CommandState{device.StateQueued, device.StateSent, device.StateDelivered}, 3},
		{"ended before", false, []device.CommandState{device.StateExpired}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := open(t)
			h.commands.watch = func(_ context.Context, _ device.ID, cmd string, fn func(device.CommandRecord) error) error {
				for i := range c.states {
					if err := fn(record(cmd, c.oneWay, c.states[:i+1]...)); err != nil {
						return err
					}
				}
				return errors.New("watched past the end")
			}
			stream, err := pb.NewCommandServiceClient(h.conn).WatchCommand(authorized(t), &pb.WatchCommandRequest{Name: "tenants/t/devices/-/commands/01J"})
			n := 0
			for err == nil {
				var got *pb.Command
				if got, err = stream.Recv(); err == nil {
					if n++; len(got.GetEvents()) != n {
						t.Errorf("update %d has %d events", n, len(got.GetEvents()))
					}
				}
			}
			if !errors.Is(err, io.EOF) || n != c.want {
				t.Errorf("%d updates, then %v", n, err)
			}
		})
	}
}

func TestListCommands(t *testing.T) {
	h, ctx := open(t), authorized(t)
	client := pb.NewCommandServiceClient(h.conn)
	for i := range 120 {
		h.store.records = append(h.store.records, record(fmt.Sprintf("%03d", i), false, device.StateQueued))
	}
	req := &pb.ListCommandsRequest{Parent: "tenants/default/devices/-", States: []pb.CommandState{pb.CommandState_COMMAND_STATE_QUEUED}}
	var ids []string
	for pages := 1; ; pages++ {
		page, err := client.ListCommands(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.GetCommands() {
			ids = append(ids, c.GetId())
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			if pages != 3 {
				t.Errorf("%d pages of 50", pages)
			}
			break
		}
	}
	if len(ids) != 120 || !slices.IsSorted(ids) || !slices.Equal(h.store.states, []device.CommandState{device.StateQueued}) {
		t.Errorf("listed %v in states %v", ids, h.store.states)
	}
	for _, req := range []*pb.ListCommandsRequest{
		{Parent: "tenants/default"},
		{Parent: "tenants/default/devices/-", PageSize: -1},
		{Parent: "tenants/default/devices/-", States: []pb.CommandState{0}},
		{Parent: "tenants/default/devices/-", States: []pb.CommandState{99}},
		{Parent: "tenants/default/devices/-", PageToken: string(make([]byte, 2000))},
	} {
		_, err := client.ListCommands(ctx, req)
		wantCode(t, err, codes.InvalidArgument)
	}
}

func TestLabelsAndSelectors(t *testing.T) {
	h, ctx := open(t), authorized(t)
	client := pb.NewDeviceServiceClient(h.conn)
	for i := range 30 {
		labels := map[string]string{"number": fmt.Sprint(i)}
		if i%10 == 7 {
			labels["roof"] = ""
		}
		if _, err := client.CreateDevice(ctx, &pb.CreateDeviceRequest{Parent: "tenants/acme", DeviceId: fmt.Sprintf("d%02d", i), Labels: labels}); err != nil {
			t.Fatal(err)
		}
	}
	d, err := client.UpdateLabels(ctx, &pb.UpdateLabelsRequest{Name: "tenants/acme/devices/d17", Set: map[string]string{"site": "rome"}, Remove: []string{"number"}})
	if err != nil || len(d.GetLabels()) != 2 || d.GetLabels()["site"] != "rome" {
		t.Errorf("labelled %v, %v", d, err)
	}
	for selector, want := range map[string]string{"roof": "d07 d17 d27", "roof,site!=rome": "d07 d27", "number in (3, 4)": "d03 d04", "number=99": ""} {
		var got []string
		req := &pb.ListDevicesRequest{Parent: "tenants/acme", PageSize: 4, Selector: selector}
		for {
			page, err := client.ListDevices(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range page.GetDevices() {
				got = append(got, d.GetDevice())
			}
			if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q selects %v, want %s", selector, got, want)
		}
	}
	_, err = client.ListDevices(ctx, &pb.ListDevicesRequest{Parent: "tenants/acme", Selector: "a b"})
	wantCode(t, err, codes.InvalidArgument)
	_, err = client.CreateDevice(ctx, &pb.CreateDeviceRequest{Parent: "tenants/acme", DeviceId: "x", Labels: map[string]string{"a b": ""}})
	wantCode(t, err, codes.InvalidArgument)
}
