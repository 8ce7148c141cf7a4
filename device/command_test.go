package device_test

import (
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/device"
)

// TestCommandNames: a name is one level of a topic, on every protocol.
func TestCommandNames(t *testing.T) {
	c := device.Command{Tenant: "t", Device: "d"}
	for _, name := range []string{"", "heat", "set 50% é", "a.b:c*$", strings.Repeat("n", device.MaxCommandNameBytes)} {
		if c.Name = name; c.Validate() != nil {
			t.Errorf("%q: %v", name, c.Validate())
		}
	}
	for _, name := range []string{"a/b", "/", "+", "a#", "a\x00", "a\n", "a\x7f", "\xff", strings.Repeat("n", device.MaxCommandNameBytes+1)} {
		if c.Name = name; device.CodeOf(c.Validate()) != device.Invalid || !strings.Contains(c.Validate().Error(), "command name") {
			t.Errorf("%q: %v", name, c.Validate())
		}
	}
}
