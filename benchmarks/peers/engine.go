package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/tocsin-io/tocsin/benchmarks/peers/workload"
)

// engine is a program that matches JSON lines.
type engine struct {
	name   string
	args   []string
	events int
}

// noLogSource is the product, category or service of events that have none:
// engines take an absent one for any.
const noLogSource = "none"

// encodeEvents returns the events as JSON lines that name their log source.
func encodeEvents(events []workload.Event) [][]byte {
	lines := make([][]byte, len(events))
	for i := range events {
		ls := events[i].LogSource
		name := func(s string) string { return cmp.Or(s, noLogSource) }
		lines[i] = fmt.Appendf(nil, `{"ls_product":%q,"ls_category":%q,"ls_service":%q,%s`+"\n",
			name(ls.Product), name(ls.Category), name(ls.Service), events[i].Event.Message[1:])
	}
	return lines
}

// result is one run of an engine.
type result struct {
	cpu     time.Duration
	loaded  int
	matches map[string]int // by rule ID
}

func (r *result) total() int {
	n := 0
	for _, k := range r.matches {
		n += k
	}
	return n
}

var loadedRules = regexp.MustCompile(`Loaded (\d+) rules`)

// lastCore is the number of a core: the first is where interrupts go.
func lastCore() string { return strconv.Itoa(runtime.NumCPU() - 1) }

// run gives the engine n events, from the first on and repeated.
func (e *engine) run(ctx context.Context, events [][]byte, n int) (*result, error) {
	args := e.args
	if path, err := exec.LookPath("taskset"); err == nil {
		args = append([]string{path, "-c", lastCore()}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	fed := make(chan error, 1)
	go func() { fed <- feed(stdin, events, n) }()
	r := &result{matches: map[string]int{}}
	readErr := r.read(stdout)
	feedErr := <-fed
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	if err := cmp.Or(readErr, feedErr); err != nil {
		return nil, err
	}
	r.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if m := loadedRules.FindSubmatch(stderr.Bytes()); m != nil {
		r.loaded, _ = strconv.Atoi(string(m[1]))
	}
	return r, nil
}

func feed(w io.WriteCloser, events [][]byte, n int) error {
	bw := bufio.NewWriterSize(w, 1<<16)
	for i := range n {
		if _, err := bw.Write(events[i%len(events)]); err != nil {
			return err
		}
	}
	if err := bw.Flush(); err != nil {
		return err
	}
	return w.Close()
}

// read counts matches; those of correlations by group. It reads to the end in any case, or the engine would
// wait for ever.
func (r *result) read(stdout io.Reader) error {
	var first error
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return first
		}
		if err != nil {
			return err
		}
		var match struct {
			ID    string          `json:"rule_id"`
			Group json.RawMessage `json:"group_key"`
		}
		if err := json.Unmarshal(line, &match); err != nil && first == nil {
			first = fmt.Errorf("%w in %.200q", err, line)
		}
		r.matches[match.ID+string(match.Group)]++
	}
}

// measure runs the engine without events and with them, and ours for what it
// should have found.
func (e *engine) measure(ctx context.Context, events [][]byte, ours *engine) (row, error) {
	loads := make([]time.Duration, 3)
	for i := range loads {
		r, err := e.run(ctx, events, 0)
		if err != nil {
			return row{}, err
		}
		loads[i] = r.cpu
	}
	slices.Sort(loads)
	got, err := e.run(ctx, events, e.events)
	if err != nil {
		return row{}, err
	}
	load := loads[1]
	out := row{Engine: e.name, Events: e.events, Loaded: got.loaded, LoadSeconds: load.Seconds(), Matches: got.total()}
	if got.total() == 0 {
		return out, errNoMatches
	}
	out.Rate = float64(e.events) / max(got.cpu-load, time.Millisecond).Seconds()
	if e == ours {
		out.OwnMatches = out.Matches
		return out, nil
	}
	want, err := ours.run(ctx, events, e.events)
	if err != nil {
		return row{}, err
	}
	out.OwnMatches = want.total()
	for id := range want.matches {
		out.note(id, got.matches[id], want.matches[id])
	}
	for id := range got.matches {
		if want.matches[id] == 0 {
			out.note(id, got.matches[id], 0)
		}
	}
	slices.SortFunc(out.Differences, func(a, b difference) int {
		return cmp.Or(cmp.Compare(b.size(), a.size()), cmp.Compare(a.Rule, b.Rule))
	})
	return out, nil
}

func (r *row) note(id string, theirs, ours int) {
	if theirs != ours {
		r.Differences = append(r.Differences, difference{id, theirs, ours})
	}
}
