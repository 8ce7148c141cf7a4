package device

import (
	"fmt"
	"log/slog"
	"strings"
	"unicode/utf8"
)

// Limits of names, in bytes before any escaping. They bound the NATS subject
// built from them, which must stay far below the 4 KiB control line.
const (
	MaxTenantBytes   = 64
	MaxDeviceBytes   = 128
	MaxChannelBytes  = 256
	MaxChannelLevels = 8
)

// DefaultTenant is the tenant of a user name that names none, and of every
// device let in by open mode.
const DefaultTenant = "default"

// ID names one device inside one tenant. It is comparable, so it can be a map key.
type ID struct {
	Tenant string
	Device string
}

// ParseUser reads the user name of a credential: "device@tenant", or just
// "device" for the default tenant. The last "@" separates, so a device name
// may itself contain one.
func ParseUser(user string) (ID, error) {
	id := ID{Tenant: DefaultTenant, Device: user}
	if at := strings.LastIndexByte(user, '@'); at >= 0 {
		id = ID{Tenant: user[at+1:], Device: user[:at]}
	}
	return id, id.Validate()
}

// String gives the user-name form, "device@tenant".
func (id ID) String() string { return id.Device + "@" + id.Tenant }

// Log is a log line's way to name a device: the attributes tenant and device.
func (id ID) Log() slog.Attr {
	return slog.GroupAttrs("", slog.String("tenant", id.Tenant), slog.String("device", id.Device))
}

// Validate checks both names. It answers an *Error of code Invalid.
func (id ID) Validate() error {
	if err := validName("tenant", id.Tenant, MaxTenantBytes); err != nil {
		return err
	}
	if err := validName("device", id.Device, MaxDeviceBytes); err != nil {
		return err
	}
	switch id.Device {
	case "telemetry", "commands", "responses":
		return Errorf(Invalid, "device name %q is reserved: the short address forms start with it", id.Device)
	}
	if id.Device[0] == '$' {
		return Errorf(Invalid, "device name %q starts with $, which is reserved", id.Device)
	}
	return nil
}

// ValidateChannel checks a telemetry channel: "" or levels separated by "/",
// where a level may be empty.
func ValidateChannel(channel string) error {
	if len(channel) > MaxChannelBytes {
		return Errorf(Invalid, "channel is %d bytes long, the limit is %d", len(channel), MaxChannelBytes)
	}
	if n := strings.Count(channel, "/") + 1; n > MaxChannelLevels {
		return Errorf(Invalid, "channel has %d levels, the limit is %d", n, MaxChannelLevels)
	}
	return validText("channel", channel)
}

func validName(what, name string, limit int) error {
	switch {
	case name == "":
		return Errorf(Invalid, "%s name is empty", what)
	case len(name) > limit:
		return Errorf(Invalid, "%s name is %d bytes long, the limit is %d", what, len(name), limit)
	case strings.ContainsAny(name, "/+#"):
		return Errorf(Invalid, "%s name %q contains one of / + #, which addresses use", what, name)
	}
	if err := validText("name", name); err != nil {
		return validText(what+" name", name) // worded only when it is needed: every message comes by
	}
	return nil
}

// validText refuses bytes no protocol can carry in a name: invalid UTF-8, NUL
// and other control characters.
func validText(what, s string) error {
	if !utf8.ValidString(s) {
		return Errorf(Invalid, "%s is not valid UTF-8", what)
	}
	for _, r := range s {
		if r < 0x20 || r == 0x7f {
			return Errorf(Invalid, "%s contains the control character %s", what, fmt.Sprintf("U+%04X", r))
		}
	}
	return nil
}
