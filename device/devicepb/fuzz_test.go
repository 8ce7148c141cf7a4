package devicepb_test

import (
	"bytes"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// FuzzUnmarshalCommand reads bytes as a request and as a transition: what is
// read is written to bytes that read the same.
func FuzzUnmarshalCommand(f *testing.F) {
	f.Add(devicepb.MarshalCommand(command()))
	f.Add(devicepb.MarshalCommandEvent(event()))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := devicepb.UnmarshalCommand(data); err == nil {
			b := devicepb.MarshalCommand(c)
			again, err := devicepb.UnmarshalCommand(b)
			if err != nil || !bytes.Equal(devicepb.MarshalCommand(again), b) {
				t.Fatalf("%+v came back as %+v, %v", c, again, err)
			}
		}
		if e, err := devicepb.UnmarshalCommandEvent(data); err == nil {
			b := devicepb.MarshalCommandEvent(e)
			again, err := devicepb.UnmarshalCommandEvent(b)
			if err != nil || !bytes.Equal(devicepb.MarshalCommandEvent(again), b) {
				t.Fatalf("%+v came back as %+v, %v", e, again, err)
			}
		}
	})
}

// FuzzUnmarshalPresence reads bytes as a presence event, and as several.
func FuzzUnmarshalPresence(f *testing.F) {
	seed := device.PresenceEvent{Session: device.Session{Device: device.ID{Tenant: "t", Device: "d"}}, ID: "s", Since: at, At: at}
	f.Add(devicepb.MarshalPresence(&seed))
	f.Add(devicepb.AppendPresence(devicepb.AppendPresence(nil, &seed), &device.PresenceEvent{Connected: true}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, err := devicepb.UnmarshalPresence(data); err == nil {
			b := devicepb.MarshalPresence(e)
			again, err := devicepb.UnmarshalPresence(b)
			if err != nil || !bytes.Equal(devicepb.MarshalPresence(again), b) {
				t.Fatalf("%+v came back as %+v, %v", e, again, err)
			}
		}
		all, err := devicepb.UnmarshalPresences(data)
		if err != nil {
			return
		}
		var b []byte
		theirs := &pb.PresenceEvents{}
		for i := range all {
			b = devicepb.AppendPresence(b, &all[i])
			theirs.Events = append(theirs.Events, devicepb.PresenceToProto(&all[i]))
		}
		if want, err := proto.Marshal(theirs); err != nil || !bytes.Equal(b, want) {
			t.Fatalf("%+v is written as\n%x, the generated code writes\n%x (%v)", all, b, want, err)
		}
		if again, err := devicepb.UnmarshalPresences(b); err != nil || !reflect.DeepEqual(again, all) {
			t.Fatalf("%+v came back as %+v, %v", all, again, err)
		}
	})
}

// TestPresencesAreBounded before anything is made of them.
func TestPresencesAreBounded(t *testing.T) {
	for n, want := range map[int]bool{0: true, devicepb.MostPresences: true, devicepb.MostPresences + 1: false, 1 << 19: false} {
		all, err := devicepb.UnmarshalPresences(bytes.Repeat([]byte{0x0a, 0}, n))
		if (err == nil) != want || want && len(all) != n {
			t.Errorf("%d events: %d are read, %v", n, len(all), err)
		}
	}
}
