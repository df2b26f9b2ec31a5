package backoff

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"
)

func TestDelay(t *testing.T) {
	tests := []struct {
		attempt      int
		first, limit time.Duration
		most         time.Duration
	}{
		{0, time.Second, time.Minute, time.Second},
		{3, time.Second, time.Minute, 8 * time.Second},
		{6, time.Second, time.Minute, time.Minute},
		{29, time.Hour, 2 * time.Hour, 2 * time.Hour}, // the shift overflows
		{math.MaxInt, time.Second, time.Minute, time.Minute},
		{0, time.Minute, time.Second, time.Second},
		{5, 1, 1, 1},
	}
	for _, test := range tests {
		for range 100 {
			if d := Delay(test.attempt, test.first, test.limit); d < test.most/2 || d > test.most {
				t.Errorf("Delay(%d, %v, %v) = %v, want %v to %v", test.attempt, test.first, test.limit, d, test.most/2, test.most)
			}
		}
	}
}

func TestSleep(t *testing.T) {
	if err := Sleep(t.Context(), time.Nanosecond); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}
