package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tocsin-io/tocsin/correlate"
	"github.com/tocsin-io/tocsin/internal/jsonscan"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// correlation is a correlation that engines are compared on: one detection rule
// for each step, all of which the events match one of.
type correlation struct {
	name      string
	steps     int
	timespan  string
	condition string
	// perSecond is how many events there are in a second of event time, of as many
	// devices, if there are so many: rsigma knows whole seconds only, and takes
	// what is in one of them in the order in which it comes.
	devices, perSecond int
	// event appends an event of a device.
	event func(dst []byte, rng *rand.Rand, at time.Time, device int) []byte
}

// stepRule is what the IDs of the detection rules begin with. Correlations refer
// to them by these: rsigma leaves out what it says of detections only then.
const stepRule = "6a1b7b3e-0000-4000-8000-00000000001"

func correlationEvent(dst []byte, at time.Time, device, ip, step int) []byte {
	dst = append(dst, `{"@timestamp":"`...)
	dst = at.AppendFormat(dst, "2006-01-02T15:04:05.000Z07:00")
	return fmt.Appendf(dst, `","device":"pump-%06d","ip":"198.51.%d.%d","step":"s%d"}`+"\n", device, ip>>8, ip&255, step)
}

var correlations = []correlation{
	{
		name: "event_count", steps: 1, timespan: "1m", condition: "gte: 15", devices: 20_000, perSecond: 2000,
		event: func(dst []byte, _ *rand.Rand, at time.Time, device int) []byte {
			return correlationEvent(dst, at, device, 1, 0)
		},
	},
	{
		name: "temporal_ordered", steps: 5, timespan: "1m", devices: 20_000, perSecond: 2000,
		event: func(dst []byte, rng *rand.Rand, at time.Time, device int) []byte {
			return correlationEvent(dst, at, device, 1, rng.IntN(5))
		},
	},
	{
		// Ten groups of 1,800 events in a window. Few windows have more different
		// values than the condition asks for.
		name: "value_count", steps: 1, timespan: "1m", condition: "field: ip\n    gte: 1300", devices: 10, perSecond: 300,
		event: func(dst []byte, rng *rand.Rand, at time.Time, device int) []byte {
			values := 1800
			if device == 3 {
				values = 1 << 16
			}
			return correlationEvent(dst, at, device, rng.IntN(values), 0)
		},
	},
}

// rules returns the rules as YAML.
func (c *correlation) rules() string {
	var b strings.Builder
	var names []string
	for i := range c.steps {
		names = append(names, fmt.Sprintf("%s%d", stepRule, i))
		fmt.Fprintf(&b, "title: step %d\nid: %s%d\nname: step-%d\nstatus: test\n"+
			"logsource:\n  product: peers\ndetection:\n  selection:\n    step: s%d\n  condition: selection\nlevel: low\n---\n", i, stepRule, i, i, i)
	}
	fmt.Fprintf(&b, "title: %s\nid: 6a1b7b3e-0000-4000-8000-000000000020\nname: outer\nstatus: test\ncorrelation:\n"+
		"  type: %s\n  rules:\n    - %s\n  group-by:\n    - device\n  timespan: %s\n  generate: false\n",
		c.name, c.name, strings.Join(names, "\n    - "), c.timespan)
	if c.condition != "" {
		fmt.Fprintf(&b, "  condition:\n    %s\n", c.condition)
	}
	b.WriteString("level: high\n")
	return b.String()
}

// correlationRow is one engine on one correlation.
type correlationRow struct {
	Correlation string  `json:"correlation"`
	Engine      string  `json:"engine"`
	Events      int     `json:"events"`
	Rate        float64 `json:"events_per_cpu_second"`
	Ratio       float64 `json:"tocsin_over_this"`
	Groups      int     `json:"groups_alerted"`
	// Differ are the groups that only one of this engine and tocsin alerts on.
	Differ int `json:"groups_that_differ"`
}

const correlationEvents = 1_000_000

