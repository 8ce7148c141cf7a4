package pipeline

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// refuse buries a refusal and waits until it is there.
func refuse(t *testing.T, b *Belt, r adapters.Refusal) {
	t.Helper()
	before := lastSeq(t, b, DeadLetterStream)
	b.Refused(r)
	eventually(t, "the letter", func() bool { return lastSeq(t, b, DeadLetterStream) > before })
}

// letters reads all pages of so many.
func letters(t *testing.T, b *Belt, q device.DeadLetterQuery) (out []device.DeadLetter) {
	t.Helper()
	for range 1000 {
		page, next, err := b.DeadLetters(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) > q.Limit {
			t.Fatalf("a page of %d, asked for %d", len(page), q.Limit)
		}
		out = append(out, page...)
		if next == (device.Position{}) {
			return out
		}
		q.After = next
	}
	t.Fatal("paging does not end")
	return nil
}

func TestLettersAreFound(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Relaxed})
	var times []time.Time
	for i := range 30 {
		r := adapters.Refusal{Device: device.ID{Tenant: []string{"t", "t", "a.b"}[i%3], Device: fmt.Sprintf("d %d", i%2)}, Protocol: device.AMQP,
			Raw: []byte{byte(i)}, Err: device.Errorf([]device.Code{device.Undecodable, device.Invalid}[i%2], "no %d", i)}
		refuse(t, b, r)
		times = append(times, letters(t, b, device.DeadLetterQuery{Tenant: r.Device.Tenant, Limit: 1000})[i/3].BuriedAt)
	}
	raws := func(q device.DeadLetterQuery) (out []byte) {
		for _, l := range letters(t, b, q) {
			out = append(out, l.Raw...)
		}
		return out
	}
	for _, limit := range []int{1, 3, 1000} {
		if got, want := raws(device.DeadLetterQuery{Tenant: "a.b", Limit: limit}), []byte{2, 5, 8, 11, 14, 17, 20, 23, 26, 29}; !bytes.Equal(got, want) {
			t.Errorf("limit %d: %v, want %v", limit, got, want)
		}
		if got, want := raws(device.DeadLetterQuery{Tenant: "a.b", Device: "d 1", Limit: limit}), []byte{5, 11, 17, 23, 29}; !bytes.Equal(got, want) {
			t.Errorf("of a device, limit %d: %v, want %v", limit, got, want)
		}
		if got, want := raws(device.DeadLetterQuery{Tenant: "a.b", Codes: []device.Code{device.Undecodable}, Limit: limit}), []byte{2, 8, 14, 20, 26}; !bytes.Equal(got, want) {
			t.Errorf("of a kind, limit %d: %v, want %v", limit, got, want)
		}
	}
	got := raws(device.DeadLetterQuery{Tenant: "a.b", Since: times[5], Until: times[20], Limit: 2})
	if want := []byte{5, 8, 11, 14, 17}; !bytes.HasPrefix(got, want[:1]) || len(got) < len(want) {
		t.Errorf("between times: %v, want %v", got, want)
	}
	if _, _, err := b.DeadLetters(t.Context(), device.DeadLetterQuery{Tenant: "t", After: device.Position{Epoch: 7, Seq: 1}, Limit: 1}); device.CodeOf(err) != device.Invalid {
		t.Errorf("a page token of another life: %v", err)
	}
	first := letters(t, b, device.DeadLetterQuery{Tenant: "t", Limit: 1000})[0]
	if l, err := b.DeadLetter(t.Context(), "t", first.Position); err != nil || !reflect.DeepEqual(l, first) || l.Reason != "no 0" || l.Length != 1 {
		t.Errorf("one letter: %+v, %v, want %+v", l, err, first)
	}
	if _, err := b.DeadLetter(t.Context(), "a.b", first.Position); device.CodeOf(err) != device.NotFound {
		t.Errorf("another tenant's letter: %v", err)
	}
	for range 2 {
		if err := b.RemoveDeadLetter(t.Context(), first.Position); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.DeadLetter(t.Context(), "t", first.Position); device.CodeOf(err) != device.NotFound {
		t.Errorf("a removed letter: %v", err)
	}
	if n := len(letters(t, b, device.DeadLetterQuery{Tenant: "t", Limit: 7})); n != 19 {
		t.Errorf("%d letters are left of 20", n)
	}
}

func TestLettersHoldWhatAReplayNeeds(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Relaxed})
	id := device.ID{Tenant: "t", Device: "d"}
	m := testMessage("d", 1)
	m.Tenant, m.Key, m.Via = "t", "k", "gw"
	m.Properties = map[string]string{"a": string(bytes.Repeat([]byte("v"), device.MaxPropertyBytes-1))}
	bad := device.Errorf(device.Undecodable, "no")
	refuse(t, b, adapters.Refusal{Device: id, Raw: m.Payload, Err: bad, Message: m})
	refuse(t, b, adapters.Refusal{Device: id, Raw: bytes.Repeat([]byte("x"), maxDeadBytes+1), Err: bad, Message: m})
	refuse(t, b, adapters.Refusal{Device: id, Raw: m.Payload, Err: bad})
	// Of a stream: whole, however long, with what the message was.
	large := testMessage("d", 2)
	large.Tenant, large.Payload = "t", bytes.Repeat([]byte("y"), 1<<20)
	for _, body := range [][]byte{devicepb.MarshalMessage(large), []byte("not a message")} {
		l := deadLetter{Refusal: adapters.Refusal{Device: id, Raw: body, Err: bad}, length: len(body), stream: TelemetryStream, at: device.Position{Epoch: 3, Seq: 9}}
		if err := b.bury(t.Context(), l, "unstorable"); err != nil {
			t.Fatal(err)
		}
	}
	got := letters(t, b, device.DeadLetterQuery{Tenant: "t", Limit: 10})
	if len(got) != 5 {
		t.Fatalf("%d letters", len(got))
	}
	m.Measurements, large.Measurements = nil, nil
	for i, want := range []*device.Message{m, nil, nil, large, nil} {
		have := got[i].Message
		if (have == nil) != (want == nil) {
			t.Fatalf("letter %d can be replayed: %v", i, have != nil)
		}
		if want != nil && (have.ID() != want.ID() || have.Key != want.Key || have.Via != want.Via || have.Channel != want.Channel ||
			!have.ReceivedAt.Equal(want.ReceivedAt) || !maps.Equal(have.Properties, want.Properties) || !bytes.Equal(have.Payload, want.Payload) || have.Measurements != nil) {
			t.Errorf("letter %d holds %.300v, want %.300v", i, have, want)
		}
	}
	if got[3].At != (device.Position{Epoch: 3, Seq: 9}) || got[3].ReplayKey(devicepb.EncodePosition) != got[4].ReplayKey(devicepb.EncodePosition) {
		t.Errorf("of a stream, at %v", got[3].At)
	}
	if got[0].ReplayKey(devicepb.EncodePosition) == got[1].ReplayKey(devicepb.EncodePosition) {
		t.Error("two letters have one key")
	}
}
