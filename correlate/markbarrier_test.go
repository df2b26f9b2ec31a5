package correlate

import (
	"testing"

	"github.com/tocsin-io/tocsin/internal/watermark"
)

// TestMarkBarrier: a watermark is told when every record that precedes it is
// acknowledged, with records always on their way too.
func TestMarkBarrier(t *testing.T) {
	b := newMarkBarrier()
	for i, step := range []struct {
		sent, acked uint64
		mark        int64
		safe        int64
	}{
		{0, 0, watermark.None, watermark.None},
		{0, 0, 100, 100}, // nothing was sent
		{2, 0, 110, 100},
		{3, 1, 120, 100}, // behind record 2, and stays there
		{5, 2, 130, 110},
		{5, 4, 140, 110}, // behind record 5
		{9, 5, 150, 130},
		{9, 9, 160, 160}, // behind record 9, and nothing is on its way
	} {
		b.raise(step.sent, step.acked, step.mark)
		if got := b.pass(step.acked); got != step.safe {
			t.Errorf("step %d: %d may be told, want %d", i, got, step.safe)
		}
	}
}
