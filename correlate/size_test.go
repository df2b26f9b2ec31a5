package correlate

import (
	"testing"
	"unsafe"
)

// TestSizes: a group is two cache lines and lies in no third, because its chunk
// begins with it; an entry is no larger than its fields.
func TestSizes(t *testing.T) {
	if size := unsafe.Sizeof(group{}); size != 128 {
		t.Errorf("a group has %d bytes", size)
	}
	if size := unsafe.Sizeof(entry{}); size != 40 {
		t.Errorf("an entry has %d bytes", size)
	}
}
