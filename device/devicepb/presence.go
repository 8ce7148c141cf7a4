package devicepb

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// MarshalPresence is the wire form of a presence event in the streams.
func MarshalPresence(e *device.PresenceEvent) []byte { return marshal(PresenceToProto(e)) }

// UnmarshalPresence reads what MarshalPresence wrote. It answers an error of
// code Undecodable for bytes that are no presence event.
func UnmarshalPresence(b []byte) (*device.PresenceEvent, error) {
	var in pb.PresenceEvent
	if err := proto.Unmarshal(b, &in); err != nil {
		return nil, device.Wrap(device.Undecodable, "not a presence event", err)
	}
	return PresenceFromProto(&in), nil
}

// AppendPresence appends an event to those of a PresenceEvents, as the generated code
// would write it. There is one for each connection made, and for each that ends.
func AppendPresence(b []byte, e *device.PresenceEvent) []byte {
	b, start := openNested(b, 1)
	b = appendString(b, 1, e.Device.Tenant)
	b = appendString(b, 2, e.Device.Device)
	b = appendString(b, 3, e.Via)
	b = appendString(b, 4, string(e.Protocol))
	b = appendString(b, 5, e.Client)
	b = appendString(b, 6, e.ID)
	b = appendString(b, 7, e.Node)
	if e.Connected {
		b = append(b, 8<<3|byte(protowire.VarintType), 1)
	}
	b = appendString(b, 9, string(e.Reason))
	if !e.Since.IsZero() {
		b = appendTime(b, 10, e.Since)
	}
	if !e.At.IsZero() {
		b = appendTime(b, 11, e.At)
	}
	return closeNested(b, start)
}

// MostPresences is how many events there are in one PresenceEvents at most.
const MostPresences = 1000

// UnmarshalPresences reads what AppendPresence wrote, in its order. It answers an error
// of code Undecodable for bytes that are no presence events.
func UnmarshalPresences(b []byte) ([]device.PresenceEvent, error) {
	n := 0
	for rest := b; len(rest) > 0; n++ {
		_, _, size := protowire.ConsumeField(rest)
		if size < 0 || n == MostPresences {
			return nil, device.Errorf(device.Undecodable, "not presence events, or more than %d", MostPresences)
		}
		rest = rest[size:]
	}
	var in pb.PresenceEvents
	if err := proto.Unmarshal(b, &in); err != nil {
		return nil, device.Wrap(device.Undecodable, "not presence events", err)
	}
	all := make([]device.PresenceEvent, len(in.GetEvents()))
	for i, e := range in.GetEvents() {
		all[i] = *PresenceFromProto(e)
	}
	return all, nil
}

// StoredPresenceToProto is an event as the API shows it, with its position.
func StoredPresenceToProto(s *device.StoredPresence) *pb.PresenceEvent {
	out := PresenceToProto(&s.PresenceEvent)
	out.Position = EncodePosition(s.Position)
	return out
}

// PresenceToProto maps one event, without a place in the stream.
func PresenceToProto(e *device.PresenceEvent) *pb.PresenceEvent {
	return &pb.PresenceEvent{
		Tenant: valid(e.Device.Tenant), Device: valid(e.Device.Device), Via: valid(e.Via),
		Protocol: valid(string(e.Protocol)), Client: valid(e.Client), Session: valid(e.ID), Node: valid(e.Node),
		Connected: e.Connected, Reason: valid(string(e.Reason)), Since: timestamp(e.Since), Time: timestamp(e.At),
	}
}

// PresenceFromProto maps one event; its position is left out.
func PresenceFromProto(in *pb.PresenceEvent) *device.PresenceEvent {
	return &device.PresenceEvent{
		Session: device.Session{
			Device: device.ID{Tenant: in.GetTenant(), Device: in.GetDevice()}, Via: in.GetVia(),
			Protocol: device.Protocol(in.GetProtocol()), Client: in.GetClient(),
		},
		ID: in.GetSession(), Node: in.GetNode(), Connected: in.GetConnected(), Reason: device.Leaving(in.GetReason()),
		Since: goTime(in.GetSince()), At: goTime(in.GetTime()),
	}
}
