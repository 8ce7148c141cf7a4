package pipeline

import (
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/device"
)

func TestTelemetrySubjects(t *testing.T) {
	for _, c := range []struct{ tenant, name, channel, want string }{
		{"default", "dev1", "", "telemetry.default.dev1"},
		{"default", "dev1", "room", "telemetry.default.dev1.room"},
		{"default", "dev1", "room/1", "telemetry.default.dev1.room.1"},
		{"default", "dev1", "/", "telemetry.default.dev1.%.%"},
		{"default", "dev1", "a//b", "telemetry.default.dev1.a.%.b"},
		{"t", "a.b", "", "telemetry.t.a%2Eb"},
		{"t", "a b>c*", "x%y", "telemetry.t.a%20b%3Ec%2A.x%25y"},
		{"t", "Zoë_1-2", "", "telemetry.t.Zo%C3%AB_1-2"},
	} {
		id := device.ID{Tenant: c.tenant, Device: c.name}
		got := TelemetrySubject(id, c.channel)
		if got != c.want {
			t.Errorf("%v %q gives %q, want %q", id, c.channel, got, c.want)
		}
		back, channel, err := ParseTelemetrySubject(got)
		if err != nil || back != id || channel != c.channel {
			t.Errorf("%q reads as %v %q (%v)", got, back, channel, err)
		}
	}
}

func TestForeignSubjectsAreNotRead(t *testing.T) {
	for _, s := range []string{"", "telemetry", "telemetry.a", "other.a.b", "telemetry.a.b%2eb", "telemetry.a.b%41", "telemetry.a.b%4", "telemetry.a.b.%", "telemetry.a..b", "telemetry.a.b c"} {
		if id, channel, err := ParseTelemetrySubject(s); err == nil {
			t.Errorf("%q reads as %v %q", s, id, channel)
		}
	}
}

func TestDeviceSubjectsAndKeysComeBack(t *testing.T) {
	for _, id := range []device.ID{{Tenant: "default", Device: "dev1"}, {Tenant: "a.b", Device: "c=d%e f"}, {Tenant: "", Device: ""}} {
		for root, subject := range map[string]string{commandRoot: commandSubject(id), commandEventRoot: commandEventSubject(id), deadLetterRoot: deadLetterSubject(id)} {
			if back, err := parseDeviceSubject(root, subject); err != nil || back != id {
				t.Errorf("%q reads as %v (%v)", subject, back, err)
			}
		}
		if back, err := parseDeviceKey(deviceKey(id)); err != nil || back != id {
			t.Errorf("key %q reads as %v (%v)", deviceKey(id), back, err)
		}
	}
}

func TestTheLongestSubjectIsFarBelowTheControlLine(t *testing.T) {
	id := device.ID{Tenant: strings.Repeat("é", device.MaxTenantBytes/2), Device: strings.Repeat("é", device.MaxDeviceBytes/2)}
	if n := len(TelemetrySubject(id, strings.Repeat("é", device.MaxChannelBytes/2))); n > maxSubjectBytes {
		t.Fatalf("it is %d bytes long", n)
	}
}

func FuzzTelemetrySubject(f *testing.F) {
	f.Add("default", "dev1", "room/1")
	f.Add("", ".", "/ /")
	f.Fuzz(func(t *testing.T, tenant, name, channel string) {
		id := device.ID{Tenant: tenant, Device: name}
		subject := TelemetrySubject(id, channel)
		if strings.ContainsAny(subject, " \r\n\t*>\x00") || strings.Contains(subject, "..") || strings.HasSuffix(subject, ".") {
			t.Fatalf("%q is no literal subject", subject)
		}
		back, ch, err := ParseTelemetrySubject(subject)
		if err != nil || back != id || ch != channel {
			t.Fatalf("%q reads as %v %q (%v)", subject, back, ch, err)
		}
		if back, err := parseDeviceKey(deviceKey(id)); err != nil || back != id {
			t.Fatalf("key %q reads as %v (%v)", deviceKey(id), back, err)
		}
	})
}

func FuzzParseTelemetrySubject(f *testing.F) {
	f.Add("telemetry.default.dev1.a%2Eb")
	f.Add("command.default.%24")
	f.Add("default.a=2Eb")
	f.Fuzz(func(t *testing.T, subject string) {
		if id, err := parseDeviceSubject("command", subject); err == nil && commandSubject(id) != subject {
			t.Fatalf("%q and %q mean the same", subject, commandSubject(id))
		}
		if id, err := parseDeviceKey(subject); err == nil && deviceKey(id) != subject {
			t.Fatalf("key %q and %q mean the same", subject, deviceKey(id))
		}
		if id, channel, err := ParseTelemetrySubject(subject); err == nil && TelemetrySubject(id, channel) != subject {
			t.Fatalf("%q and %q mean the same", subject, TelemetrySubject(id, channel))
		}
	})
}
