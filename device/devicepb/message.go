package devicepb

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// StoredToProto is a message as every API answer shows it: with its position
// token, its stored time, and the time of each measurement spelled out.
func StoredToProto(s *device.Stored) *pb.Message {
	out := MessageToProto(&s.Message)
	out.Position = EncodePosition(s.Position)
	out.StoredAt, out.Kept = timestamp(s.StoredAt), 0
	return out
}

// MessageToProto is a message without a place in the stream.
func MessageToProto(m *device.Message) *pb.Message {
	out := &pb.Message{
		Tenant: valid(m.Tenant), Device: valid(m.Device), Via: valid(m.Via), Channel: valid(m.Channel),
		Key: valid(m.Key), Protocol: valid(string(m.Protocol)), Qos: uint32(m.QoS), ContentType: valid(m.ContentType),
		CreatedAt: timestamp(m.CreatedAt), ReceivedAt: timestamp(m.ReceivedAt), Payload: m.Payload, Kept: m.Kept,
	}
	if len(m.Properties) > 0 {
		out.Properties = make(map[string]string, len(m.Properties))
		for k, v := range m.Properties {
			out.Properties[valid(k)] = valid(v)
		}
	}
	for _, x := range m.Measurements {
		out.Measurements = append(out.Measurements, MeasurementToProto(x))
	}
	return out
}

// MeasurementToProto maps one measurement; a zero time is left out.
func MeasurementToProto(x device.Measurement) *pb.Measurement {
	out := &pb.Measurement{Name: valid(x.Name), Unit: valid(x.Unit), Time: timestamp(x.Time)}
	switch x.Value.Kind() {
	case device.KindDouble:
		out.Value = &pb.Measurement_DoubleValue{DoubleValue: x.Value.Double()}
	case device.KindInt:
		out.Value = &pb.Measurement_IntValue{IntValue: x.Value.Int()}
	case device.KindBool:
		out.Value = &pb.Measurement_BoolValue{BoolValue: x.Value.Bool()}
	case device.KindString:
		out.Value = &pb.Measurement_StringValue{StringValue: valid(x.Value.Text())}
	case device.KindBytes:
		out.Value = &pb.Measurement_BytesValue{BytesValue: []byte(x.Value.Text())}
	}
	return out
}

// StoredFromProto reads an API answer back into words, as clients do. An
// absent position is the zero one.
func StoredFromProto(in *pb.Message) (device.Stored, error) {
	out := device.Stored{Message: *MessageFromProto(in), StoredAt: goTime(in.GetStoredAt())}
	if in.GetPosition() == "" {
		return out, nil
	}
	pos, err := DecodePosition(in.GetPosition())
	if err != nil {
		return device.Stored{}, fmt.Errorf("message of %s: %w", out.ID(), err)
	}
	out.Position = pos
	return out, nil
}

// MessageFromProto leaves position and stored time out.
func MessageFromProto(in *pb.Message) *device.Message {
	out := &device.Message{
		Tenant: in.GetTenant(), Device: in.GetDevice(), Via: in.GetVia(), Channel: in.GetChannel(),
		Key: in.GetKey(), Protocol: device.Protocol(in.GetProtocol()), QoS: int(in.GetQos()), ContentType: in.GetContentType(),
		CreatedAt: goTime(in.GetCreatedAt()), ReceivedAt: goTime(in.GetReceivedAt()),
		Properties: in.GetProperties(), Payload: in.GetPayload(), Kept: in.GetKept(),
	}
	own := messageTime(out)
	for _, x := range in.GetMeasurements() {
		y := MeasurementFromProto(x)
		if y.Time.IsZero() {
			y.Time = own
		}
		out.Measurements = append(out.Measurements, y)
	}
	return out
}

// MeasurementFromProto maps one measurement; an absent time stays zero.
func MeasurementFromProto(in *pb.Measurement) device.Measurement {
	out := device.Measurement{Name: in.GetName(), Unit: in.GetUnit(), Time: goTime(in.GetTime())}
	switch v := in.GetValue().(type) {
	case *pb.Measurement_DoubleValue:
		out.Value = device.Double(v.DoubleValue)
	case *pb.Measurement_IntValue:
		out.Value = device.Int(v.IntValue)
	case *pb.Measurement_BoolValue:
		out.Value = device.Bool(v.BoolValue)
	case *pb.Measurement_StringValue:
		out.Value = device.String(v.StringValue)
	case *pb.Measurement_BytesValue:
		out.Value = device.Bytes(v.BytesValue)
	}
	return out
}

// timestamp is nil for the zero time.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// goTime is the zero time for nil.
func goTime(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
