package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/rules"
)

type rulesListCmd struct {
	ruleFlags
	Paths []string `arg:"" optional:"" name:"path" help:"Rule files and directories; the builtin rules when left out."`
	All   bool     `help:"List rules that do not alert by themselves, too: the parts of correlations."`
	JSON  bool     `name:"json" help:"One object per line."`
}

// Help returns what --help prints below the usage.
func (rulesListCmd) Help() string {
	return `Examples:

    tocsin rules list
    tocsin rules list --all ./rules
    tocsin rules list --json | jq -r 'select(.level == "critical").name'`
}

// ruleJSON is a rule as rules list and rules show print it.
type ruleJSON struct {
	Name           string   `json:"name"`
	ID             string   `json:"id"`
	Title          string   `json:"title"`
	Type           string   `json:"type"` // "rule" or the type of the correlation
	Level          string   `json:"level"`
	Status         string   `json:"status,omitempty"`
	Alerts         bool     `json:"alerts"`
	Product        string   `json:"product,omitempty"`
	Category       string   `json:"category,omitempty"`
	Service        string   `json:"service,omitempty"`
	Rules          []string `json:"rules,omitempty"` // of a correlation
	GroupBy        []string `json:"group_by,omitempty"`
	Timespan       string   `json:"timespan,omitempty"`
	Condition      string   `json:"condition,omitempty"`
	UsedBy         []string `json:"used_by,omitempty"`
	Description    string   `json:"description,omitempty"`
	Author         string   `json:"author,omitempty"`
	Date           string   `json:"date,omitempty"`
	Tags           []string `json:"tags,omitempty"`
	References     []string `json:"references,omitempty"`
	FalsePositives []string `json:"falsepositives,omitempty"`
	File           string   `json:"file"`
	Line           int      `json:"line"`
}

func describeMeta(m *rules.Meta, set *rules.Set, uses []rules.Use) ruleJSON {
	r := ruleJSON{
		Name: metaName(m), ID: m.ID, Title: m.Title, Type: "rule", Level: m.Level.String(), Status: m.Status,
		Description: m.Description, Author: m.Author, Date: m.Date, Tags: m.Tags, References: m.References,
		FalsePositives: m.FalsePositives, File: m.File, Line: m.Line,
	}
	for _, use := range uses {
		r.UsedBy = append(r.UsedBy, metaName(&set.Correlations[use.Correlation].Meta))
	}
	return r
}

func describeRule(set *rules.Set, r *rules.Rule) ruleJSON {
	out := describeMeta(&r.Meta, set, r.Uses)
	out.Alerts = r.Alerts
	out.Product, out.Category, out.Service = r.LogSource.Product, r.LogSource.Category, r.LogSource.Service
	return out
}

func describeCorrelation(set *rules.Set, c *rules.Correlation) ruleJSON {
	out := describeMeta(&c.Meta, set, c.Uses)
	out.Alerts, out.Type, out.GroupBy, out.Timespan = c.Alerts, c.Type.String(), c.GroupBy, shortDuration(c.Timespan)
	for _, step := range c.Steps {
		out.Rules = append(out.Rules, step.Name)
	}
	out.Condition = conditionText(set, c)
	return out
}

// conditionText writes a correlation's condition: "distinct clientId gte 4".
func conditionText(set *rules.Set, c *rules.Correlation) string {
	switch {
	case c.Expr != nil:
		return exprText(c, c.Expr)
	case c.Type == rules.Temporal:
		return "all of the rules"
	case c.Type == rules.TemporalOrdered:
		return "all of the rules, in their order"
	}
	what := "events"
	var fields []string
	for _, f := range c.Steps[0].Values {
		fields = append(fields, set.FieldName(f))
	}
	of := strings.Join(fields, ", ")
	switch c.Type {
	case rules.ValueCount:
		what = "distinct " + of
	case rules.ValueSum:
		what = "sum of " + of
	case rules.ValueAvg:
		what = "average of " + of
	case rules.ValueMedian:
		what = "median of " + of
	case rules.ValuePercentile:
		what = fmt.Sprintf("%gth percentile of %s", c.Condition.Percentile, of)
	}
	var bounds []string
	for _, b := range c.Condition.Bounds {
		bounds = append(bounds, b.Op.String()+" "+strconv.FormatFloat(b.Value, 'f', -1, 64))
	}
	return what + " " + strings.Join(bounds, " and ")
}

