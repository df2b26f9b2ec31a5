package lifecycle

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestSignals(t *testing.T) {
	exited := make(chan os.Signal, 1)
	ctx, stop := Signals(context.Background(), func(s os.Signal) { exited <- s })
	defer stop()
	send := func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	send()
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the first signal did not end the context")
	}
	select {
	case <-exited:
		t.Fatal("one signal must not exit")
	default:
	}
	send()
	select {
	case s := <-exited:
		if s != syscall.SIGTERM {
			t.Errorf("got %v", s)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the second signal did not exit")
	}
}

func TestSignalsStop(t *testing.T) {
	ctx, stop := Signals(context.Background(), func(os.Signal) { t.Error("exit called") })
	stop()
	stop()
	if ctx.Err() == nil {
		t.Error("the context lives on")
	}
}
