package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// userHZ is the unit of times in /proc; Linux shows every architecture that Go
// supports the same.
const userHZ = 100

// usage is what a process has used.
type usage struct {
	cpu  time.Duration
	rss  int64 // bytes, now
	peak int64 // bytes
}

// processUsage reads /proc/PID.
func processUsage(pid int) (u usage, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	// The name, in parentheses, may hold anything; utime and stime are the 12th
	// and 13th field after it. proc_pid_stat(5).
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(f) < 13 {
		return u, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(f))
	}
	for _, s := range f[11:13] {
		ticks, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(ticks) * time.Second / userHZ
	}
	status := fmt.Sprintf("/proc/%d/status", pid)
	u.rss, u.peak = kilobytes(field(status, "VmRSS", "")), kilobytes(field(status, "VmHWM", ""))
	return u, nil
}

func kilobytes(s string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSuffix(s, " kB"), 10, 64)
	return n << 10
}

// children returns the processes that any thread of pid has started.
func children(pid int) []int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var pids []int
	for _, path := range lists {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for _, s := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(s); err == nil {
				pids = append(pids, child)
				pids = append(pids, children(child)...)
			}
		}
	}
	return pids
}

// ownCPU is what this process, the load generator, has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // fails for bad arguments only
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpuUsed is the CPU time of all that takes part.
type cpuUsed struct {
	at                     time.Time
	tocsin, engine, loader time.Duration
}

func (t *tocsin) cpu() (cpuUsed, error) {
	u, err := processUsage(t.pid)
	used := cpuUsed{at: time.Now(), tocsin: u.cpu, loader: ownCPU()}
	for _, child := range children(t.pid) {
		if c, err := processUsage(child); err == nil {
			used.engine += c.cpu
		}
	}
	return used, err
}

func (u cpuUsed) since(before cpuUsed) cpuUsed {
	return cpuUsed{
		at: u.at, tocsin: u.tocsin - before.tocsin, engine: u.engine - before.engine, loader: u.loader - before.loader,
	}
}

// memory is what the processes hold: the program, and the engine in its child.
type memory struct{ tocsin, tocsinPeak, engine, enginePeak int64 }

func (t *tocsin) memory() (memory, error) {
	u, err := processUsage(t.pid)
	m := memory{tocsin: u.rss, tocsinPeak: u.peak}
	for _, child := range children(t.pid) {
		if c, err := processUsage(child); err == nil {
			m.engine += c.rss
			m.enginePeak += c.peak
		}
	}
	return m, err
}
