package mqtt

import (
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

func TestParseTopic(t *testing.T) {
	for topic, want := range map[string]address{
		"telemetry":               {kind: telemetry},
		"/telemetry/":             {kind: telemetry},
		"telemetry//x":            {kind: telemetry, channel: "/x"},
		"d/telemetry/a/b":         {kind: telemetry, device: "d", channel: "a/b"},
		"responses/C/404":         {kind: response, command: "C", status: 404},
		"/d/responses/C/200":      {kind: response, device: "d", command: "C", status: 200},
		"d/responses/C":           {kind: response, device: "d", command: "C"},
		"telemetry/responses/C/1": {kind: telemetry, channel: "responses/C/1"},
	} {
		if got, err := parseTopic(topic); err != nil || got != want {
			t.Errorf("%s: %+v, %v", topic, got, err)
		}
	}
	for _, topic := range []string{"/", "x", "d/x", "//telemetry", "d/telemetryx", "d//telemetry", "responses", "d/e/telemetry", "commands/C", "commands", "/d/commands"} {
		if got, err := parseTopic(topic); err != nil || got != (address{kind: own}) {
			t.Errorf("%s: %+v, %v", topic, got, err)
		}
	}
	if got, err := parseTopic("d/commands"); err != nil || got != (address{kind: order, device: "d"}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, topic := range []string{"responses/", "responses/C/", "d/commands/", "d/commands/C",
		"responses/C/+200", "responses/C/600", "responses/C/200/", "$SYS/telemetry/" + strings.Repeat("x", 300)} {
		if got, err := parseTopic(topic); err == nil || device.CodeOf(err) != device.Invalid || pubackReason(err) != packet.TopicNameInvalid {
			t.Errorf("%s: %+v, %v", topic, got, err)
		}
	}
}

// FuzzTopic: what is taken can be written again, and comes out the same.
func FuzzTopic(f *testing.F) {
	for _, s := range []string{"d/telemetry/a", "/responses/C/200", "telemetry", "d/x", "//telemetry", "responses/C/+20"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, topic string) {
		a, err := parseTopic(topic)
		if err != nil {
			if device.CodeOf(err) != device.Invalid {
				t.Fatalf("%q: %v", topic, err)
			}
			return
		}
		if strings.Contains(a.device, "/") || strings.Contains(a.command, "/") || a.kind == response && a.command == "" {
			t.Fatalf("%q: %+v", topic, a)
		}
		if a.status != 0 && (a.status < 100 || a.status > 599) {
			t.Fatalf("%q: status %d", topic, a.status)
		}
		if b, err := parseTopic("/" + strings.TrimPrefix(topic, "/")); err != nil || a != b {
			t.Fatalf("%q with a leading slash: %+v, %v", topic, b, err)
		}
	})
}

// FuzzCommandFilter: a command arrives only on topics its filter matches.
func FuzzCommandFilter(f *testing.F) {
	for _, s := range []string{"commands", "/commands/#", "d/commands", "/d/commands/#", "//commands", "a/b/commands", "#", "+/commands/#", "commands/#/#"} {
		f.Add(s, "a %2F")
	}
	f.Fuzz(func(t *testing.T, filter, name string) {
		got, err := parseFilter(filter)
		if err != nil || packet.CheckFilter(filter, packet.V311) != nil {
			return
		}
		c := device.Command{ID: "C", Tenant: "t", Device: "d", Name: name}
		if c.Validate() != nil {
			return // nobody can send it
		}
		topic := got.topic(&c)
		prefix, wild := strings.CutSuffix(filter, "#")
		if topic != filter && (!wild || !strings.HasPrefix(topic, prefix)) {
			t.Fatalf("filter %q gets topic %q", filter, topic)
		}
		if err := packet.CheckTopic(topic); err != nil {
			t.Fatalf("filter %q, name %q: %v", filter, name, err)
		}
		back := got.responseTopic(&device.Command{ID: "C"})
		if a, err := parseTopic(back); err == nil && (a.device != got.device || a.command != "C") {
			t.Fatalf("filter %q: response topic %q is read as %+v", filter, back, a)
		}
	})
}

// TestEveryCodeHasReasons: what errors.go says must be legal on the wire.
func TestEveryCodeHasReasons(t *testing.T) {
	for code := device.Internal; code <= device.Unavailable; code++ {
		err := device.Errorf(code, "x")
		for _, p := range []packet.Packet{
			&packet.Ack{Kind: packet.PUBACK, ID: 1, Reason: pubackReason(err)},
			&packet.Disconnect{Reason: closeFor(err).reason},
			&packet.Suback{ID: 1, Reasons: []packet.Reason{subackReason(err, packet.V5)}},
			&packet.Connack{Reason: refuseConnect(err, false).reason},
		} {
			b, err := p.Append(nil, packet.V5)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := packet.NewReader(strings.NewReader(string(b)), packet.V5, 1000).Next(); err != nil {
				t.Errorf("%v in %v: %v", code, p.Type(), err)
			}
		}
		if n := refuseConnect(err, false).v311; n < 1 || n > packet.V311NotAuthorized {
			t.Errorf("%v: return code %d", code, n)
		}
	}
}
