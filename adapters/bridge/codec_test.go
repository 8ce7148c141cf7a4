package bridge

import (
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/device"
)

func TestWhatBecomesOfAMessage(t *testing.T) {
	l := fuzzLink(t)
	in := message()
	in.Data = [][]byte{[]byte(`{"t":`), []byte(`21}`)}
	at := time.UnixMilli(1_700_000_000_000)
	in.Properties.CreationTime = &at
	in.Properties.ContentType = some("application/json")
	in.ApplicationProperties["c"] = ""
	m, err := l.toTelemetry(in)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"device": "dev8", "raw": "r", "c": "", "amqp.annotation.iothub-connection-device-id": "dev9", "amqp.annotation.n": "7",
		"amqp.subject": "plant.dev1.room", "amqp.group-id": "g", "amqp.user-id": "u",
	}
	if !reflect.DeepEqual(m.Properties, want) || m.Key != "5" || !m.CreatedAt.Equal(at) || string(m.Payload) != `{"t":21}` || len(m.Measurements) != 1 || m.QoS != 1 {
		t.Errorf("it became %+v", m)
	}
}

func TestBodies(t *testing.T) {
	l := fuzzLink(t)
	l.cfg.MaxMessageBytes = 50
	for _, c := range []struct {
		what string
		in   amqp.Message
		want string
		code device.Code
	}{
		{"text", amqp.Message{Value: "x"}, "x", 0},
		{"a binary", amqp.Message{Value: []byte("x")}, "x", 0},
		{"data sections", amqp.Message{Data: [][]byte{[]byte("x"), []byte("y")}}, "xy", 0},
		{"nothing", amqp.Message{}, "", 0},
		{"a map", amqp.Message{Value: map[string]any{"t": 21.5}}, `{"t":21.5}`, 0},
		{"sequences", amqp.Message{Sequence: [][]any{{int32(1)}, {true}}}, `[1,true]`, 0},
		{"too long", amqp.Message{Data: [][]byte{make([]byte, 51)}}, "", device.TooLarge},
		{"a map that is none in JSON", amqp.Message{Value: map[any]any{int32(1): 1}}, "", device.Undecodable},
		{"a map that says it is text", amqp.Message{Value: map[string]any{}, Properties: &amqp.MessageProperties{ContentType: some("text/plain")}}, "", device.Undecodable},
	} {
		got, _, err := l.payload(&incoming{&c.in, "a"})
		if c.code != 0 && device.CodeOf(err) != c.code || c.code == 0 && (err != nil || string(got) != c.want) {
			t.Errorf("%s: %q, %v", c.what, got, err)
		}
	}
}

// TestAnEvent: a CloudEvent beside its payload, as at the doors.
func TestAnEvent(t *testing.T) {
	l := fuzzLink(t)
	in := message()
	in.Data = [][]byte{[]byte(`{"t":21}`)}
	in.ApplicationProperties = map[string]any{
		"cloudEvents:specversion": "1.0", "cloudEvents_id": "e1", "cloudEvents:source": "/s", "cloudEvents:type": "reading", "other": int64(3), "c": "",
	}
	m, err := l.toTelemetry(in)
	if err != nil || m.Key != "e1" || m.Properties["ce-type"] != "reading" || m.Properties["other"] != "3" || m.Properties["cloudEvents_id"] != "" {
		t.Errorf("it became %+v, %v", m, err)
	}
}

// TestAPayloadThatCannotBeRead is refused with the message, so that its letter can
// be replayed.
func TestAPayloadThatCannotBeRead(t *testing.T) {
	l := fuzzLink(t)
	in := message()
	in.Data, in.Properties.ContentType = [][]byte{[]byte("{")}, some("application/json")
	m, err := l.toTelemetry(in)
	if device.CodeOf(err) != device.Undecodable || m == nil || m.Device == "" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestACommandAsItGoesOut(t *testing.T) {
	l := fuzzLink(t)
	now := time.UnixMilli(1_700_000_000_000)
	c := commandFor("dev1", "c1")
	c.CreatedAt, c.Deadline = now, now.Add(1500*time.Millisecond)
	l.Replies = "/queue/replies"
	m := l.fromDelivery(device.Delivery{Command: c, Attempt: 3}, now)
	p := m.Properties
	if p.MessageID != "c1/dev1" || p.CorrelationID != "c1/dev1" || *p.Subject != "heat" || *p.ReplyTo != "/queue/replies" || p.To != nil ||
		!m.Header.Durable || m.Header.TTL != 1500*time.Millisecond || m.Header.DeliveryCount != 2 || m.ApplicationProperties["device"] != "dev1" {
		t.Errorf("it goes out as %+v %+v", m.Header, p)
	}
	c.OneWay = true
	if m := l.fromDelivery(device.Delivery{Command: c, Attempt: 1}, now.Add(time.Hour)); m.Properties.ReplyTo != nil || m.Header.TTL != time.Millisecond {
		t.Errorf("one-way and late it goes out as %+v %+v", m.Header, m.Properties)
	}
}

func TestAnswers(t *testing.T) {
	l := fuzzLink(t)
	for _, c := range []struct {
		id     any
		status any
		device any
		want   string
	}{
		{"c1/dev1", nil, nil, "c1 dev1 200"},
		{"c1", int32(503), "dev1", "c1 dev1 503"},
		{[]byte{0xab}, "404", []byte("dev1"), "ab dev1 404"},
		{"c1", nil, nil, ""},
		{nil, nil, "dev1", ""},
		{"/dev1", nil, nil, ""},
		{"c1/dev1", 99, nil, ""},
		{"c1/dev1", "many", nil, ""},
		{"c1/dev1/x", nil, nil, ""},
	} {
		in := &incoming{&amqp.Message{Properties: &amqp.MessageProperties{CorrelationID: c.id}, ApplicationProperties: map[string]any{}}, "a"}
		if c.status != nil {
			in.ApplicationProperties["status"] = c.status
		}
		if c.device != nil {
			in.ApplicationProperties["device"] = c.device
		}
		r, err := l.toResponse(in)
		got := ""
		if err == nil {
			got = r.Command + " " + r.Device.Device + " " + strconv.Itoa(r.Status)
		}
		if got != c.want {
			t.Errorf("%v %v %v: %q %v, want %q", c.id, c.status, c.device, got, err, c.want)
		}
	}
}

func TestOutcomes(t *testing.T) {
	for state, want := range map[amqp.DeliveryState]device.OutcomeKind{
		&amqp.StateAccepted{}: device.Unconfirmed, &amqp.StateRejected{}: device.Rejected, &amqp.StateReleased{}: device.Released,
		&amqp.StateRejected{Error: &amqp.Error{Condition: "x"}}: device.Rejected,
		&amqp.StateModified{}: device.Released, &amqp.StateModified{UndeliverableHere: true}: device.Rejected,
	} {
		if got := outcomeOf(state); got.Kind != want || got.Reason == "" {
			t.Errorf("%T: %+v, want %v", state, got, want)
		}
	}
}
