package devicepb

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-iot/tributary/device"
)

func samplePublication() *device.Publication {
	return &device.Publication{
		Tenant: "t", Topic: "a/b", Sender: device.SessionKey{Principal: device.ID{Tenant: "t", Device: "d"}, Client: "c"}, Mark: "m", QoS: 2, Retain: true,
		Payload: []byte{0, 255}, Text: true, ContentType: "x/y", ResponseTopic: "r", Correlation: "\x00\xff",
		Properties: []device.Property{{Name: "b", Value: "1"}, {Name: "a"}, {Name: "b", Value: "2"}},
		Expires:    time.Unix(1_800_000_000, 5).UTC(), At: time.Unix(1_700_000_000, 0).UTC(), Kept: 3,
	}
}

func sampleSession() *device.SessionRecord {
	sub := device.Subscription{Filter: "a/#", QoS: 2, NoLocal: true, RetainAsPublished: true, Retained: device.RetainedNever, ID: 7}
	return &device.SessionRecord{
		Key: device.SessionKey{Principal: device.ID{Tenant: "t", Device: "d"}, Client: "c"}, Node: "n", Expiry: device.Forever, Left: time.Unix(1_800_000_000, 0).UTC(),
		Subscriptions: []device.Subscription{sub}, Topics: device.Position{Epoch: 1, Seq: 2}, Telemetry: device.Position{Epoch: 3, Seq: 4},
		State: device.SessionState{
			Outgoing: []device.Outgoing{{ID: 1, Ref: device.Ref{Source: device.SourceTelemetry, Epoch: 1 << 50, Seq: 9}, QoS: 1, Retained: true, IDs: []uint32{7}}, {ID: 2, QoS: 2, Released: true, Shared: true}},
			Incoming: []device.Incoming{{ID: 65535, Mark: "m", After: device.Position{Epoch: 1 << 50, Seq: 12}}}, LastID: 65535, Mailbox: []device.Subscription{{Filter: "d/commands", QoS: 1}},
		},
		Taken: []device.Taken{
			{Filter: "$share/g/a", Ref: device.Ref{Source: device.SourceTopics, Seq: 1}}, {Filter: "$share/g/a", Ref: device.Ref{Source: device.SourceTopics, Seq: 7}},
			{Filter: "$share/g/a", Ref: device.Ref{Source: device.SourceTopics, Epoch: 5, Seq: 7}}, {Filter: "$share/g/a", Ref: device.Ref{Source: device.SourceTopics, Epoch: 5, Seq: 8}},
			{Filter: "$share/g/a", Ref: device.Ref{Source: device.SourceTelemetry, Seq: 1}}, {Filter: "$share/h/#", Ref: device.Ref{Source: device.SourceTelemetry, Seq: 1}},
		},
		Will: &device.Will{Publication: *samplePublication(), Delay: time.Minute}, WillAt: time.Unix(1_800_000_060, 0).UTC(),
	}
}

func TestTopicsSurviveTheirWireForm(t *testing.T) {
	p, err := UnmarshalPublication(MarshalPublication(samplePublication()))
	if err != nil || !reflect.DeepEqual(p, samplePublication()) {
		t.Errorf("%+v, %v", p, err)
	}
	r, err := UnmarshalSession(MarshalSession(sampleSession()))
	if err != nil || !reflect.DeepEqual(r, sampleSession()) {
		t.Errorf("%+v, %v", r, err)
	}
	short := &device.SessionRecord{Expiry: 1500 * time.Millisecond}
	if r, err := UnmarshalSession(MarshalSession(short)); err != nil || r.Expiry != 2*time.Second {
		t.Errorf("%+v, %v", r, err)
	}
}

// FuzzUnmarshalTopic: what is read is written to bytes that read the same.
func FuzzUnmarshalTopic(f *testing.F) {
	f.Add(MarshalPublication(samplePublication()))
	f.Add(MarshalSession(sampleSession()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := UnmarshalPublication(b); err == nil {
			ours := MarshalPublication(p)
			if theirs, err := proto.Marshal(publicationToProto(p)); err != nil || !bytes.Equal(ours, theirs) {
				t.Fatalf("%+v is written as\n%x, the generated code writes\n%x (%v)", p, ours, theirs, err)
			}
			if again, err := UnmarshalPublication(ours); err != nil || !reflect.DeepEqual(p, again) {
				t.Fatalf("%+v\n%+v\n%v", p, again, err)
			}
		}
		if r, err := UnmarshalSession(b); err == nil {
			if again, err := UnmarshalSession(MarshalSession(r)); err != nil || !reflect.DeepEqual(r, again) {
				t.Fatalf("%+v\n%+v\n%v", r, again, err)
			}
		}
	})
}
