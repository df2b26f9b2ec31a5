package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/correlate"
	"github.com/tocsin-io/tocsin/internal/backtest"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

type rulesExplainCmd struct {
	ruleFlags
	Rule            string   `arg:"" help:"ID, name or title of a rule."`
	Event           []string `required:"" placeholder:"FILE" help:"Events in any form that ingest takes; - for standard input."`
	Rules           []string `placeholder:"PATH" help:"Rule files and directories; the builtin rules when left out."`
	LogSource       string   `name:"logsource" placeholder:"KEY=NAME,..." help:"Log source of the events: product=windows,category=process_creation. Default: what ingest makes of them."`
	IgnoreLogSource bool     `name:"ignore-logsource" help:"Take the events to be of every log source."`
	Limit           int      `default:"10" placeholder:"N" help:"Explain the first N events in full."`
	Format          string   `enum:"text,json" default:"text" help:"text or json (one object per event, then one for the windows)."`
}

// Help returns what --help prints below the usage.
func (rulesExplainCmd) Help() string {
	return `Shows for each event every selection and item of the rule, the values that the event has there, and whether they match;
for a correlation also what its windows hold once all events of the file have been seen.

Examples:

    tocsin rules explain iot_sni_mismatch --event event.json
    tocsin rules explain iot_device_publish_flood --event log.jsonl --limit 1
    tocsin rules explain proc_creation_win_x --rules ./sigma --event e.json --logsource product=windows,category=process_creation`
}

// eventSource returns the log source that flags set; nil: the events' own.
func eventSource(logSource string, ignore bool) (*rules.LogSource, error) {
	switch {
	case ignore && logSource != "":
		return nil, &exitError{code: exitUsage, err: errors.New("--logsource and --ignore-logsource exclude each other")}
	case ignore:
		return &rules.AnyLogSource, nil
	case logSource == "":
		return nil, nil
	}
	ls, err := backtest.ParseLogSource(logSource)
	if err != nil {
		return nil, &exitError{code: exitUsage, err: err}
	}
	return ls, nil
}

// Run runs the command.
func (c *rulesExplainCmd) Run(std streams) error {
	as, err := eventSource(c.LogSource, c.IgnoreLogSource)
	if err != nil {
		return err
	}
	files, err := c.load(c.Rules)
	if err != nil {
		return err
	}
	rule, correlation, err := files.find(c.Rule)
	if err != nil {
		return errors.Join(err, files.diags.Err())
	}
	ctx, cancel := (&app{std: std}).signals()
	defer cancel()
	e := &explaining{
		cmd: c, files: files, as: as, out: std.out,
		explainer: rules.NewExplainer(files.sources, files.opts),
		replay:    correlate.NewReplay(files.set, correlate.ReplayOptions{LogSource: as, Reorder: 1 << 20}, func(*schemas.Finding) {}),
	}
	if correlation != nil {
		e.addSteps(correlation)
		e.describe(correlation)
	} else {
		e.names = []string{rule.ID}
	}
	source := &backtest.Files{Paths: c.Event, Stdin: std.in}
	stats, err := source.Events(ctx, e.event)
	if err != nil {
		return err
	}
	if stats.Rejected > 0 {
		fmt.Fprintf(std.err, "%s could not be decoded; the first: %s\n", plural(stats.Rejected, "part"), stats.FirstRejected)
	}
	if e.n == 0 {
		return fmt.Errorf("there is no event in %s", strings.Join(c.Event, ", "))
	}
	if rest := e.n - c.Limit; rest > 0 && c.Format == "text" {
		fmt.Fprintf(std.out, "%s more not explained: --limit %d\n\n", plural(int64(rest), "event"), e.n)
	}
	if correlation != nil {
		return e.windows(correlation)
	}
	return nil
}

// explaining is a run of rules explain.
type explaining struct {
	cmd       *rulesExplainCmd
	files     *ruleFiles
	as        *rules.LogSource
	out       io.Writer
	explainer *rules.Explainer
	replay    *correlate.Replay
	names     []string // IDs of the detection rules to explain
	n         int
}

// addSteps collects the detection rules that c refers to, directly or not.
func (e *explaining) addSteps(c *rules.Correlation) {
	for _, step := range c.Steps {
		if step.Rule < 0 {
			e.addSteps(e.files.set.Correlations[step.Correlation])
			continue
		}
		if id := e.files.set.Rules[step.Rule].ID; !slices.Contains(e.names, id) {
			e.names = append(e.names, id)
		}
	}
}

