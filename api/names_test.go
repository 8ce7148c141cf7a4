package api

import (
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/device"
)

func TestNames(t *testing.T) {
	for _, c := range []struct{ tenant, device, name string }{
		{"default", "dev1", "tenants/default/devices/dev1"},
		{"default", "", "tenants/default/devices/-"},
		{"default", "-", "tenants/default/devices/%2D"},
		{"-", "dev1", "tenants/%2D/devices/dev1"},
		{"a b", "100%", "tenants/a b/devices/100%25"},
		{"t", "%2D", "tenants/t/devices/%252D"},
		{"t", "日本", "tenants/t/devices/日本"},
		{"t", "a@b", "tenants/t/devices/a@b"},
	} {
		if got := DeviceName(c.tenant, c.device); got != c.name {
			t.Errorf("DeviceName(%q, %q) = %q, want %q", c.tenant, c.device, got, c.name)
		}
		id, err := parseDevices(c.name)
		if err != nil || id != (device.ID{Tenant: c.tenant, Device: c.device}) {
			t.Errorf("%q is read as %+v, %v", c.name, id, err)
		}
		id, cmd, err := parseCommand(CommandName(c.tenant, c.device, "01J"))
		if err != nil || cmd != "01J" || id != (device.ID{Tenant: c.tenant, Device: c.device}) {
			t.Errorf("command of %q is read as %+v, %q, %v", c.name, id, cmd, err)
		}
	}
	if got, err := parseTenant("tenants/100%25"); err != nil || got != "100%" {
		t.Errorf("tenant is read as %q, %v", got, err)
	}
	if id, err := parseDevice("tenants/t%C3%BC/devices/a%20b"); err != nil || id != (device.ID{Tenant: "tü", Device: "a b"}) {
		t.Errorf("escapes are read as %+v, %v", id, err)
	}
}

func TestWrongNames(t *testing.T) {
	for _, name := range []string{
		"", "/", "tenants", "tenants/", "tenants/t", "tenants/t/devices", "tenants/t/devices/", "tenants/t/devices/d/",
		"tenants/t/devices/d/commands", "tenant/t/devices/d", "tenants/t/device/d", "Tenants/t/devices/d",
		"/tenants/t/devices/d", "tenants//devices/d", "tenants/-/devices/d", "tenants/t/devices/telemetry",
		"tenants/t/devices/%2F", "tenants/t/devices/a%2Fb", "tenants/t/devices/%", "tenants/t/devices/%zz",
		"tenants/t/devices/%00", "tenants/t/devices/+", "tenants/t/devices/#", "tenants/t/devices/$x",
		"tenants/t/devices/" + strings.Repeat("x", 129), "tenants/" + strings.Repeat("x", 65) + "/devices/d",
		strings.Repeat("x", 1<<20), "tenants/t/devices/-",
	} {
		if id, err := parseDevice(name); err == nil || device.CodeOf(err) != device.Invalid {
			t.Errorf("%.80q is read as %+v, %v", name, id, err)
		} else if len(err.Error()) > 500 {
			t.Errorf("%.80q: the error is %d bytes long", name, len(err.Error()))
		}
	}
	for _, name := range []string{
		"tenants/t/devices/d", "tenants/t/devices/d/commands/", "tenants/t/devices/d/commands/-",
		"tenants/t/devices/d/commands/" + strings.Repeat("x", 65), "tenants/-/devices/-/commands/x",
	} {
		if id, cmd, err := parseCommand(name); err == nil {
			t.Errorf("command %.80q is read as %+v %q", name, id, cmd)
		}
	}
}

// FuzzNames holds that what is read is valid, and is written back to a name
// that reads the same.
func FuzzNames(f *testing.F) {
	for _, seed := range []string{
		"tenants/t", "tenants/t/devices/d", "tenants/t/devices/-", "tenants/%2D/devices/%252D/commands/01J",
		"tenants/t/devices/d/commands/-", "tenants/a%2Fb/devices/%00", "tenants//devices//commands/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if tenant, err := parseTenant(name); err == nil {
			if again, err := parseTenant(TenantName(tenant)); err != nil || again != tenant {
				t.Errorf("%q: %q came back as %q, %v", name, tenant, again, err)
			}
		}
		if id, err := parseDevices(name); err == nil {
			if id.Device != "" && id.Validate() != nil {
				t.Errorf("%q is read as %+v, which is not valid", name, id)
			}
			if again, err := parseDevices(DeviceName(id.Tenant, id.Device)); err != nil || again != id {
				t.Errorf("%q: %+v came back as %+v, %v", name, id, again, err)
			}
		}
		if id, cmd, err := parseCommand(name); err == nil {
			again, cmd2, err := parseCommand(CommandName(id.Tenant, id.Device, cmd))
			if err != nil || again != id || cmd2 != cmd {
				t.Errorf("%q: %+v %q came back as %+v %q, %v", name, id, cmd, again, cmd2, err)
			}
		}
	})
}
