//go:build !linux

package bench

import "net"

// from answers a dialer from an address of this machine.
func from(ip net.IP) *net.Dialer { return &net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}} }