// runCorrelations gives the engines the same events in the order of time and
// compares rates and the groups that they alert on.
func runCorrelations(ctx context.Context, dir, own, rsigma string) ([]correlationRow, error) {
	var rows []correlationRow
	for i := range correlations {
		c := &correlations[i]
		rulesDir := filepath.Join(dir, c.name)
		if err := os.MkdirAll(rulesDir, 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(rulesDir, "rules.yml"), []byte(c.rules()), 0o644); err != nil {
			return nil, err
		}
		rng := rand.New(rand.NewPCG(1, 2))
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		events := make([][]byte, correlationEvents)
		devices := make([]int, c.devices)
		for k := range devices {
			devices[k] = k
		}
		for n := range events {
			// The devices of a second are the first of a shuffle that goes on.
			k := n % c.perSecond % c.devices
			other := k + rng.IntN(c.devices-k)
			devices[k], devices[other] = devices[other], devices[k]
			events[n] = c.event(nil, rng, start.Add(time.Duration(n/c.perSecond)*time.Second), devices[k])
		}
		engines := []*engine{{name: "tocsin", args: []string{own, "tocsin-correlations", rulesDir}, events: len(events)}}
		if rsigma != "" {
			engines = append(engines, &engine{
				name: "rsigma", events: len(events),
				args: []string{rsigma, "engine", "eval", "-r", rulesDir, "--input-format", "json", "--no-detections", "--suppress", "1000h"},
			})
		}
		var ours map[string]int
		var rate float64
		for _, e := range engines {
			fmt.Fprintf(os.Stderr, "%s: %s, %d events\n", c.name, e.name, e.events)
			load, err := e.run(ctx, events, 0)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.name, err)
			}
			got, err := e.run(ctx, events, e.events)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.name, err)
			}
			row := correlationRow{
				Correlation: c.name, Engine: e.name, Events: e.events, Groups: len(got.matches),
				Rate: float64(e.events) / max(got.cpu-load.cpu, time.Millisecond).Seconds(),
			}
			if ours == nil {
				ours, rate = got.matches, row.Rate
			}
			row.Ratio = rate / row.Rate
			for group := range got.matches {
				if ours[group] == 0 {
					row.Differ++
				}
			}
			for group := range ours {
				if got.matches[group] == 0 {
					row.Differ++
				}
			}
			if row.Groups == 0 {
				return nil, fmt.Errorf("%s: %s: %w", c.name, e.name, errNoMatches)
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// writeCorrelations prints the rows as Markdown that can also be read as it is.
func writeCorrelations(w io.Writer, rows []correlationRow) {
	tw := tabwriter.NewWriter(w, 2, 0, 1, ' ', 0)
	fmt.Fprint(tw, "| correlation\t| engine\t| events\t| events/s of one core\t| tocsin is\t| groups alerted\t| groups that differ |\n")
	fmt.Fprint(tw, "| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| --- |\n")
	for i := range rows {
		r := &rows[i]
		fmt.Fprintf(tw, "| %s\t| %s\t| %d\t| %s\t| %sx\t| %d\t| %d |\n", r.Correlation, r.Engine, r.Events, thousands(r.Rate), thousands(r.Ratio), r.Groups, r.Differ)
	}
	_ = tw.Flush()
}

// correlateStdin is tocsin's matcher and windows as an engine among others. It
// writes a line for the first alert of each group, in rsigma's form.
func correlateStdin(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "rules.yml"))
	if err != nil {
		return err
	}
	set, diags := rules.Compile([]rules.Source{{Name: "rules.yml", Data: data}}, rules.Options{})
	if err := diags.Err(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "Loaded %d rules\n", len(set.Rules))
	out := bufio.NewWriterSize(os.Stdout, 1<<16)
	alerted := map[string]bool{}
	anySource := rules.AnyLogSource
	replay := correlate.NewReplay(set, correlate.ReplayOptions{LogSource: &anySource}, func(f *schemas.Finding) {
		if group := f.Unmapped.Group["device"]; !alerted[group] {
			alerted[group] = true
			fmt.Fprintf(out, "{\"rule_id\":%q,\"group_key\":[[\"device\",%q]]}\n", set.Correlations[0].ID, group)
		}
	})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<16), 1<<20)
	for n := uint64(0); lines.Scan(); n++ {
		event := schemas.Event{Message: lines.Bytes()}
		var s jsonscan.Scanner
		s.Reset(event.Message)
		s.Enter()
		if _, ok := s.Member(); !ok {
			return fmt.Errorf("line %d: no object", n+1)
		}
		at, err := time.Parse(time.RFC3339, string(s.Value().Raw))
		if err != nil {
			return fmt.Errorf("line %d: %w", n+1, err)
		}
		event.Time = at.UnixMilli()
		event.IngestTime = event.Time
		binary.BigEndian.PutUint64(event.ID[:], n*0x9e3779b97f4a7c15)
		binary.BigEndian.PutUint64(event.ID[8:], n)
		replay.Event(&event)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return out.Flush()
}
