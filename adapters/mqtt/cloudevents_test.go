package mqtt_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
)

// binaryEvent is the example of the CloudEvents MQTT binding 1.0.2, section 3.1.4.
func binaryEvent(id uint16, payload string) *packet.Publish {
	m := publish(id, "telemetry", payload)
	m.Properties.AddText(packet.ContentType, "application/json; charset=utf-8")
	for _, p := range [][2]string{
		{"specversion", "1.0"}, {"type", "com.example.someevent"}, {"time", "2018-04-05T03:56:24Z"}, {"id", "1234-1234-1234"},
		{"source", "/mycontext/subcontext"}, {"datacontenttype", "application/json; charset=utf-8"},
	} {
		m.Properties.AddUser(p[0], p[1])
	}
	return m
}

const structured = `{"specversion":"1.0","type":"t","source":"/other-device","id":"e1","data":{"t":1}}`

func TestCloudEvents(t *testing.T) {
	gate := &adaptertest.Gate{}
	s := serve(t, mqtt.Config{}, gate)
	p := join(t, s, packet.V5, "dev1")
	m := binaryEvent(1, `{"t":1}`)
	m.Properties.AddUser("message-id", "mine")
	m.Properties.AddUser("my-own", "x")
	p.send(m)
	p.wantAck(1, packet.Success)
	got := gate.Stored()[0]
	want := map[string]string{"ce-specversion": "1.0", "ce-type": "com.example.someevent", "ce-source": "/mycontext/subcontext", "my-own": "x"}
	if got.Key != "1234-1234-1234" || got.CreatedAt.Unix() != 1522900584 || !reflect.DeepEqual(got.Properties, want) || len(got.Measurements) != 1 {
		t.Errorf("binary: %+v", got)
	}
	m = publish(2, "telemetry", structured)
	m.Properties.AddText(packet.ContentType, "application/cloudevents+json; charset=utf-8")
	p.send(m)
	p.wantAck(2, packet.Success)
	old := join(t, s, packet.V311, "dev1b") // the JSON format is implied (section 3.2.1)
	old.send(publish(1, "telemetry", structured))
	old.wantAck(1, packet.Success)
	for _, got := range gate.Stored()[1:] {
		if got.Key != "e1" || got.Properties["ce-source"] != "/other-device" || string(got.Payload) != structured || len(got.Measurements) != 1 || !strings.HasPrefix(got.Device, "dev1") {
			t.Errorf("structured: %+v", got)
		}
	}
	m = publish(3, "telemetry", "1") // an id alone makes no event
	m.Properties.AddUser("id", "7")
	p.send(m)
	p.wantAck(3, packet.Success)
	if got := gate.Stored()[3]; got.Key != "" || got.Properties["id"] != "7" {
		t.Errorf("no event: %+v", got)
	}
}

func TestFormatsThatDoNotParse(t *testing.T) {
	gate := &adaptertest.Gate{}
	p := join(t, serve(t, mqtt.Config{}, gate), packet.V5, "dev1")
	id := uint16(0)
	for contentType, payload := range map[string]string{
		"application/cbor": "\x81", "application/senml+json": "{}", "application/senml+cbor": "\xa0", "application/vnd.x+cbor": "\xff",
		"application/cloudevents+json": "{}", "application/cloudevents-batch+json": "[]",
	} {
		id++
		m := publish(id, "telemetry", payload)
		m.Properties.AddText(packet.ContentType, contentType)
		p.send(m)
		p.wantAck(id, packet.PayloadFormatInvalid)
	}
	bad := binaryEvent(100, "{")
	p.send(bad)
	p.wantAck(100, packet.PayloadFormatInvalid)
	if len(gate.Stored()) != 0 || len(gate.Refusals()) != int(id)+1 {
		t.Errorf("%d stored, %d refusals", len(gate.Stored()), len(gate.Refusals()))
	}
}
