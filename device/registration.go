package device

import "time"

// NewPrincipal is what is asked of the registry when a principal is added.
type NewPrincipal struct {
	ID   ID
	Kind PrincipalKind // "" is KindDevice
	For  Pattern       // of a gateway, else empty

	Labels Labels

	// Key is of the client certificate it will show. Zero: a secret is
	// generated instead, and answered once.
	Key KeyHash
}

// Validate checks names, kind and pattern. It answers an *Error of code Invalid.
func (n NewPrincipal) Validate() error {
	if err := n.ID.Validate(); err != nil {
		return err
	}
	switch {
	case n.Kind != "" && !n.Kind.Valid():
		return Errorf(Invalid, "kind %q is not one of device, gateway and application", string(n.Kind))
	case n.Kind == KindGateway && n.For == "":
		return Errorf(Invalid, "a gateway needs a pattern of the devices it speaks for, such as floor1-*")
	case n.Kind != KindGateway && n.For != "":
		return Errorf(Invalid, "only a gateway has a pattern of devices it speaks for")
	case n.For != "":
		if err := n.For.Validate(); err != nil {
			return err
		}
	}
	return n.Labels.Validate()
}

// Registration is what the registry knows of a principal and may show: of its
// credentials what they are, never what they hold.
type Registration struct {
	ID          ID
	Kind        PrincipalKind
	For         Pattern
	Labels      Labels
	Disabled    bool // refused at every door, with the same words as an unknown one
	CreatedAt   time.Time
	UpdatedAt   time.Time // of the last change, a rotated secret included
	Credentials []CredentialInfo
}

// CredentialInfo is what may be shown of a credential.
type CredentialInfo struct {
	ID        string  // names it within its principal
	Key       KeyHash // of a certificate; zero for a secret
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never. From then on it opens nothing, and what it opened is ended
}

// MaxCredentials bounds the credentials of one principal.
const MaxCredentials = 16

// Added is the outcome for one of many principals added at once.
type Added struct {
	Registration Registration
	Secret       string // "" when a certificate was given
	Err          error  // then nothing was added
}
