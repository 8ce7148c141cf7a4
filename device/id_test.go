package device_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tributary-iot/tributary/device"
)

// FuzzParseUser holds the names a stranger shows: what is taken is within every
// bound, and is written back to what reads the same.
func FuzzParseUser(f *testing.F) {
	for _, user := range []string{"d@t", "d", "a@b@t", "@", "telemetry", "$d", "d/+#", "\x00@t", "é@t"} {
		f.Add(user, "a//b")
	}
	f.Fuzz(func(t *testing.T, user, channel string) {
		if id, err := device.ParseUser(user); err == nil {
			again, err := device.ParseUser(id.String())
			if err != nil || again != id {
				t.Fatalf("%q: %+v came back as %+v, %v", user, id, again, err)
			}
			if len(id.Tenant) > device.MaxTenantBytes || len(id.Device) > device.MaxDeviceBytes || !utf8.ValidString(user) || strings.ContainsAny(user, "/+#\x00") {
				t.Fatalf("%q went through", user)
			}
		}
		if device.ValidateChannel(channel) == nil && (len(channel) > device.MaxChannelBytes || !utf8.ValidString(channel) || strings.Count(channel, "/") >= device.MaxChannelLevels) {
			t.Fatalf("channel %q went through", channel)
		}
	})
}