func (e *explaining) describe(c *rules.Correlation) {
	if e.cmd.Format == "json" {
		return
	}
	d := describeCorrelation(e.files.set, c)
	group := "everything in one group"
	if len(d.GroupBy) > 0 {
		group = "by " + strings.Join(d.GroupBy, ", ")
	}
	fmt.Fprintf(e.out, "%s: %s of %s within %s, %s: %s\n\n", d.Name, d.Type, strings.Join(d.Rules, ", "), d.Timespan, group, d.Condition)
}

// explainedEvent is the JSON form of one event explained.
type explainedEvent struct {
	Event        int                  `json:"event"` // from 1
	ID           string               `json:"event_id"`
	Time         time.Time            `json:"time"`
	Source       string               `json:"source"`
	EventType    string               `json:"event_type,omitempty"`
	Device       string               `json:"device,omitempty"`
	Explanations []explainedEventRule `json:"rules"`
}

type explainedEventRule struct {
	Rule string `json:"rule"`
	*rules.Explanation
}

func (e *explaining) event(ev *schemas.Event) error {
	e.n++
	e.replay.Event(ev)
	if e.n > e.cmd.Limit {
		return nil
	}
	out := explainedEvent{
		Event: e.n, ID: ev.ID.String(), Time: time.UnixMilli(ev.Time).UTC(),
		Source: string(ev.Source), EventType: string(ev.Type), Device: string(ev.Device),
	}
	for _, id := range e.names {
		why, err := e.explainer.Explain(id, ev, e.as)
		if err != nil {
			return err
		}
		out.Explanations = append(out.Explanations, explainedEventRule{metaName(why.Rule), why})
	}
	if e.cmd.Format == "json" {
		return json.NewEncoder(e.out).Encode(&out)
	}
	return out.print(e.out)
}

func mark(holds bool) string {
	if holds {
		return "[x]"
	}
	return "[ ]"
}

func (e *explainedEvent) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "event %d: %s %s %s, device %s\n", e.Event, e.Time.Format(time.RFC3339Nano), e.Source, printable(e.EventType), printable(e.Device))
	for _, r := range e.Explanations {
		verdict := "matches"
		if !r.Matched {
			verdict = "does not match"
		}
		fmt.Fprintf(&b, "  %s %s %s\n", mark(r.Matched), r.Rule, verdict)
		if !r.Selected {
			fmt.Fprintf(&b, "      [ ] log source: the rule is for %s, the event is %s\n", logSourceText(r.LogSource), logSourceText(r.EventLogSource))
		}
		for _, part := range r.Parts {
			name := "condition"
			if part.Filter != "" {
				name = "filter " + part.Filter
			}
			for _, c := range part.Conditions {
				fmt.Fprintf(&b, "      %s %s: %s\n", mark(c.Holds), name, conditionLine(&c))
			}
			for _, s := range part.Selections {
				printSelection(&b, part.File, &s)
			}
		}
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}

func logSourceText(ls rules.LogSource) string {
	if ls == rules.AnyLogSource {
		return "any"
	}
	return strings.Join(slices.DeleteFunc([]string{ls.Product, ls.Category, ls.Service}, func(s string) bool { return s == "" }), "/")
}

// conditionLine writes a condition as rules have it.
func conditionLine(c *rules.ExplainedCondition) string {
	var parts []string
	for i := range c.Parts {
		text := conditionLine(&c.Parts[i])
		if t := c.Parts[i].Text; t == "and" || t == "or" {
			text = "(" + text + ")"
		}
		parts = append(parts, text)
	}
	switch c.Text {
	case "not":
		return "not " + parts[0]
	case "and", "or":
		if len(parts) > 1 {
			return strings.Join(parts, " "+c.Text+" ")
		}
	}
	return c.Text
}

func printSelection(b *strings.Builder, file string, s *rules.ExplainedSelection) {
	fmt.Fprintf(b, "      %s %s  %s:%d\n", mark(s.Holds), s.Name, file, s.Line)
	for i, items := range s.Alternatives {
		if len(s.Alternatives) > 1 {
			fmt.Fprintf(b, "          alternative %d\n", i+1)
		}
		for _, item := range items {
			printItem(b, &item)
		}
	}
}

