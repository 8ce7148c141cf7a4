package devicepb

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// MarshalCommand gives the body of c in the COMMANDS stream: the request, with
// no resource name, state or events.
func MarshalCommand(c *device.Command) []byte {
	p := CommandToProto(c)
	p.Name = ""
	return marshal(p)
}

// UnmarshalCommand reads the body of a COMMANDS message.
func UnmarshalCommand(data []byte) (*device.Command, error) {
	var p pb.Command
	if err := proto.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("devicepb: command: %w", err)
	}
	return CommandFromProto(&p), nil
}

// MarshalCommandEvent gives the body of e in COMMAND_EVENTS. Request is not
// part of it: the request stands in COMMANDS.
func MarshalCommandEvent(e *device.CommandEvent) []byte { return marshal(EventToProto(e)) }

// UnmarshalCommandEvent reads the body of a COMMAND_EVENTS message.
func UnmarshalCommandEvent(data []byte) (*device.CommandEvent, error) {
	var p pb.CommandEvent
	if err := proto.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("devicepb: command event: %w", err)
	}
	return EventFromProto(&p), nil
}

// CommandName is the resource name of a command.
func CommandName(tenant, devicename, id string) string {
	return "tenants/" + tenant + "/devices/" + devicename + "/commands/" + id
}

// CommandToProto is the request with its resource name; state and events are
// left out.
func CommandToProto(c *device.Command) *pb.Command {
	out := &pb.Command{
		Name: valid(CommandName(c.Tenant, c.Device, c.ID)), Id: valid(c.ID), Tenant: valid(c.Tenant), Device: valid(c.Device),
		Command: valid(c.Name), Payload: c.Payload, ContentType: valid(c.ContentType), Key: valid(c.Key),
		CreateTime: timestamp(c.CreatedAt), Deadline: timestamp(c.Deadline), OneWay: c.OneWay, Sender: valid(c.Sender),
	}
	out.MaxAttempts, out.Order = uint32(c.MaxAttempts), OrderToProto(c.Order)
	if c.ResponseTimeout != 0 {
		out.ResponseTimeout = durationpb.New(c.ResponseTimeout)
	}
	if c.RetryPause != 0 {
		out.RetryPause = durationpb.New(c.RetryPause)
	}
	return out
}

// CommandFromProto reads the request; state and events are left out.
func CommandFromProto(in *pb.Command) *device.Command {
	return &device.Command{
		ID: in.GetId(), Tenant: in.GetTenant(), Device: in.GetDevice(), Name: in.GetCommand(),
		Payload: in.GetPayload(), ContentType: in.GetContentType(), Key: in.GetKey(),
		CreatedAt: goTime(in.GetCreateTime()), Deadline: goTime(in.GetDeadline()), OneWay: in.GetOneWay(),
		ResponseTimeout: in.GetResponseTimeout().AsDuration(), Sender: in.GetSender(),
		MaxAttempts: int(in.GetMaxAttempts()), RetryPause: in.GetRetryPause().AsDuration(), Order: OrderFromProto(in.GetOrder()),
	}
}

// RecordToProto is a command as the API answers it: where it stands and every
// transition, oldest first.
func RecordToProto(r *device.CommandRecord) *pb.Command {
	out := CommandToProto(&r.Command)
	out.State = StateToProto(r.Last().State)
	for i := range r.Events {
		out.Events = append(out.Events, EventToProto(&r.Events[i]))
	}
	return out
}

// RecordFromProto reads an API answer back into words, as clients do.
func RecordFromProto(in *pb.Command) *device.CommandRecord {
	out := &device.CommandRecord{Command: *CommandFromProto(in)}
	for _, e := range in.GetEvents() {
		out.Events = append(out.Events, *EventFromProto(e))
	}
	return out
}

// EventToProto maps one transition; Request is not part of it.
func EventToProto(e *device.CommandEvent) *pb.CommandEvent {
	return &pb.CommandEvent{
		Command: valid(e.Command), Tenant: valid(e.Tenant), Device: valid(e.Device), State: StateToProto(e.State),
		Time: timestamp(e.At), Attempt: uint32(e.Attempt), Protocol: valid(string(e.Protocol)), Node: valid(e.Node),
		EpochGeneration: e.Epoch.Generation, EpochRevision: e.Epoch.Revision, Reason: valid(e.Reason),
		Unconfirmed: e.Unconfirmed, Status: int32(e.Status), Response: e.Response, ContentType: valid(e.ContentType),
		Via: valid(e.Via), RetryTime: timestamp(e.RetryAt),
	}
}

// EventFromProto maps one transition.
func EventFromProto(in *pb.CommandEvent) *device.CommandEvent {
	return &device.CommandEvent{
		Command: in.GetCommand(), Tenant: in.GetTenant(), Device: in.GetDevice(), State: StateFromProto(in.GetState()),
		At: goTime(in.GetTime()), Attempt: int(in.GetAttempt()), Protocol: device.Protocol(in.GetProtocol()), Node: in.GetNode(),
		Epoch:  device.Epoch{Generation: in.GetEpochGeneration(), Revision: in.GetEpochRevision()},
		Reason: in.GetReason(), Unconfirmed: in.GetUnconfirmed(), Status: int(in.GetStatus()),
		Response: in.GetResponse(), ContentType: in.GetContentType(), Via: in.GetVia(), RetryAt: goTime(in.GetRetryTime()),
	}
}

// StateToProto maps a state; the numbers are the same on both sides.
func StateToProto(s device.CommandState) pb.CommandState { return pb.CommandState(s) }

// StateFromProto maps a state; one this release does not know is StateNone.
func StateFromProto(s pb.CommandState) device.CommandState {
	if s < 0 || s > pb.CommandState(device.StateFailed) {
		return device.StateNone
	}
	return device.CommandState(s)
}

// OrderToProto maps an order; Burst, the default, is left out.
func OrderToProto(o device.Order) pb.CommandOrder {
	if o == device.Burst {
		return pb.CommandOrder_COMMAND_ORDER_UNSPECIFIED
	}
	return pb.CommandOrder(o) + 1
}

// OrderFromProto maps an order; one this release does not know is none of the
// known here either, and Command.Validate refuses it.
func OrderFromProto(o pb.CommandOrder) device.Order {
	if o < 0 || o > 255 {
		return 255
	}
	return device.Order(max(o, 1) - 1)
}

// marshal cannot fail: every text field went through valid.
func marshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic("devicepb: " + err.Error())
	}
	return b
}
