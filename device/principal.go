package device

// Credential is what a peer shows at the door. Without a Secret and with a zero
// CertificateKey it is "no credential", which only open mode lets in.
type Credential struct {
	Protocol       Protocol
	User           string  // "device@tenant" or "device"; may be empty
	Secret         string  // never logged
	CertificateKey KeyHash // of the client certificate whose key the peer proved to hold; zero: none
	Anonymous      bool    // the peer offered neither user name nor secret
	Hint           string  // the MQTT client id or AMQP container id: names an anonymous device whose address names none
	RemoteAddr     string  // for logs
}

// PrincipalKind says what a principal may do.
type PrincipalKind string

// The kinds of principals.
const (
	KindDevice      PrincipalKind = "device"      // speaks for itself
	KindGateway     PrincipalKind = "gateway"     // speaks for itself, and for the devices its pattern allows
	KindApplication PrincipalKind = "application" // a program of the tenant: reads its telemetry, sends its commands, speaks for no device
)

// Valid reports whether k is one of the kinds.
func (k PrincipalKind) Valid() bool {
	return k == KindDevice || k == KindGateway || k == KindApplication
}

// Principal is who a connection turned out to be.
type Principal struct {
	ID         ID
	Kind       PrincipalKind
	For        Pattern // of a gateway: the devices it may speak for, besides itself
	Credential string  // CredentialInfo.ID of what it showed; "" in open mode
	Open       bool    // let in without a credential: the address names the device
}

// SpeakFor is the one rule of who may speak for whom. It resolves which device
// an address means: name is the {device} of a topic, address or path, or "" for
// a short form. via is the principal's own name when it is a gateway that
// speaks for another, and goes into Message.Via, Session.Via and Response.Via.
// It answers Forbidden when the principal may not speak for that device.
func (p Principal) SpeakFor(name string) (id ID, via string, err error) {
	id = p.ID
	switch {
	case p.Kind == KindApplication:
		return ID{}, "", Errorf(Forbidden, "%s is an application and speaks for no device: it reads telemetry and sends commands", p.ID)
	case name == "" || name == p.ID.Device:
	case p.Open:
		id.Device = name
	case p.Kind == KindGateway && p.For.Matches(name):
		id.Device, via = name, p.ID.Device
	default:
		return ID{}, "", Errorf(Forbidden, "%s may not speak for device %q", p.ID, name)
	}
	return id, via, id.Validate()
}

// Oversees is the one rule of who may read a tenant's telemetry and send commands
// to its devices: its applications, and in open mode everybody. name is the
// {device} of an address, "" for all devices; the tenant is the principal's own.
func (p Principal) Oversees(name string) (ID, error) {
	if p.Kind != KindApplication && !p.Open {
		return ID{}, Errorf(Forbidden, "%s is no application: only those read a tenant's telemetry and send its commands", p.ID)
	}
	id := ID{Tenant: p.ID.Tenant, Device: name}
	if name == "" {
		return id, nil
	}
	return id, id.Validate()
}
