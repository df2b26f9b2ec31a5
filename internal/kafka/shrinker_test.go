package kafka

import "testing"

func TestShrinker(t *testing.T) {
	const large = 4 * shrinkAbove
	run := func(sizes func(i int) int, capacity int) (released int) {
		var s shrinker
		for i := range 10 * shrinkAfter {
			if s.after(sizes(i), capacity) {
				released++
			}
		}
		return released
	}
	for _, c := range []struct {
		name     string
		sizes    func(int) int
		capacity int
		want     int
	}{
		{"in use", func(int) int { return large / 2 }, large, 0},
		{"a peak once in a while", func(i int) int { return (i % shrinkAfter / (shrinkAfter - 1)) * large / 2 }, large, 0},
		{"small uses", func(int) int { return large / 5 }, large, 10},
		{"silence", func(int) int { return 0 }, large, 10},
		{"not worth it", func(int) int { return 0 }, shrinkAbove, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := run(c.sizes, c.capacity); got != c.want {
				t.Errorf("released %d times, want %d", got, c.want)
			}
		})
	}
}
