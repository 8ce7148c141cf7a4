package peer

import (
	"fmt"
	"os/exec"
	"testing"
)

// SmallDisk answers a directory with a file system of its own, of so many
// mebibytes, that is gone after the test. Mounting one takes root.
func SmallDisk(t testing.TB, mebibytes int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm,mode=0700", mebibytes), "tributary-test", dir).CombinedOutput()
	if err != nil {
		missing(t, fmt.Sprintf("the right to mount a small disk (%v: %s)", err, out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}
