package device

import (
	"slices"
	"time"
)

// Role is what an API token may do in its tenant. Which call asks for which
// role is one table, in package api.
type Role string

// The roles.
const (
	RoleAdmin       Role = "admin"       // everything, tokens included
	RoleOperator    Role = "operator"    // devices and commands, not tokens
	RoleViewer      Role = "viewer"      // reads, changes nothing
	RoleApplication Role = "application" // a program: reads telemetry, sends commands
)

// Roles answers all of them.
func Roles() []Role { return []Role{RoleAdmin, RoleOperator, RoleViewer, RoleApplication} }

// Token is what may be shown of an API token: never its text.
type Token struct {
	Tenant    string
	Name      string
	Role      Role
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
}

// Validate checks the names and the role. It answers an *Error of code Invalid.
func (t Token) Validate() error {
	if err := validName("tenant", t.Tenant, MaxTenantBytes); err != nil {
		return err
	}
	if err := validName("token", t.Name, MaxDeviceBytes); err != nil {
		return err
	}
	if !slices.Contains(Roles(), t.Role) {
		return Errorf(Invalid, "%q is not a role; roles are admin, operator, viewer and application", t.Role)
	}
	return nil
}
