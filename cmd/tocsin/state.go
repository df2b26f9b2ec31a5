package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/correlate"
)

type stateCmd struct {
	Addr []string `placeholder:"HOST:PORT" default:"127.0.0.1:9464" help:"Admin listener (admin.listen) of a running correlator; several, for several processes."`
	JSON bool     `name:"json" help:"One JSON object; times are Unix milliseconds."`
}

// Help returns what --help prints below the usage.
func (stateCmd) Help() string {
	return `Shows what every partition of a running correlator holds: how far it has read, how far event time has come, and the
groups in the windows of each rule.

Examples:

    tocsin state
    tocsin state --addr 10.0.0.7:9464 --addr 10.0.0.8:9464
    tocsin state --json | jq '[.partitions[].lag] | add'`
}

// stateAnswer is what /-/state answers.
type stateAnswer struct {
	Group      string                      `json:"group"` // the consumer group
	Partitions []correlate.PartitionStatus `json:"partitions"`
}

// state is what the admin listener shows, nil without a correlator.
func (a *app) state(ctx context.Context) any {
	c := a.correlator.Load()
	if c == nil {
		return nil
	}
	return stateAnswer{Group: a.cfg.Correlate.GroupID, Partitions: c.Inspect(ctx)}
}

// stateJSON is what several processes hold together.
type stateJSON struct {
	Partitions []partitionJSON `json:"partitions"`
}

type partitionJSON struct {
	Address string `json:"address"` // of the process
	correlate.PartitionStatus
}

// maxState bounds an answer: about 100,000 partitions and rules.
const maxState = 32 << 20

// Run runs the command. What some processes answered is printed although others
// did not.
func (c *stateCmd) Run(std streams) error {
	answers, failures := make([]stateAnswer, len(c.Addr)), make([]error, len(c.Addr))
	var asked sync.WaitGroup
	for i, addr := range c.Addr {
		asked.Go(func() { answers[i], failures[i] = askState(context.Background(), addr) })
	}
	asked.Wait()
	err := errors.Join(failures...)
	if slices.Contains(failures, nil) {
		merged := mergeStates(c.Addr, answers)
		write := writeState
		if c.JSON {
			write = func(w io.Writer, s stateJSON) error { return json.NewEncoder(w).Encode(s) }
		}
		err = errors.Join(err, write(std.out, merged))
	}
	if err != nil {
		return &exitError{code: exitFailed, err: err, try: `tocsin state --addr HOST:PORT, as "tocsin run" or "tocsin correlate" logs it: "admin listener"`}
	}
	return nil
}

func askState(ctx context.Context, addr string) (answer stateAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	base := strings.TrimSuffix(addr, "/")
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/-/state", nil)
	if err != nil {
		return answer, fmt.Errorf("--addr %q: %w", addr, err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer, fmt.Errorf("nothing answers at %s: %w", addr, errors.Unwrap(err))
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxState))
	switch {
	case err != nil:
		return answer, fmt.Errorf("%s: %w", addr, err)
	case res.StatusCode == http.StatusNotImplemented:
		return answer, fmt.Errorf("%s: %s", addr, strings.TrimSpace(string(body)))
	case res.StatusCode != http.StatusOK:
		return answer, fmt.Errorf("%s is not the admin listener of a tocsin that has a state: it answers %s", addr, res.Status)
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return answer, fmt.Errorf("%s is not the admin listener of a tocsin: %w", addr, err)
	}
	return answer, nil
}

// mergeStates puts the partitions of all processes into one list. While partitions
// move, two processes may show the same one: the one that has read further has it.
func mergeStates(addrs []string, answers []stateAnswer) stateJSON {
	merged := stateJSON{Partitions: []partitionJSON{}}
	for i, a := range answers {
		for _, p := range a.Partitions {
			merged.Partitions = append(merged.Partitions, partitionJSON{addrs[i], p})
		}
	}
	same := func(a, b partitionJSON) bool { return a.Topic == b.Topic && a.Partition == b.Partition }
	slices.SortStableFunc(merged.Partitions, func(a, b partitionJSON) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), a.Partition-b.Partition, cmp.Compare(b.Next, a.Next))
	})
	merged.Partitions = slices.CompactFunc(merged.Partitions, same)
	return merged
}

