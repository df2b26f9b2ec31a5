// Package testkit starts the real parts that tests run against: Apache Kafka from its Maven jars, moto for the AWS APIs, and
// an in-memory broker for fast tests. It is imported by tests, and by programs that test.
//
// What a part needs is fetched once, by the scripts beside this file, into the folder TOCSIN_CACHE (default ~/.cache/tocsin).
// Every process is a child of the test, listens on loopback only, and ends with it, even if the test is killed.
package testkit

import (
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

//go:embed fetch-kafka.sh kafka-jars.sha256 fetch-moto.sh moto-requirements.txt fetch-mosquitto.sh mosquitto-debs.sha256
var fetchers embed.FS

// cacheDir returns the folder for what is fetched.
func cacheDir() (string, error) {
	if dir := os.Getenv("TOCSIN_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".cache", "tocsin"), nil
}

// fetch runs one of the embedded scripts and returns the folder that it prints. Test binaries of several packages run at
// the same time; a file lock lets one of them fetch and the others find the result.
func fetch(t testing.TB, script string) string {
	t.Helper()
	dir, err := runFetcher(script)
	if err != nil {
		t.Fatalf("%v\nRun internal/testkit/%s by hand to see why; it needs the network once.", err, script)
	}
	return dir
}

func runFetcher(script string) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(cache, ".lock-"+script), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp("", "tocsin-fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := os.CopyFS(tmp, fetchers); err != nil {
		return "", err
	}
	cmd := exec.Command("sh", filepath.Join(tmp, script))
	cmd.Env = append(os.Environ(), "TOCSIN_CACHE="+cache)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", script, err, stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}