// maxShownValues bounds the values of an item that are shown besides those that
// match.
const maxShownValues = 5

func printItem(b *strings.Builder, item *rules.ExplainedItem) {
	var held, others []string
	for _, v := range item.Values {
		if v.Holds {
			held = append(held, printable(v.Text))
		} else if len(others) < maxShownValues {
			others = append(others, printable(v.Text))
		}
	}
	more := len(item.Values) - len(held) - len(others)
	wanted := strings.Join(append(slices.Clone(held), others...), ", ")
	if more > 0 {
		wanted += fmt.Sprintf(" and %d more", more)
	}
	key := item.Key
	saw := "the message"
	switch {
	case key == "" || strings.HasPrefix(key, "|"):
		key = "keywords" + key
	case item.Seen == nil:
		saw = "nothing: the event has no such field"
	default:
		saw = printable(strings.Join(item.Seen, ", "))
	}
	fmt.Fprintf(b, "          %s %s: %s\n              saw %s\n", mark(item.Holds), key, wanted, saw)
	if len(item.Values) > 1 && len(held) > 0 {
		fmt.Fprintf(b, "              equal to %s\n", strings.Join(held, ", "))
	}
}

// windows shows what the windows of c hold.
func (e *explaining) windows(c *rules.Correlation) error {
	e.replay.Flush()
	index := slices.Index(e.files.set.Correlations, c)
	groups := e.replay.Groups(index)
	if e.cmd.Format == "json" {
		return json.NewEncoder(e.out).Encode(map[string]any{"correlation": metaName(&c.Meta), "events": e.n, "groups": groupsJSON(c, groups)})
	}
	var b strings.Builder
	stats := e.replay.Stats()
	fmt.Fprintf(&b, "%s, %d of them match a rule; %s\n", plural(int64(e.n), "event"), stats.Matched, plural(int64(len(groups)), "group"))
	for _, reason := range slices.Sorted(maps.Keys(stats.Ignored)) {
		fmt.Fprintf(&b, "  %s took no part: %s\n", plural(stats.Ignored[reason], "match"), strings.ReplaceAll(reason, "_", " "))
	}
	for i := range groups {
		if i == e.cmd.Limit {
			fmt.Fprintf(&b, "  and %s more: --limit %d\n", plural(int64(len(groups)-i), "group"), len(groups))
			break
		}
		e.printGroup(&b, c, &groups[i])
	}
	_, err := io.WriteString(e.out, b.String())
	return err
}

func (e *explaining) printGroup(b *strings.Builder, c *rules.Correlation, g *correlate.GroupState) {
	var group []string
	for i, name := range c.GroupBy {
		if i < len(g.Group) {
			group = append(group, name+"="+printable(g.Group[i]))
		}
	}
	name := strings.Join(group, " ")
	if name == "" {
		name = "the whole fleet"
	}
	fmt.Fprintf(b, "  %s %s: %s from %s to %s\n", mark(g.Closest.Holds), name, plural(int64(g.Events), "event"), clock(g.First), clock(g.Last))
	win := &g.Closest
	fmt.Fprintf(b, "      closest window: %s from %s to %s", plural(int64(win.Events), "event"), clock(win.First), clock(win.Last))
	if len(win.Steps) > 0 {
		b.WriteString("; ")
		for i, n := range win.Steps {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(b, "%s %d", c.Steps[i].Name, n)
		}
	} else {
		fmt.Fprintf(b, "; %s: it is %g", conditionText(e.files.set, c), win.Value)
	}
	b.WriteByte('\n')
	if !win.Decided {
		fmt.Fprintf(b, "      decided only when the watermark has passed %s, because more events could change it\n", clock(win.End))
	}
	for _, ep := range g.Episodes {
		suppressed := ""
		if ep.Suppressed {
			suppressed = ", suppressed"
		}
		fmt.Fprintf(b, "      detection %s: %s, %s from %s to %s%s\n", ep.ID, ep.State, plural(ep.Count, "event"), clock(ep.First), clock(ep.Last), suppressed)
	}
}

func clock(millis int64) string {
	return time.UnixMilli(millis).UTC().Format("2006-01-02 15:04:05.000")
}
