package embedded

import (
	"crypto/rand"
	"crypto/subtle"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

// The users of the server. The first two are this process's own and get in on
// in-process connections only, with passwords that live as long as the server.
const (
	ownUser    = "tributary"        // everything, in the account of the streams
	porterUser = "tributary-porter" // everything, in the account of the readers, which holds nothing
	readerUser = "reader"           // over the network; see readers.go
)

// keeper lets in who shows a password, and nobody else. The passwords are
// random, so there is nothing to hash.
type keeper struct {
	own, porter string
	readers     *Readers // nil: nobody comes over the network

	mu      sync.Mutex      // so that readers are counted one at a time
	account *server.Account // of readers and porter; nil until it stands
}

func newKeeper(readers *Readers) *keeper {
	return &keeper{own: rand.Text(), porter: rand.Text(), readers: readers}
}

// Check implements server.Authentication.
func (k *keeper) Check(client server.ClientAuthentication) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	shown := client.GetOpts()
	switch addr := client.RemoteAddress(); {
	case addr == nil:
		return false // gone already
	case addr.Network() != "pipe":
		return k.letReaderIn(client)
	case shown.Username == porterUser:
		if k.account == nil || !same(shown.Password, k.porter) {
			return false
		}
		client.RegisterUser(&server.User{Username: porterUser, Account: k.account})
		return true
	}
	return same(shown.Username, ownUser) && same(shown.Password, k.own)
}

// letReaderIn checks the one user of the network and binds the connection to
// what a reader may do.
func (k *keeper) letReaderIn(client server.ClientAuthentication) bool {
	shown := client.GetOpts()
	if k.readers == nil || k.account == nil {
		return false
	}
	if !k.readers.Open && !(shown.Username == readerUser && same(shown.Password, k.readers.Password)) {
		return false
	}
	if k.readers.Open && shown.Username != "" && shown.Username != readerUser {
		return false
	}
	// The porter's connection is one of the account's.
	if k.account.NumLocalConnections() > k.readers.MaxConnections {
		k.readers.full()
		return false
	}
	client.RegisterUser(&server.User{Username: readerUser, Account: k.account, Permissions: k.readers.permissions()})
	return true
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
