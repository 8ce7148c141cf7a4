//go:build unix

package main

import "syscall"

// descriptors is how many files and connections this process may have open; 0
// when the system does not say. Go raises it to what the system allows.
func descriptors() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Cur)
}
