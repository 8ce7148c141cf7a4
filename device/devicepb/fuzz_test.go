package devicepb_test

import (
	"bytes"
	"testing"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
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

// FuzzUnmarshalPresence reads bytes as a presence event.
func FuzzUnmarshalPresence(f *testing.F) {
	f.Add(devicepb.MarshalPresence(&device.PresenceEvent{Session: device.Session{Device: device.ID{Tenant: "t", Device: "d"}}, ID: "s", Since: at, At: at}))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := devicepb.UnmarshalPresence(data)
		if err != nil {
			return
		}
		b := devicepb.MarshalPresence(e)
		again, err := devicepb.UnmarshalPresence(b)
		if err != nil || !bytes.Equal(devicepb.MarshalPresence(again), b) {
			t.Fatalf("%+v came back as %+v, %v", e, again, err)
		}
	})
}
