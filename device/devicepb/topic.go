package devicepb

import (
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// MarshalPublication gives the body of p in the streams of topics.
func MarshalPublication(p *device.Publication) []byte {
	return appendPublication(make([]byte, 0, publicationHint(p)), p)
}

// publicationHint is close above the encoded size, so that one allocation is enough.
func publicationHint(p *device.Publication) int {
	n := 96 + len(p.Tenant) + len(p.Topic) + len(p.Sender.Principal.Tenant) + len(p.Sender.Principal.Device) + len(p.Sender.Client) + len(p.Mark) +
		len(p.Payload) + len(p.ContentType) + len(p.ResponseTopic) + len(p.Correlation)
	for _, x := range p.Properties {
		n += 12 + len(x.Name) + len(x.Value)
	}
	return n
}

// appendPublication writes p as the generated code would.
func appendPublication(b []byte, p *device.Publication) []byte {
	b = appendString(b, 1, p.Tenant)
	b = appendString(b, 2, p.Topic)
	if k := p.Sender; k != (device.SessionKey{}) {
		var start int
		b, start = openNested(b, 3)
		b = appendString(b, 1, k.Principal.Tenant)
		b = appendString(b, 2, k.Principal.Device)
		b = appendString(b, 3, k.Client)
		b = closeNested(b, start)
	}
	b = appendString(b, 4, p.Mark)
	b = appendNumber(b, 5, uint64(uint32(p.QoS)))
	b = appendNumber(b, 6, bit(p.Retain))
	b = appendBytes(b, 7, p.Payload)
	b = appendNumber(b, 8, bit(p.Text))
	b = appendString(b, 9, p.ContentType)
	b = appendString(b, 10, p.ResponseTopic)
	b = appendBytes(b, 11, p.Correlation)
	for _, x := range p.Properties {
		var start int
		b, start = openNested(b, 12)
		b = appendString(b, 1, x.Name)
		b = appendString(b, 2, x.Value)
		b = closeNested(b, start)
	}
	if !p.Expires.IsZero() {
		b = appendTime(b, 13, p.Expires)
	}
	if !p.At.IsZero() {
		b = appendTime(b, 14, p.At)
	}
	return appendNumber(b, 15, p.Kept)
}

func appendNumber(b []byte, num protowire.Number, n uint64) []byte {
	if n == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), n)
}

func appendBytes[T []byte | string](b []byte, num protowire.Number, v T) []byte {
	if len(v) == 0 {
		return b
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.BytesType), uint64(len(v)))
	return append(b, v...)
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// UnmarshalPublication is the reverse of MarshalPublication.
func UnmarshalPublication(b []byte) (*device.Publication, error) {
	var in pb.Publication
	if err := proto.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("devicepb: publication: %w", err)
	}
	return publicationFromProto(&in), nil
}

func publicationToProto(p *device.Publication) *pb.Publication {
	out := &pb.Publication{
		Tenant: valid(p.Tenant), Topic: valid(p.Topic), Sender: keyToProto(p.Sender), Mark: valid(p.Mark), Qos: uint32(p.QoS), Retain: p.Retain,
		Payload: p.Payload, Text: p.Text, ContentType: valid(p.ContentType), ResponseTopic: valid(p.ResponseTopic),
		Correlation: []byte(p.Correlation), Expires: timestamp(p.Expires), At: timestamp(p.At), Kept: p.Kept,
	}
	for _, x := range p.Properties {
		out.Properties = append(out.Properties, &pb.UserProperty{Name: valid(x.Name), Value: valid(x.Value)})
	}
	return out
}

func publicationFromProto(in *pb.Publication) *device.Publication {
	out := &device.Publication{
		Tenant: in.GetTenant(), Topic: in.GetTopic(), Sender: keyFromProto(in.GetSender()), Mark: in.GetMark(), QoS: int(min(in.GetQos(), 2)), Retain: in.GetRetain(),
		Payload: in.GetPayload(), Text: in.GetText(), ContentType: in.GetContentType(), ResponseTopic: in.GetResponseTopic(),
		Correlation: string(in.GetCorrelation()), Expires: goTime(in.GetExpires()), At: goTime(in.GetAt()), Kept: in.GetKept(),
	}
	for _, x := range in.GetProperties() {
		out.Properties = append(out.Properties, device.Property{Name: x.GetName(), Value: x.GetValue()})
	}
	return out
}

func keyToProto(k device.SessionKey) *pb.SessionKey {
	if k == (device.SessionKey{}) {
		return nil
	}
	return &pb.SessionKey{Tenant: valid(k.Principal.Tenant), Principal: valid(k.Principal.Device), Client: valid(k.Client)}
}

func keyFromProto(in *pb.SessionKey) device.SessionKey {
	return device.SessionKey{Principal: device.ID{Tenant: in.GetTenant(), Device: in.GetPrincipal()}, Client: in.GetClient()}
}

