package api

import (
	"net/url"
	"strings"

	"github.com/tributary-iot/tributary/device"
)

// Resource names are paths of collections and ids:
//
//	tenants/{tenant}
//	tenants/{tenant}/devices/{device}
//	tenants/{tenant}/devices/{device}/commands/{id}
//	tenants/{tenant}/devices/{device}/deadLetters/{id}
//	tenants/{tenant}/tokens/{token}
//
// An id stands as it is, but for "%" (written %25) and the id "-" (written
// %2D), because "-" alone means any. When read, every %XX is understood.

// anyID is the wildcard of a resource name.
const anyID = "-"

// TenantName is the resource name of a tenant.
func TenantName(tenant string) string { return "tenants/" + escapeID(tenant) }

// DeviceName is the resource name of a device; of any device of the tenant
// when devicename is empty.
func DeviceName(tenant, devicename string) string {
	return TenantName(tenant) + "/devices/" + orAny(devicename)
}

// CommandName is the resource name of a command; devicename may be empty,
// since a command's id is enough to find it.
func CommandName(tenant, devicename, id string) string {
	return DeviceName(tenant, devicename) + "/commands/" + escapeID(id)
}

// DeadLetterName is the resource name of a dead letter; devicename may be empty.
func DeadLetterName(tenant, devicename, id string) string {
	return DeviceName(tenant, devicename) + "/deadLetters/" + escapeID(id)
}

// TokenName is the resource name of an API token.
func TokenName(tenant, id string) string { return TenantName(tenant) + "/tokens/" + escapeID(id) }

// BatchName is the resource name of a command batch.
func BatchName(tenant, id string) string {
	return TenantName(tenant) + "/commandBatches/" + escapeID(id)
}

// BridgeName is the resource name of a bridge.
func BridgeName(tenant, id string) string { return TenantName(tenant) + "/bridges/" + escapeID(id) }

func orAny(id string) string {
	if id == "" {
		return anyID
	}
	return escapeID(id)
}

func escapeID(id string) string {
	if id == anyID {
		return "%2D"
	}
	return strings.ReplaceAll(id, "%", "%25")
}

// parseTenant reads "tenants/{tenant}".
func parseTenant(name string) (string, error) {
	ids, err := parseName(name, "tenants")
	if err != nil {
		return "", err
	}
	return ids[0], validTenant(ids[0])
}

// parseDevice reads "tenants/{tenant}/devices/{device}", a single device.
func parseDevice(name string) (device.ID, error) {
	id, err := parseDevices(name)
	if err == nil && id.Device == "" {
		err = device.Errorf(device.Invalid, `resource name %q names any device, and one is required here`, clip(name))
	}
	return id, err
}

// parseScope reads a tenant's name or what parseDevices reads.
func parseScope(name string) (device.ID, error) {
	if strings.Count(name, "/") == 1 {
		tenant, err := parseTenant(name)
		return device.ID{Tenant: tenant}, err
	}
	return parseDevices(name)
}

// parseDevices reads the same as parseDevice, and answers an empty Device for "-".
func parseDevices(name string) (device.ID, error) {
	ids, err := parseName(name, "tenants", "devices")
	if err != nil {
		return device.ID{}, err
	}
	return deviceID(ids)
}

// parseCommand reads a command's name; Device is empty for "-".
func parseCommand(name string) (device.ID, string, error) {
	ids, err := parseName(name, "tenants", "devices", "commands")
	if err != nil {
		return device.ID{}, "", err
	}
	if ids[2] == "" || len(ids[2]) > maxCommandID {
		return device.ID{}, "", device.Errorf(device.Invalid, "resource name %q names no single command", clip(name))
	}
	id, err := deviceID(ids)
	return id, ids[2], err
}

// parseToken reads a token's name.
func parseToken(name string) (tenant, id string, err error) { return parseOwn(name, "tokens", "token") }

// parseBatch reads a command batch's name.
func parseBatch(name string) (tenant, id string, err error) {
	return parseOwn(name, "commandBatches", "batch")
}

// parseOwn reads the name of one thing that is a tenant's own.
func parseOwn(name, collection, what string) (tenant, id string, err error) {
	ids, err := parseName(name, "tenants", collection)
	if err != nil {
		return "", "", err
	}
	if ids[1] == "" {
		return "", "", device.Errorf(device.Invalid, "resource name %q names no single %s", clip(name), what)
	}
	return ids[0], ids[1], validTenant(ids[0])
}

// tenantOf is the tenant that any resource name begins with.
func tenantOf(name string) (string, error) {
	parts := strings.SplitN(name, "/", 3)
	if len(parts) < 2 {
		return parseTenant(name)
	}
	return parseTenant(parts[0] + "/" + parts[1])
}

// maxCommandID bounds what is looked up; a ULID has 26 characters.
const maxCommandID = 64

func deviceID(ids []string) (device.ID, error) {
	id := device.ID{Tenant: ids[0], Device: ids[1]}
	if id.Device == "" {
		return id, validTenant(id.Tenant)
	}
	return id, id.Validate()
}

// validTenant checks a tenant alone; a wildcard tenant came out empty and is refused.
func validTenant(tenant string) error {
	return device.ID{Tenant: tenant, Device: "any"}.Validate()
}

// parseName reads the ids of a name made of the given collections; "-" gives
// an empty id.
func parseName(name string, collections ...string) ([]string, error) {
	const maxName = 3 * (device.MaxTenantBytes + device.MaxDeviceBytes + 128)
	parts := strings.Split(name[:min(len(name), maxName+1)], "/")
	wrong := len(name) > maxName || len(parts) != 2*len(collections)
	var ids []string
	for i := 0; !wrong && i < len(parts); i += 2 {
		id, err := url.PathUnescape(parts[i+1])
		wrong = parts[i] != collections[i/2] || err != nil || id == ""
		if parts[i+1] == anyID {
			id = ""
		}
		ids = append(ids, id)
	}
	if wrong {
		want := ""
		for _, c := range collections {
			want += "/" + c + "/{" + strings.TrimSuffix(c, "s") + "}"
		}
		return nil, device.Errorf(device.Invalid, "resource name %q does not have the form %s", clip(name), want[1:])
	}
	return ids, nil
}

// clip keeps a wrong name short enough to quote.
func clip(s string) string {
	if len(s) > 200 {
		return strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
