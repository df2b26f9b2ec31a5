package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/tocsin-io/tocsin/internal/backtest"
	"github.com/tocsin-io/tocsin/sinks/clickhouse"
)

type backtestCmd struct {
	configFlags
	ruleFlags
	Rules           []string      `placeholder:"PATH" help:"Rule files and directories; the builtin rules when left out."`
	Baseline        []string      `placeholder:"PATH" help:"Rules to compare with: print only what --rules adds, loses and changes."`
	Events          []string      `placeholder:"FILE" help:"Files, directories and patterns in any form that ingest takes; - for standard input."`
	From            time.Time     `placeholder:"TIME" help:"Read the events in ClickHouse from this time on: 2026-11-20T00:00:00Z."`
	To              time.Time     `placeholder:"TIME" help:"Up to this time."`
	LogSource       string        `name:"logsource" placeholder:"KEY=NAME,..." help:"Log source of all events: product=windows,category=process_creation. Default: what ingest makes of them."`
	IgnoreLogSource bool          `name:"ignore-logsource" help:"Evaluate every rule on every event."`
	TimeField       string        `placeholder:"NAME" help:"Field of the message that is the event's time, such as UtcTime or a.b."`
	Lateness        time.Duration `default:"10m" help:"How late an event may be, when there are more matches than --max-matches."`
	MaxMatches      int           `default:"4000000" placeholder:"N" help:"Matches held in memory to be put into the order of time, about 300 bytes each."`
	Format          string        `enum:"table,json" default:"table" help:"table, or json (one detection per line)."`
}

// Help returns what --help prints below the usage.
func (backtestCmd) Help() string {
	return `Uses the pipeline's own engine at full speed, and needs no server for files. Events may come in any order. Exit codes: 0 it ran,
whatever it found, 1 failed, 2 wrong command line, 78 a rule is wrong.

Examples:

    tocsin backtest --events ./logs
    tocsin backtest --rules ./new --baseline ./old --events logs/*.jsonl.gz
    tocsin generate --duration 30m | tocsin backtest --events - --format json
    tocsin backtest --rules ./sigma --events sysmon.jsonl --logsource product=windows,category=process_creation --time-field UtcTime
    tocsin backtest --config tocsin.yaml --rules ./new --from 2026-11-20T00:00:00Z --to 2026-11-21T00:00:00Z`
}

// Run runs the command.
func (c *backtestCmd) Run(std streams) error {
	history := !c.From.IsZero() || !c.To.IsZero()
	switch {
	case history && len(c.Events) > 0:
		return c.usage("--events and --from exclude each other")
	case !history && len(c.Events) == 0:
		return c.usage("give --events, or --from and --to for the history in ClickHouse")
	case history && (c.From.IsZero() || c.To.IsZero() || !c.From.Before(c.To)):
		return c.usage("give both --from and a later --to")
	}
	as, err := eventSource(c.LogSource, c.IgnoreLogSource)
	if err != nil {
		return err
	}
	opts := backtest.Options{LogSource: as, TimeField: c.TimeField, Lateness: c.Lateness, MaxMatches: c.MaxMatches}
	files, err := c.ruleFlags.load(c.Rules)
	if err != nil {
		return err
	}
	if err := files.whole(c.Rules); err != nil {
		return err
	}
	opts.Set = files.set
	if len(c.Baseline) > 0 {
		baseline, err := c.ruleFlags.load(c.Baseline)
		if err != nil {
			return err
		}
		if err := baseline.whole(c.Baseline); err != nil {
			return err
		}
		opts.Baseline = baseline.set
	}
	ctx, cancel := (&app{std: std}).signals()
	defer cancel()
	bar := newProgressBar(std.err)
	if history {
		cfg, err := c.configFlags.load()
		if err != nil {
			return err
		}
		conn, err := clickhouse.Open(clickhouseOptions(&cfg.ClickHouse))
		if err != nil {
			return &exitError{code: exitConfig, err: err}
		}
		defer conn.Close()
		opts.Source = &backtest.History{Conn: conn, Database: cfg.ClickHouse.Database, From: c.From, To: c.To, Progress: bar.set}
	} else {
		opts.Source = &backtest.Files{Paths: c.Events, Stdin: std.in, Progress: bar.set}
	}
	report, err := backtest.Run(ctx, opts)
	bar.finish()
	if err != nil {
		return err
	}
	if err := c.print(std.out, report); err != nil {
		return err
	}
	c.summary(std.err, report)
	return nil
}

func (c *backtestCmd) usage(what string) error {
	return &exitError{code: exitUsage, err: errors.New(what), try: "tocsin backtest --help"}
}

