//go:build !linux

package parking

import "net"

const supported = false

// Lot has no places on this system: every connection keeps its goroutine.
type Lot struct{}

// Open answers a Lot without places.
func Open() (*Lot, error) { return &Lot{}, nil }

// Park answers false.
func (*Lot) Park(net.Conn, Waiter) bool { return false }

// Leave does nothing.
func (*Lot) Leave(net.Conn) {}

// Close does nothing.
func (*Lot) Close() {}