// mergeRules adds up what all partitions hold of each rule.
func mergeRules(partitions []partitionJSON) []correlate.RuleStatus {
	var out []correlate.RuleStatus
	for _, p := range partitions {
		for _, r := range p.Rules {
			i := slices.IndexFunc(out, func(o correlate.RuleStatus) bool { return o.ID == r.ID && o.Name == r.Name })
			if i < 0 {
				out = append(out, r)
				continue
			}
			o := &out[i]
			o.Groups += r.Groups
			o.Events += r.Events
			if o.Oldest == 0 || r.Oldest != 0 && r.Oldest < o.Oldest {
				o.Oldest = r.Oldest
			}
			if r.LargestEvents > o.LargestEvents {
				o.Largest, o.LargestEvents = r.Largest, r.LargestEvents
			}
		}
	}
	slices.SortStableFunc(out, func(a, b correlate.RuleStatus) int {
		return cmp.Or(b.Groups-a.Groups, strings.Compare(a.Name, b.Name))
	})
	return out
}

// Columns of the tables that hold names; with them a table fits 100 columns.
const (
	stateRuleWidth  = 28
	stateGroupWidth = 19
)

func writeState(w io.Writer, s stateJSON) error {
	if len(s.Partitions) == 0 {
		_, err := fmt.Fprintln(w, "no partitions: the correlator has not been assigned any (yet)")
		return err
	}
	now := time.Now()
	partitions := table{
		head:  []string{"partition", "offset", "lag", "watermark", "groups", "events", "MiB", "saved ago"},
		right: []bool{false, true, true, true, true, true, true, true},
	}
	var notes []string
	for _, p := range s.Partitions {
		name := fmt.Sprintf("%s/%d", strings.TrimPrefix(p.Topic, "tocsin."), p.Partition)
		snapshot := "none"
		if p.SnapshotTime > 0 {
			snapshot = now.Sub(time.UnixMilli(p.SnapshotTime)).Truncate(time.Second).String()
		}
		partitions.add(name, grouped(max(0, p.Next)), grouped(p.Lag), shortTime(p.Watermark), grouped(int64(p.Groups)),
			grouped(int64(p.Events)), mebibytes(p.Bytes), snapshot)
		if p.Evicted > 0 {
			notes = append(notes, fmt.Sprintf("%s: %s groups were given up; raise correlate.max_groups or correlate.max_events", name, grouped(p.Evicted)))
		}
		if p.Late > 0 {
			notes = append(notes, fmt.Sprintf("%s: %s matches were later than correlate.lateness and took no part", name, grouped(p.Late)))
		}
	}
	if err := partitions.write(w); err != nil {
		return err
	}
	for _, n := range notes {
		fmt.Fprintln(w, n)
	}
	rules := table{
		head:  []string{"rule", "groups", "events", "oldest", "largest group", "events"},
		right: []bool{false, true, true, true, false, true},
	}
	for _, r := range mergeRules(s.Partitions) {
		group := strings.Join(r.Largest, ", ")
		if len(r.Largest) == 0 {
			group = "(the fleet)"
		}
		rules.add(clip(r.Name, stateRuleWidth), grouped(int64(r.Groups)), grouped(int64(r.Events)), shortTime(r.Oldest),
			clip(group, stateGroupWidth), grouped(int64(r.LargestEvents)))
	}
	if len(rules.rows) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return rules.write(w)
}

// shortTime is a time without its year, in UTC.
func shortTime(millis int64) string {
	if millis <= 0 {
		return "-"
	}
	return time.UnixMilli(millis).UTC().Format("01-02 15:04:05")
}

func mebibytes(bytes int64) string { return fmt.Sprintf("%.1f", float64(bytes)/(1<<20)) }
