package devicepb_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

func command() *device.Command {
	return &device.Command{ID: "01J0000000000000000000000", Tenant: "default", Device: "d1", Name: "heat", Payload: []byte(`{"on":true}`),
		ContentType: "application/json", Key: "k", CreatedAt: at, Deadline: at.Add(time.Hour), ResponseTimeout: 90 * time.Second, Sender: "app@default",
		MaxAttempts: 3, RetryPause: time.Second, Order: device.UntilResponse}
}

func event() *device.CommandEvent {
	return &device.CommandEvent{Command: "01J", Tenant: "default", Device: "d1", State: device.StateFailed, At: at, Attempt: 2, Protocol: device.AMQP,
		Node: "n1", Epoch: device.Epoch{Generation: 2, Revision: 9}, Reason: "no", Unconfirmed: true, Status: -5, Response: []byte{1}, ContentType: "x/y", Via: "gw", RetryAt: at.Add(time.Second)}
}

func TestCommandThereAndBack(t *testing.T) {
	for _, c := range []*device.Command{command(), {}, {OneWay: true, Tenant: "t", Device: "d"}} {
		back, err := devicepb.UnmarshalCommand(devicepb.MarshalCommand(c))
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Fatalf("came back as %+v (%v), was %+v", back, err, c)
		}
	}
	if _, err := devicepb.UnmarshalCommand([]byte{0x0a, 9}); err == nil {
		t.Fatal("truncated bytes were read")
	}
}

func TestEventThereAndBack(t *testing.T) {
	for _, e := range []*device.CommandEvent{event(), {}} {
		back, err := devicepb.UnmarshalCommandEvent(devicepb.MarshalCommandEvent(e))
		if err != nil || !reflect.DeepEqual(back, e) {
			t.Fatalf("came back as %+v (%v), was %+v", back, err, e)
		}
	}
	if _, err := devicepb.UnmarshalCommandEvent([]byte{0x0a, 9}); err == nil {
		t.Fatal("truncated bytes were read")
	}
	bad := event()
	bad.Reason = "caf\xe9"
	if back, err := devicepb.UnmarshalCommandEvent(devicepb.MarshalCommandEvent(bad)); err != nil || back.Reason != "caf\uFFFD" {
		t.Fatalf("reason came back as %q (%v)", back.Reason, err)
	}
}

func TestRecordThereAndBack(t *testing.T) {
	r := &device.CommandRecord{Command: *command(), Events: []device.CommandEvent{{State: device.StateQueued, At: at}, *event()}}
	p := devicepb.RecordToProto(r)
	if p.State != pb.CommandState_COMMAND_STATE_FAILED || p.Name != "tenants/default/devices/d1/commands/01J0000000000000000000000" {
		t.Fatalf("state %v, name %q", p.State, p.Name)
	}
	if back := devicepb.RecordFromProto(p); !reflect.DeepEqual(back, r) {
		t.Fatalf("came back as %+v, was %+v", back, r)
	}
}

func TestStatesHaveTheSameNamesOnBothSides(t *testing.T) {
	for s := device.StateQueued; s <= device.StateFailed; s++ {
		p := devicepb.StateToProto(s)
		if want := "COMMAND_STATE_" + s.String(); p.String() != want {
			t.Errorf("%v maps to %v", s, p)
		}
		if devicepb.StateFromProto(p) != s {
			t.Errorf("%v does not come back", s)
		}
	}
	if devicepb.StateFromProto(99) != device.StateNone {
		t.Error("an unknown state is StateNone")
	}
}

func TestOrdersHaveTheSameNamesOnBothSides(t *testing.T) {
	for o := device.Burst; o <= device.UntilResponse; o++ {
		p := devicepb.OrderToProto(o)
		if name := pb.CommandOrder(o + 1).String(); name != "COMMAND_ORDER_"+o.String() || devicepb.OrderFromProto(pb.CommandOrder(o+1)) != o {
			t.Errorf("%v is %s", o, name)
		}
		if devicepb.OrderFromProto(p) != o {
			t.Errorf("%v does not come back", o)
		}
	}
	for _, unknown := range []pb.CommandOrder{-1, 4, 256, 1 << 30} {
		c := device.Command{Tenant: "t", Device: "d", Order: devicepb.OrderFromProto(unknown)}
		if err := c.Validate(); device.CodeOf(err) != device.Invalid {
			t.Errorf("order %d is taken for %v", unknown, c.Order)
		}
	}
}

func TestPositionTokens(t *testing.T) {
	for _, p := range []device.Position{{}, {Epoch: 1, Seq: 1}, {Epoch: 7, Seq: 1<<64 - 1}, {Epoch: 1<<64 - 1, Seq: 128}} {
		token := devicepb.EncodePosition(p)
		back, err := devicepb.DecodePosition(token)
		if err != nil || back != p {
			t.Errorf("%+v came back as %+v (%v)", p, back, err)
		}
		mangled := []byte(token)
		mangled[2] ^= 1
		if _, err := devicepb.DecodePosition(string(mangled)); device.CodeOf(err) != device.Invalid {
			t.Errorf("mangled %q gave %v", mangled, err)
		}
	}
	for _, bad := range []string{"", "x", "AQ", "!!!!!!!!", "AQEBAAAA"} {
		if _, err := devicepb.DecodePosition(bad); device.CodeOf(err) != device.Invalid {
			t.Errorf("%q gave %v", bad, err)
		}
	}
}

func FuzzDecodePosition(f *testing.F) {
	f.Add(devicepb.EncodePosition(device.Position{Epoch: 1, Seq: 300}))
	f.Fuzz(func(t *testing.T, token string) {
		p, err := devicepb.DecodePosition(token)
		if err == nil && devicepb.EncodePosition(p) != token {
			t.Fatalf("%q and %q mean the same", token, devicepb.EncodePosition(p))
		}
	})
}
