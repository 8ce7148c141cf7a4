package bridge

import (
	"strings"
	"testing"

	"github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/device"
)

// message is one with something everywhere a rule may look.
func message() *incoming {
	subject, to, group := "plant.dev1.room", "/to", "g"
	return &incoming{&amqp.Message{
		Annotations:           amqp.Annotations{"iothub-connection-device-id": "dev9", "n": int64(7)},
		ApplicationProperties: map[string]any{"device": "dev8", "raw": []byte("r")},
		Properties:            &amqp.MessageProperties{Subject: &subject, To: &to, GroupID: &group, MessageID: uint64(5), UserID: []byte("u")},
	}, "/queue/in"}
}

func TestRules(t *testing.T) {
	const levels = `^plant\.(?P<device>[^.]+)(\.(?P<channel>.+))?$`
	for _, c := range []struct {
		what          string
		link          Link
		name, channel string
	}{
		{"text alone", Link{Device: "dev1"}, "dev1", ""},
		{"an annotation", Link{Device: "{annotation:iothub-connection-device-id}"}, "dev9", ""},
		{"a property, and two fields", Link{Device: "{property:device}", Channel: "{group-id}/{message-id}"}, "dev8", "g/5"},
		{"numbers and binaries", Link{Device: "x{annotation:n}{property:raw}{user-id}", Channel: "{property:none}"}, "x7ru", ""},
		{"groups of a pattern", Link{Pattern: levels}, "dev1", "room"},
		{"a group, and a channel said", Link{Pattern: levels, Channel: "a/{channel}"}, "dev1", "a/room"},
		{"a device beside a pattern", Link{Pattern: levels, Device: "{device}-{property:device}"}, "dev1-dev8", "room"},
		{"another text", Link{Match: "{address}:{to}", Pattern: `^/queue/(?P<q>\w+):/(?P<device>\w+)`, Channel: "{q}"}, "to", "in"},
		{"no match", Link{Pattern: "^x(?P<device>.)"}, "", ""},
		{"nothing found", Link{Device: "{property:none}"}, "", ""},
	} {
		l := c.link
		l.Receive = []string{"a"}
		l = l.withDefaults()
		r, bad := newRule(&l)
		if bad != nil {
			t.Errorf("%s: %v", c.what, bad)
			continue
		}
		name, channel, err := r.apply(message())
		if name != c.name || channel != c.channel || (err != nil) != (c.name == "") {
			t.Errorf("%s: %q %q %v, want %q %q", c.what, name, channel, err, c.name, c.channel)
		}
	}
}