func (c *backtestCmd) print(w io.Writer, r *backtest.Report) error {
	list := r.Detections
	if len(c.Baseline) > 0 {
		list = r.Changes
	}
	if c.Format == "json" {
		enc := json.NewEncoder(w)
		for i := range list {
			if err := enc.Encode(&list[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(list) == 0 {
		return nil
	}
	t := listing{heads: []string{"LEVEL", "RULE", "FIRST", "LAST", "COUNT", "EVIDENCE", "GROUP"}, flexible: []int{6, 1}}
	if len(c.Baseline) > 0 {
		t.heads = append([]string{""}, t.heads...)
		t.flexible = []int{7, 2}
	}
	for i := range list {
		d := &list[i]
		var row []string
		if len(c.Baseline) > 0 {
			row = append(row, map[backtest.Change]string{backtest.Added: "+", backtest.Lost: "-", backtest.Changed: "~"}[d.Change])
		}
		t.add(append(row, d.Level, d.Rule, clock(d.First.UnixMilli()), clock(d.Last.UnixMilli()), countText(d), evidenceText(d), d.GroupText())...)
	}
	return t.write(w, terminalWidth(w))
}

// countText is the number of events, and what it was in the baseline.
func countText(d *backtest.Detection) string {
	n := strconv.FormatInt(d.Count, 10)
	if d.Was != nil && d.Was.Count != d.Count {
		return strconv.FormatInt(d.Was.Count, 10) + "->" + n
	}
	return n
}

// evidenceText names the first event; --format json has the others.
func evidenceText(d *backtest.Detection) string {
	if len(d.Evidence) == 0 {
		return ""
	}
	const shown = 8
	text := d.Evidence[0][:min(shown, len(d.Evidence[0]))]
	if n := len(d.Evidence) - 1; n > 0 {
		text += fmt.Sprintf("+%d", n)
	}
	return text
}

// summary says what was done, and what to know before trusting the result.
func (c *backtestCmd) summary(w io.Writer, r *backtest.Report) {
	rate := float64(r.Stats.Events) / max(r.Took.Seconds(), 1e-9)
	fmt.Fprintf(w, "%s in %s (%.0f/s), %d matched a rule, %s", plural(r.Stats.Events, "event"), r.Took.Round(time.Millisecond), rate,
		r.Stats.Matched, plural(int64(len(r.Detections)), "detection"))
	if len(c.Baseline) > 0 {
		count := map[backtest.Change]int{}
		for _, d := range r.Changes {
			count[d.Change]++
		}
		fmt.Fprintf(w, "; against the baseline %d added, %d lost, %d changed", count[backtest.Added], count[backtest.Lost], count[backtest.Changed])
	}
	fmt.Fprintln(w)
	if n := r.Source.Rejected; n > 0 {
		fmt.Fprintf(w, "%s could not be decoded; the first: %s\n", plural(n, "part"), r.Source.FirstRejected)
	}
	if n := r.Source.Untimed; n > 0 && c.TimeField == "" {
		fmt.Fprintf(w, "%s had no time of their own and took that of reading; --time-field NAME says where it is\n", plural(n, "event"))
	}
	if r.Untimed > 0 {
		fmt.Fprintf(w, "%s had no time in field %s and kept the one that decoding found\n", plural(r.Untimed, "event"), c.TimeField)
	}
	if n := r.Stats.Windows.Late; n > 0 {
		fmt.Fprintf(w, "%s came too late for windows; raise --max-matches or --lateness\n", plural(n, "matching event"))
	}
	if n := r.Stats.Windows.EvictedGroups; n > 0 {
		fmt.Fprintf(w, "%s given up because memory is bounded: counts of these may be too low\n", plural(n, "group"))
	}
	if r.Dropped > 0 {
		fmt.Fprintf(w, "%s beyond the limit left out; narrow the rules or the events\n", plural(r.Dropped, "detection"))
	}
}

// progressBar is a bar on a terminal, and nothing elsewhere.
type progressBar struct {
	bar   *progressbar.ProgressBar
	total int64
	w     io.Writer
}

func newProgressBar(w io.Writer) *progressBar {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &progressBar{}
	}
	return &progressBar{w: w}
}

// set is called from one goroutine at a time.
func (p *progressBar) set(done, total int64) {
	if p.w == nil {
		return
	}
	if p.bar == nil {
		p.total = total
		p.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(p.w), progressbar.OptionShowBytes(true),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))
	}
	// It only draws; a terminal that went away is no reason to stop.
	_ = p.bar.Set64(done)
}

func (p *progressBar) finish() {
	if p.bar != nil {
		_ = p.bar.Finish()
		_ = p.bar.Clear()
	}
}
