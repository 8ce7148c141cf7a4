package mqtt

import (
	"testing"
	"unsafe"
)

// TestASessionIsSmall: there are as many as connections, and most have nothing to
// say. Beyond 512 bytes the runtime takes 576, or 640, for each.
func TestASessionIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(session{}); size > 512 {
		t.Errorf("a session takes %d bytes: what few sessions need belongs behind a pointer", size)
	}
}
