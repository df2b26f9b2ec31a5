package crl

import (
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/internal/testkit"
)

func TestExportSignalsTheServer(t *testing.T) {
	ca := testkit.NewCA(t, "one")
	dir := t.TempDir()
	x := &Exporter{Path: filepath.Join(dir, "all.pem"), PIDFile: filepath.Join(dir, "pid"), Metrics: NewMetrics(nil)}
	list, err := read(t, signList(t, ca, template(1, 1))).Verify(ca.Cert)
	if err != nil {
		t.Fatal(err)
	}
	state := State{Key: Key{IssuerKeyID: list.IssuerKeyID(), Location: "a"}, SHA256: list.SHA256}
	if err := x.Add(&state, list); err != nil {
		t.Fatal(err)
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, pid string
		signalled bool
		fails     bool
	}{
		{"no file", "", false, false}, // not started yet
		{"nonsense", "abc", false, true},
		{"all processes", "-1", false, true},
		{"own group", "0", false, true},
		{"init", "1", false, true},
		{"a process that is gone", strconv.Itoa(gone.Process.Pid), false, false},
		{"this process", strconv.Itoa(os.Getpid()) + "\n", true, false},
	} {
		os.Remove(x.Path)
		if tc.pid != "" {
			put(t, x.PIDFile, []byte(tc.pid))
		}
		changed, err := x.Write([]State{state})
		if !changed || (err != nil) != tc.fails {
			t.Errorf("%s: changed %v, %v", tc.name, changed, err)
		}
		if !tc.signalled {
			continue
		}
		select {
		case <-hup:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: no signal", tc.name)
		}
	}
	if changed, err := x.Write([]State{state}); changed || err != nil || len(hup) != 0 {
		t.Errorf("without a change: changed %v, %v, %d signals", changed, err, len(hup))
	}
}
