package embedded

import (
	"crypto/subtle"

	"github.com/nats-io/nats-server/v2/server"
)

// credential lets in who shows the server's own user and password, and nobody
// else. The password is random and lives as long as the server, so there is
// nothing to hash.
type credential struct{ user, password string }

// Check implements server.Authentication.
func (c credential) Check(client server.ClientAuthentication) bool {
	shown := client.GetOpts()
	user := subtle.ConstantTimeCompare([]byte(shown.Username), []byte(c.user))
	password := subtle.ConstantTimeCompare([]byte(shown.Password), []byte(c.password))
	return user&password == 1
}
