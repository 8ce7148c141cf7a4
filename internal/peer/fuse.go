package peer

import (
	"fmt"
	"os"
	"testing"
)

// FUSE makes sure that a test can mount a file system of its own: root, and
// /dev/fuse.
func FUSE(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err == nil {
		err = f.Close()
	}
	if err == nil && os.Geteuid() != 0 {
		err = fmt.Errorf("user %d is not root", os.Geteuid())
	}
	if err != nil {
		missing(t, fmt.Sprintf("the right to mount with FUSE (%v)", err))
	}
}
