package device_test

import (
	"testing"

	"github.com/tributary-iot/tributary/device"
)

func TestKeepRules(t *testing.T) {
	var rules device.KeepRules
	for _, text := range []string{"default/thermostat-*/state/*=none", "default/thermostat-*/*=last", "*/press/=last", "*/*/debug*=none", "acme/a=b/c=d=last"} {
		r, err := device.ParseKeepRule(text)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	for _, c := range []struct {
		tenant, device, channel string
		want                    device.Keep
	}{
		{"default", "thermostat-1", "", device.KeepLast},
		{"default", "thermostat-1", "room", device.KeepLast},
		{"default", "thermostat-1", "state/raw", device.KeepNone},
		{"default", "thermostat-1", "state", device.KeepLast},
		{"acme", "thermostat-1", "room", device.KeepAll},
		{"acme", "press", "", device.KeepLast},
		{"acme", "press", "room", device.KeepAll},
		{"acme", "press", "debug/cpu", device.KeepNone},
		{"acme", "a=b", "c=d", device.KeepLast},
	} {
		if got := rules.For(device.ID{Tenant: c.tenant, Device: c.device}, c.channel); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	for _, text := range []string{"", "=last", "a/b=last", "/b/c=last", "a//c=last", "a/b/c", "a/b/c=", "a/b/c=newest", "a/b/c=Last"} {
		if r, err := device.ParseKeepRule(text); device.CodeOf(err) != device.Invalid {
			t.Errorf("%q is %+v, %v", text, r, err)
		}
	}
	if device.KeepLast.String() != "last" {
		t.Error(device.KeepLast)
	}
}
