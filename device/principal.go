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
	KindGateway     PrincipalKind = "gateway"     // may speak for others, by pattern
	KindApplication PrincipalKind = "application" // a program of the tenant
)

// Principal is who a connection turned out to be.
type Principal struct {
	ID   ID
	Kind PrincipalKind
	Open bool // let in without a credential: the address names the device
}

// SpeakFor resolves which device an address means: name is the {device} of a
// topic, address or path, or "" for a short form. It answers Forbidden when
// the principal may not speak for that device.
func (p Principal) SpeakFor(name string) (ID, error) {
	id := p.ID
	switch {
	case name == "" || name == p.ID.Device:
	case p.Open:
		id.Device = name
	default:
		return ID{}, Errorf(Forbidden, "%s may not speak for device %q", p.ID, name)
	}
	return id, id.Validate()
}
