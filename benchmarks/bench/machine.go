package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
)

// machine is what figures depend on besides the program.
type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory string `json:"memory"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	// Load is the load average over 1, 5 and 15 minutes before the start: what
	// others did at the same time.
	Load string `json:"load_before"`
}

func thisMachine() machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version(), CPU: runtime.GOARCH}
	m.CPU = field("/proc/cpuinfo", "model name", m.CPU)
	m.Memory = field("/proc/meminfo", "MemTotal", "")
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		if f := strings.Fields(string(b)); len(f) >= 3 {
			m.Load = strings.Join(f[:3], " ")
		}
	}
	return m
}

// field returns the value of the first line "name : value" of a file.
func field(path, name, otherwise string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return otherwise
	}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return otherwise
}

var notInNames = regexp.MustCompile(`\s*@.*|\(R\)|\(TM\)|\bCPU\b|\bProcessor\b|[^A-Za-z0-9]+`)

// short is the machine's part of a file name.
func (m machine) short() string {
	words := strings.Fields(notInNames.ReplaceAllString(m.CPU, " "))
	return strings.ToLower(strings.Join(append(words, fmt.Sprintf("%dc", m.Cores)), "-"))
}

// commit is what was built; "+" says that there was more than that.
func commit(root string) string {
	id, err := exec.Command("git", "-C", root, "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	changed, err := exec.Command("git", "-C", root, "status", "--porcelain", "--untracked-files=no").Output()
	if err != nil || len(changed) > 0 {
		return strings.TrimSpace(string(id)) + "+"
	}
	return strings.TrimSpace(string(id))
}
