package amqp_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	client "github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
)

// binaryEvent is the example of the CloudEvents AMQP binding 1.0.2, section
// 3.1.4, under either prefix.
func binaryEvent(prefix, payload string, at any) *client.Message {
	m := client.NewMessage([]byte(payload))
	m.Properties = &client.MessageProperties{MessageID: "the link's", ContentType: ptr("application/json; charset=utf-8")}
	m.ApplicationProperties = map[string]any{
		prefix + "specversion": "1.0", prefix + "type": "com.example.someevent", prefix + "time": at, prefix + "id": "1234-1234-1234",
		prefix + "source": "/mycontext/subcontext", prefix + "count": int64(5), prefix + "raw": []byte{1, 2}, prefix + "ok": true, "my-own": "x",
	}
	return m
}

const structured = `{"specversion":"1.0","type":"t","source":"/other-device","id":"e1","data":{"t":1}}`

func TestCloudEvents(t *testing.T) {
	gate := &adaptertest.Gate{}
	_, session := dial(t, serve(t, amqp.Config{}, gate), nil)
	link := sender(t, session, "dev1/telemetry", nil)
	send := func(m *client.Message) {
		t.Helper()
		if err := link.Send(soon(t), m, nil); err != nil {
			t.Fatal(err)
		}
	}
	send(binaryEvent("cloudEvents:", `{"t":1}`, "2018-04-05T03:56:24Z"))
	send(binaryEvent("cloudEvents_", `{"t":1}`, time.Unix(1522900584, 0)))
	want := map[string]string{
		"ce-specversion": "1.0", "ce-type": "com.example.someevent", "ce-source": "/mycontext/subcontext", "ce-count": "5", "ce-raw": "AQI=", "ce-ok": "true", "my-own": "x",
	}
	for _, got := range gate.Stored() {
		if got.Key != "1234-1234-1234" || got.CreatedAt.Unix() != 1522900584 || !reflect.DeepEqual(got.Properties, want) || len(got.Measurements) != 1 {
			t.Errorf("binary: %+v", got)
		}
	}
	m := client.NewMessage([]byte(structured))
	m.Properties = &client.MessageProperties{ContentType: ptr("application/cloudevents+json; charset=UTF-8")}
	send(m)
	if got := gate.Stored()[2]; got.Key != "e1" || got.Properties["ce-source"] != "/other-device" || string(got.Payload) != structured || got.Device != "dev1" || len(got.Measurements) != 1 {
		t.Errorf("structured: %+v", got)
	}
	m = client.NewMessage([]byte("1")) // no specversion, no event
	m.ApplicationProperties = map[string]any{"cloudEvents:id": "7"}
	send(m)
	if got := gate.Stored()[3]; got.Key != "" || got.Properties["cloudEvents:id"] != "7" {
		t.Errorf("no event: %+v", got)
	}
}

func TestFormatsThatDoNotParse(t *testing.T) {
	gate := &adaptertest.Gate{}
	_, session := dial(t, serve(t, amqp.Config{}, gate), nil)
	link := sender(t, session, "d/telemetry", nil)
	bad := map[string]*client.Message{"binary event": binaryEvent("cloudEvents:", "{", "2018-04-05T03:56:24Z"), "event's time": binaryEvent("cloudEvents:", "{}", "noon")}
	for contentType, payload := range map[string]string{
		"application/cbor": "\x81", "application/senml+json": "{}", "application/senml+cbor": "\xa0", "application/vnd.x+cbor": "\xff",
		"application/cloudevents+json": "{}", "application/cloudevents-batch+json": "[]",
	} {
		m := client.NewMessage([]byte(payload))
		m.Properties = &client.MessageProperties{ContentType: ptr(contentType)}
		bad[contentType] = m
	}
	for name, m := range bad {
		var rejected *client.Error
		if err := link.Send(soon(t), m, nil); !errors.As(err, &rejected) || rejected.Condition != client.ErrCondDecodeError {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(gate.Stored()) != 0 || len(gate.Refusals()) != len(bad) {
		t.Errorf("%d stored, %d refusals", len(gate.Stored()), len(gate.Refusals()))
	}
}
