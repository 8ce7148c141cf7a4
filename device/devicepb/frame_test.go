package devicepb_test

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

func frameOf(bodies ...[]byte) (frame []byte, size int) {
	for _, b := range bodies {
		size += devicepb.FramedSize(b)
		frame = devicepb.AppendFramed(frame, b)
	}
	return frame, size
}

func each(body []byte) (all [][]byte, err error) {
	err = devicepb.EachPublication(body, func(one []byte) bool { all = append(all, one); return true })
	return all, err
}

func TestFrames(t *testing.T) {
	one := devicepb.MarshalPublication(&device.Publication{Tenant: "t", Topic: "a", Payload: []byte("1")})
	two := devicepb.MarshalPublication(&device.Publication{Tenant: "t", Topic: "a", Payload: bytes.Repeat([]byte("2"), 300)})
	frame, size := frameOf(one, two, nil, one)
	if len(frame) != size {
		t.Errorf("a frame of %d bytes was to have %d", len(frame), size)
	}
	if all, err := each(frame); err != nil || len(all) != 4 || !bytes.Equal(all[0], one) || !bytes.Equal(all[1], two) || len(all[2]) != 0 || !bytes.Equal(all[3], one) {
		t.Errorf("%q, %v", all, err)
	}
	if all, err := each(one); err != nil || len(all) != 1 || !bytes.Equal(all[0], one) {
		t.Errorf("one by itself is %q, %v", all, err)
	}
	for _, damaged := range [][]byte{frame[:len(frame)-1], append(bytes.Clone(frame), one...), frame[:1], frame[:2], nil} {
		all, err := each(damaged)
		if err == nil && len(all) != 1 {
			t.Errorf("%q is read as %q", damaged, all)
		}
	}
	n := 0
	if err := devicepb.EachPublication(frame, func([]byte) bool { n++; return n < 2 }); n != 2 || err != nil {
		t.Errorf("stopped after %d, %v", n, err)
	}
}

// FuzzEachPublication: what is taken apart and put together again is the same, and the
// generated code finds as much in it.
func FuzzEachPublication(f *testing.F) {
	frame, _ := frameOf([]byte("\x0a\x01t"), nil, []byte("\x12\x01a"))
	f.Add(frame)
	f.Add(frame[:5])
	f.Add([]byte("\x0a\x01t"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := each(data)
		if err != nil {
			return
		}
		if len(all) == 1 && bytes.Equal(all[0], data) {
			return // by itself
		}
		again, _ := frameOf(all...)
		if back, err := each(again); err != nil || !slices.EqualFunc(back, all, bytes.Equal) {
			t.Fatalf("%x came back as %x, %v", all, back, err)
		}
		var theirs pb.Publications
		if err := proto.Unmarshal(data, &theirs); err == nil && len(theirs.GetPublications()) != len(all) {
			t.Fatalf("%d publications, the generated code reads %d", len(all), len(theirs.GetPublications()))
		}
	})
}
