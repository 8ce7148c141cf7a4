package amqp

import (
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
)

func TestAddresses(t *testing.T) {
	for in, want := range map[string]address{
		"telemetry":        {node: telemetry},
		"/telemetry/":      {node: telemetry},
		"telemetry/a/b":    {node: telemetry, channel: "a/b"},
		"d/telemetry":      {node: telemetry, device: "d"},
		"/d/telemetry/a":   {node: telemetry, device: "d", channel: "a"},
		"d/telemetry/a//b": {node: telemetry, device: "d", channel: "a//b"},
		"commands":         {node: commands},
		"d/commands":       {node: commands, device: "d"},
		"d/responses":      {node: responses, device: "d"},
		"responses":        {node: responses},
		"":                 {},
		"d":                {},
		"d/events":         {},
		"d/commands/x":     {},
		"commands/x":       {},
		"a/b/telemetry":    {},
		"//telemetry":      {node: telemetry}, // device "": the short form
		"d/telemetry/\x00": {},
		"d/telemetry/" + strings.Repeat("x", 300): {},
	} {
		got, err := parseAddress(in)
		if (err != nil) != (want.node == 0) || err == nil && got != want {
			t.Errorf("%q is %+v, %v; want %+v", in, got, err, want)
		}
	}
}

func FuzzAddress(f *testing.F) {
	f.Add("d/telemetry/a/b")
	f.Add("/commands")
	f.Fuzz(func(t *testing.T, in string) {
		a, err := parseAddress(in)
		if err != nil {
			if code := device.CodeOf(err); code != device.NotFound && code != device.Invalid {
				t.Fatalf("%q: %v", in, err)
			}
			return
		}
		if from, _, err := parseSource(in); err == nil && (strings.Contains(from.device, "/") || device.ValidateChannel(from.channel) != nil) {
			t.Fatalf("%q is received from %+v", in, from)
		}
		if strings.Contains(a.device, "/") || device.ValidateChannel(a.channel) != nil {
			t.Fatalf("%q is %+v", in, a)
		}
	})
}

// FuzzTelemetry takes a whole message from bytes to our words, as telemetry and
// as an answer.
func FuzzTelemetry(f *testing.F) {
	m := wire.Message{MessageID: "k", ContentType: "application/json", Properties: wire.Map{{Key: "a", Value: int32(1)}}, Body: []byte(`{"t":1}`)}
	seed, err := wire.AppendMessage(nil, &m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	event := wire.Message{CorrelationID: "c", Properties: wire.Map{
		{Key: "cloudEvents:specversion", Value: "1.0"}, {Key: "cloudEvents:id", Value: "i"}, {Key: "cloudEvents:source", Value: "s"},
		{Key: "cloudEvents:type", Value: []byte("t")}, {Key: "cloudEvents_time", Value: wire.Timestamp(1)}, {Key: "status", Value: int32(200)},
	}, Body: []byte("1")}
	if seed, err = wire.AppendMessage(nil, &event); err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := decodeMessage(in, 1<<10)
		if err == nil {
			err = typedBody(&m, 1<<10)
		}
		if err != nil {
			return
		}
		words, err := toTelemetry(&m, route{address{channel: "c"}, device.ID{Tenant: "t", Device: "d"}, "gw"}, false)
		if err == nil && (words.Validate() != nil || len(words.Payload) > 1<<10) {
			t.Fatalf("%+v went through", words)
		}
		if r, err := toResponse(&m, route{id: device.ID{Tenant: "t", Device: "d"}}); err == nil && (r.Command == "" || r.Status < 100 || r.Status > 599) {
			t.Fatalf("%+v went through", r)
		}
		if c, err := toCommand(&m, route{id: device.ID{Tenant: "t", Device: "d"}}, "app"); err == nil && (c.Validate() != nil || c.Device != "d") {
			t.Fatalf("%+v went through", c)
		}
		if words == nil {
			return
		}
		out, err := fromTelemetry(&adapters.Telemetry{Stored: device.Stored{Message: *words}, Attempt: 2})
		if err != nil {
			t.Fatalf("%+v cannot be told: %v", words, err)
		}
		if again, err := decodeMessage(out, 1<<20); err != nil || string(again.Body) != string(words.Payload) || again.DeliveryCount != 1 {
			t.Fatalf("%+v is told as %+v, %v", words, again, err)
		}
	})
}
