package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/internal/config"
)

func TestWatchRulesReloadsOnceForEachChange(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.yml", "title: a")
	cfg := config.Default(func(string) (string, bool) { return "", false })
	cfg.Log.Level = "error"
	a, err := newApp(streams{nil, io.Discard, io.Discard}, cfg, "")
	if err != nil {
		t.Fatal(err)
	}
	var reloads atomic.Int32
	a.reload.OnReload("test", func(context.Context) error { reloads.Add(1); return nil })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.watchRules(ctx, []string{dir}, 10*time.Millisecond) }()
	await := func(want int32) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); reloads.Load() < want; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d reloads, want %d", reloads.Load(), want)
			}
		}
	}
	// The watcher must have taken its first look before the first change.
	time.Sleep(50 * time.Millisecond)
	write("b.yml", "title: b")
	await(1)
	write("a.yml", "title: another")
	await(2)
	if err := os.Remove(filepath.Join(dir, "b.yml")); err != nil {
		t.Fatal(err)
	}
	await(3)
	time.Sleep(100 * time.Millisecond)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := reloads.Load(); n != 3 {
		t.Errorf("%d reloads for three changes", n)
	}
}