func exprText(c *rules.Correlation, e *rules.TemporalExpr) string {
	var parts []string
	for _, arg := range e.Args {
		text := exprText(c, arg)
		if len(arg.Args) > 1 {
			text = "(" + text + ")"
		}
		parts = append(parts, text)
	}
	switch e.Op {
	case rules.ExprStep:
		return c.Steps[e.Step].Name
	case rules.ExprNot:
		return "not " + parts[0]
	case rules.ExprOr:
		return strings.Join(parts, " or ")
	default:
		return strings.Join(parts, " and ")
	}
}

// shortDuration writes 10m0s as 10m.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// scope is where a rule looks: its log source, or what it correlates.
func (r *ruleJSON) scope() string {
	if r.Type != "rule" {
		return r.Type
	}
	return logSourceText(rules.LogSource{Product: r.Product, Category: r.Category, Service: r.Service})
}

// Run runs the command.
func (c *rulesListCmd) Run(std streams) error {
	files, err := c.load(c.Paths)
	if err != nil {
		return err
	}
	var list []ruleJSON
	for _, r := range files.set.Rules {
		list = append(list, describeRule(files.set, r))
	}
	for _, cor := range files.set.Correlations {
		list = append(list, describeCorrelation(files.set, cor))
	}
	t := listing{heads: []string{"LEVEL", "NAME", "LOOKS AT", "TITLE"}, flexible: []int{3, 2, 1}}
	enc := json.NewEncoder(std.out)
	for i := range list {
		r := &list[i]
		if !r.Alerts && !c.All {
			continue
		}
		if c.JSON {
			if err := enc.Encode(r); err != nil {
				return err
			}
			continue
		}
		t.add(r.Level, r.Name, r.scope(), r.Title)
	}
	if !c.JSON {
		if err := t.write(std.out, terminalWidth(std.out)); err != nil {
			return err
		}
	}
	if n := files.diags.Errors(); n > 0 {
		fmt.Fprintf(std.err, "%s left out because of errors; tocsin rules lint %s shows them\n", plural(int64(n), "rule"), strings.Join(c.Paths, " "))
	}
	return nil
}

type rulesShowCmd struct {
	ruleFlags
	Rule  string   `arg:"" help:"ID, name or title of a rule."`
	Paths []string `arg:"" optional:"" name:"path" help:"Rule files and directories; the builtin rules when left out."`
	JSON  bool     `name:"json" help:"As JSON."`
}

// Help returns what --help prints below the usage.
func (rulesShowCmd) Help() string {
	return `Examples:

    tocsin rules show iot_device_publish_flood
    tocsin rules show 5c57f2e4-4a02-5290-b8ec-669e37bb95a6 --json`
}

// Run runs the command.
func (c *rulesShowCmd) Run(std streams) error {
	files, err := c.load(c.Paths)
	if err != nil {
		return err
	}
	rule, correlation, err := files.find(c.Rule)
	if err != nil {
		return err
	}
	var r ruleJSON
	if rule != nil {
		r = describeRule(files.set, rule)
	} else {
		r = describeCorrelation(files.set, correlation)
	}
	if c.JSON {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		return enc.Encode(&r)
	}
	return r.print(std.out)
}

func (r *ruleJSON) print(w io.Writer) error {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-13s %s\n", name, value)
		}
	}
	list := func(name string, values []string) {
		for i, v := range values {
			if i > 0 {
				name = ""
			}
			line(name, v)
		}
	}
	line("title", r.Title)
	line("name", r.Name)
	line("id", r.ID)
	line("level", r.Level)
	line("status", r.Status)
	line("alerts", map[bool]string{true: "yes", false: "no, it is part of a correlation"}[r.Alerts])
	if r.Type == "rule" {
		line("log source", r.scope())
	} else {
		line("correlation", r.Type)
		list("rules", r.Rules)
		line("group by", strings.Join(r.GroupBy, ", "))
		line("timespan", r.Timespan)
		line("condition", r.Condition)
	}
	list("used by", r.UsedBy)
	list("description", wrap(r.Description, 100))
	list("may also be", r.FalsePositives)
	line("tags", strings.Join(r.Tags, ", "))
	list("references", r.References)
	line("author", r.Author)
	line("date", r.Date)
	line("file", fmt.Sprintf("%s:%d", r.File, r.Line))
	_, err := io.WriteString(w, b.String())
	return err
}