func TestMistakes(t *testing.T) {
	sound := Link{Name: "plant", URL: "amqps://u@h:1", PasswordFile: "/p", Receive: []string{"a"}, Device: "x"}
	if err := Validate([]Link{sound}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*Link)
		want   string
	}{
		{func(l *Link) { l.Name = "" }, "name: device name is empty"},
		{func(l *Link) { l.Name = "a/b" }, "name: "},
		{func(l *Link) { l.Tenant = "a/b" }, "tenant: "},
		{func(l *Link) { l.For = "a, b" }, "for: "},
		{func(l *Link) { l.URL = "" }, "url: say amqp://"},
		{func(l *Link) { l.URL = "amqp://u:p@h" }, "url: holds a password"},
		{func(l *Link) { l.URL = "http://h" }, "url: say amqp://"},
		{func(l *Link) { l.URL = "amqps://h/vhost" }, "url: say amqp://"},
		{func(l *Link) { l.URL = "amqps://h" }, "url: has no user name"},
		{func(l *Link) { l.PasswordFile = "" }, "password_file: is missing"},
		{func(l *Link) { l.CertFile = "c" }, "cert_file: and key_file belong together"},
		{func(l *Link) { l.URL, l.CAFile = "amqp://u@h", "c" }, "url: amqp:// is without TLS"},
		{func(l *Link) { l.Receive = nil }, "receive: is missing"},
		{func(l *Link) { l.Receive = []string{" "} }, "receive: has an empty address"},
		{func(l *Link) { l.Credit = 5001 }, "credit: is 5001"},
		{func(l *Link) { l.Credit = -1 }, "credit: is -1"},
		{func(l *Link) { l.Replies = "r" }, "replies: are answers to commands"},
		{func(l *Link) { l.CommandsTo = "r" }, "commands_to: needs commands"},
		{func(l *Link) { l.Device = "" }, "device: is missing"},
		{func(l *Link) { l.Device = "{subjct}" }, "device: there is no {subjct}; there are {annotation:KEY}, {property:KEY}, {address}"},
		{func(l *Link) { l.Device = "{" }, "device: a { without a }"},
		{func(l *Link) { l.Device = "}" }, "device: a } without a {"},
		{func(l *Link) { l.Channel = "{property:}" }, "channel: there is no {property:}"},
		{func(l *Link) { l.Match = "{device}" }, "match: there is no {device}"},
		{func(l *Link) { l.Pattern = "(" }, "pattern: is not a regular expression"},
		{func(l *Link) { l.Pattern = "(?P<subject>x)" }, `pattern: has a group "subject"`},
		{func(l *Link) { l.Commands = "{subject}" }, "commands: there is no {subject}; there are {device}, {name}, {tenant}"},
	} {
		l := sound
		c.change(&l)
		err := Validate([]Link{l})
		if err == nil || !strings.HasPrefix(err.Error(), "bridges[0]."+c.want) {
			t.Errorf("told %v, want %s", err, c.want)
		}
	}
	if err := Validate([]Link{sound, sound}); err == nil || !strings.Contains(err.Error(), `bridges[1].name: "plant" is the name of another bridge`) {
		t.Errorf("twice the same name: %v", err)
	}
}

// fuzzLink is a link whose rule looks everywhere.
func fuzzLink(t testing.TB) *link {
	cfg := Config{Links: []Link{{
		Name: "plant", URL: "amqp://h", Receive: []string{"a"}, Match: "{subject}{annotation:d}", Pattern: "(?P<device>.{1,200})/?(?P<channel>.*)",
		Channel: "{channel}{property:c}",
	}}}.withDefaults()
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	return newLink(&cfg, &cfg.Links[0], &adaptertest.Gate{}, m)
}

// FuzzMessage: whatever a broker delivers that the guard let pass, the library
// reads it or says why not, and what becomes telemetry or an answer is valid.
func FuzzMessage(f *testing.F) {
	l := fuzzLink(f)
	for _, in := range []*amqp.Message{message().Message, {Data: [][]byte{[]byte(`{"t":1}`), {}}}, {Value: "text"}, {Value: map[string]any{"x": 1}}, {Sequence: [][]any{{1}}}} {
		raw, err := in.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	for _, raw := range hostile {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if sound(raw) != nil {
			return
		}
		in := &incoming{&amqp.Message{}, "a"}
		if in.UnmarshalBinary(raw) != nil {
			return
		}
		m, err := l.toTelemetry(in)
		if err == nil && (m.Validate() != nil || m.Via != "plant") {
			t.Errorf("%x became %+v: %v", raw, m, m.Validate())
		}
		if r, err := l.toResponse(in); err == nil && (r.Device.Validate() != nil || r.Command == "") {
			t.Errorf("%x became the answer %+v", raw, r)
		}
		if err != nil && device.PublicMessage(err) == "" {
			t.Errorf("%x is refused without a word", raw)
		}
	})
}

// FuzzTemplate: a template is taken apart into what it was, or refused.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"", "x", "{subject}", "a{to}b{property:x}", "{", "}", "{}", "{property:}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		parsed, err := parseTemplate(s, []string{"subject", "to"}, true)
		if err != nil {
			return
		}
		if back := parsed.fill(func(reference string) string { return "{" + reference + "}" }); back != s {
			t.Errorf("%q became %q", s, back)
		}
	})
}