// MarshalSession gives the body of a session's record.
func MarshalSession(r *device.SessionRecord) []byte {
	out := &pb.TopicSession{
		Key: keyToProto(r.Key), Node: valid(r.Node), Expiry: seconds(r.Expiry), Left: timestamp(r.Left),
		Subscriptions: subscriptionsToProto(r.Subscriptions), Topics: streamPosition(r.Topics), Telemetry: streamPosition(r.Telemetry),
		LastId: uint32(r.State.LastID), Mailbox: subscriptionsToProto(r.State.Mailbox), WillAt: timestamp(r.WillAt),
	}
	for _, x := range r.State.Outgoing {
		out.Outgoing = append(out.Outgoing, &pb.OutgoingMessage{
			Id: uint32(x.ID), Source: uint32(x.Ref.Source), Epoch: x.Ref.Epoch, Seq: x.Ref.Seq, Qos: uint32(x.QoS), Retained: x.Retained, Released: x.Released, Shared: x.Shared, SubscriptionIds: x.IDs,
		})
	}
	for _, x := range r.State.Incoming {
		out.Incoming = append(out.Incoming, &pb.IncomingMessage{Id: uint32(x.ID), Mark: valid(x.Mark), After: streamPosition(x.After)})
	}
	out.Taken = takenToProto(r.Taken)
	if r.Will != nil {
		out.Will, out.WillDelay = publicationToProto(&r.Will.Publication), seconds(r.Will.Delay)
	}
	b, _ := proto.Marshal(out)
	return b
}

// UnmarshalSession is the reverse of MarshalSession.
func UnmarshalSession(b []byte) (*device.SessionRecord, error) {
	var in pb.TopicSession
	if err := proto.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("devicepb: session: %w", err)
	}
	r := &device.SessionRecord{
		Key: keyFromProto(in.GetKey()), Node: in.GetNode(), Expiry: fromSeconds(in.GetExpiry()), Left: goTime(in.GetLeft()),
		Subscriptions: subscriptionsFromProto(in.GetSubscriptions()), Topics: goPosition(in.GetTopics()), Telemetry: goPosition(in.GetTelemetry()),
		WillAt: goTime(in.GetWillAt()),
	}
	r.State.LastID, r.State.Mailbox = uint16(in.GetLastId()), subscriptionsFromProto(in.GetMailbox())
	for _, x := range in.GetOutgoing() {
		r.State.Outgoing = append(r.State.Outgoing, device.Outgoing{
			ID: uint16(x.GetId()), Ref: device.Ref{Source: device.Source(x.GetSource()), Epoch: x.GetEpoch(), Seq: x.GetSeq()}, QoS: int(min(x.GetQos(), 2)),
			Retained: x.GetRetained(), Released: x.GetReleased(), Shared: x.GetShared(), IDs: x.GetSubscriptionIds(),
		})
	}
	for _, x := range in.GetIncoming() {
		r.State.Incoming = append(r.State.Incoming, device.Incoming{ID: uint16(x.GetId()), Mark: x.GetMark(), After: goPosition(x.GetAfter())})
	}
	for _, x := range in.GetTaken() {
		for _, seq := range x.GetSeqs() {
			r.Taken = append(r.Taken, device.Taken{Filter: x.GetFilter(), Ref: device.Ref{Source: device.Source(x.GetSource()), Epoch: x.GetEpoch(), Seq: seq}})
		}
	}
	if w := in.GetWill(); w != nil {
		r.Will = &device.Will{Publication: *publicationFromProto(w), Delay: fromSeconds(in.GetWillDelay())}
	}
	return r, nil
}

// takenToProto writes what follows each other of one group and life of a stream together.
func takenToProto(all []device.Taken) (out []*pb.TakenMessages) {
	for i, x := range all {
		if i == 0 || x.Filter != all[i-1].Filter || x.Ref.Source != all[i-1].Ref.Source || x.Ref.Epoch != all[i-1].Ref.Epoch {
			out = append(out, &pb.TakenMessages{Filter: valid(x.Filter), Source: uint32(x.Ref.Source), Epoch: x.Ref.Epoch})
		}
		last := out[len(out)-1]
		last.Seqs = append(last.Seqs, x.Ref.Seq)
	}
	return out
}

func subscriptionsToProto(subs []device.Subscription) (out []*pb.TopicSubscription) {
	for _, s := range subs {
		out = append(out, &pb.TopicSubscription{
			Filter: valid(s.Filter), Qos: uint32(s.QoS), NoLocal: s.NoLocal, RetainAsPublished: s.RetainAsPublished, RetainHandling: uint32(s.Retained), Id: s.ID,
		})
	}
	return out
}

func subscriptionsFromProto(in []*pb.TopicSubscription) (out []device.Subscription) {
	for _, s := range in {
		out = append(out, device.Subscription{
			Filter: s.GetFilter(), QoS: int(min(s.GetQos(), 2)), NoLocal: s.GetNoLocal(), RetainAsPublished: s.GetRetainAsPublished(),
			Retained: device.RetainedPolicy(min(s.GetRetainHandling(), 2)), ID: s.GetId(),
		})
	}
	return out
}

func streamPosition(p device.Position) *pb.StreamPosition {
	if p == (device.Position{}) {
		return nil
	}
	return &pb.StreamPosition{Epoch: p.Epoch, Seq: p.Seq}
}

func goPosition(in *pb.StreamPosition) device.Position {
	return device.Position{Epoch: in.GetEpoch(), Seq: in.GetSeq()}
}

// seconds rounds up, so that nothing ends early; the largest value is for good.
func seconds(d time.Duration) uint32 {
	if d <= 0 {
		return 0
	}
	return uint32(min((d-1)/time.Second+1, math.MaxUint32))
}

func fromSeconds(n uint32) time.Duration {
	if n == math.MaxUint32 {
		return device.Forever
	}
	return time.Duration(n) * time.Second
}
