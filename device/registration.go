package device

import "time"

// Registration is what the registry knows of a principal and may show: never
// its credentials.
type Registration struct {
	ID        ID
	Kind      PrincipalKind
	Disabled  bool // refused at every door, with the same words as an unknown one
	CreatedAt time.Time
	UpdatedAt time.Time // of the last change, a rotated secret included
}
