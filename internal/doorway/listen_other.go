//go:build !linux

package doorway

import "net"

// listenConfig leaves it to Go to have each connection probed when it is silent.
func listenConfig() net.ListenConfig { return net.ListenConfig{} }

// makeRoom does nothing.
func makeRoom(net.Listener, int) {}

// acceptBare is the listener as it is.
func acceptBare(l net.Listener) (net.Listener, error) { return l, nil }
