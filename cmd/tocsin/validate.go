package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tocsin-io/tocsin/internal/config"
	"github.com/tocsin-io/tocsin/rules"
)

type validateCmd struct {
	File   string   `arg:"" optional:"" name:"config" env:"TOCSIN_CONFIG" help:"YAML configuration; without one the defaults are checked."`
	Rules  []string `placeholder:"PATH" help:"Check these rule files and directories instead of those in the configuration."`
	Format string   `enum:"text,json,github" default:"text" help:"text, json (one object per line) or github (workflow annotations)."`
	Strict bool     `help:"Warnings count as errors."`
}

// Help returns what --help prints below the usage.
func (validateCmd) Help() string {
	return `Reads the configuration and compiles the rules; connects to nothing. Every problem is reported, with its line. Exit codes:
0 nothing wrong, 1 a file cannot be read, 2 wrong command line, 78 problems found.

Examples:

    tocsin validate tocsin.yaml
    tocsin validate --rules ./rules --format github --strict`
}

// finding is one problem, in the form that --format json prints.
type finding struct {
	File     string `json:"file"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
	Severity string `json:"severity"` // "error" or "warning"
	Path     string `json:"path,omitempty"`
	Rule     string `json:"rule,omitempty"`
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty"`
}

// Run runs the command.
func (c *validateCmd) Run(std streams) error {
	found, summary, err := c.check()
	if err != nil {
		return err
	}
	if err := printFindings(std.out, c.Format, found); err != nil {
		return err
	}
	problems := 0
	for _, f := range found {
		if f.Severity == "error" || c.Strict {
			problems++
		}
	}
	if problems > 0 {
		return &exitError{code: exitConfig, err: fmt.Errorf("%d problems", problems)}
	}
	if c.Format == "text" {
		_, err = fmt.Fprintln(std.out, "ok: "+summary)
	}
	return err
}

// check returns everything wrong and, for when nothing is, what was checked.
func (c *validateCmd) check() ([]finding, string, error) {
	var found []finding
	var problems *config.Error
	cfg, err := config.LoadFile(c.File)
	switch {
	case errors.As(err, &problems):
		for _, p := range problems.Problems {
			found = append(found, finding{File: p.File, Line: p.Line, Column: p.Column, Severity: "error", Path: p.Path, Message: p.Message})
		}
	case err != nil:
		return nil, "", err
	}
	if cfg != nil {
		for _, f := range checkAWSIoT(cfg.Sinks.AWSIoT) {
			f.File = c.File
			found = append(found, f)
		}
	}
	correlate := &config.Correlate{Builtin: len(c.Rules) == 0, Rules: c.Rules}
	if cfg != nil && len(c.Rules) == 0 {
		correlate = &cfg.Correlate
	}
	set, diagnostics, err := loadRules(correlate)
	if err != nil {
		return nil, "", fmt.Errorf("rules: %w", err)
	}
	for _, d := range diagnostics {
		found = append(found, ruleFinding(d))
	}
	name := c.File
	if name == "" {
		name = "the default configuration"
	}
	return found, fmt.Sprintf("%s, %d rules, %d correlations", name, len(set.Rules), len(set.Correlations)), nil
}

func ruleFinding(d rules.Diagnostic) finding {
	return finding{
		File: d.File, Line: d.Line, Column: d.Column, Severity: d.Severity.String(),
		Rule: d.Rule, Message: d.Message, Hint: d.Hint,
	}
}

func printFindings(w io.Writer, format string, found []finding) error {
	for _, f := range found {
		var err error
		switch format {
		case "json":
			err = json.NewEncoder(w).Encode(f)
		case "github":
			_, err = fmt.Fprintln(w, f.github())
		default:
			_, err = fmt.Fprintln(w, f.text())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f finding) message() string {
	m := f.Message
	if f.Path != "" {
		m = f.Path + ": " + m
	}
	if f.Hint != "" {
		m += "; " + f.Hint
	}
	return m
}

func (f finding) text() string {
	place := f.File
	if f.Line > 0 {
		place = fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
	}
	if place != "" {
		place += ": "
	}
	return place + f.Severity + ": " + f.message()
}

// github is a workflow command, which GitHub shows at the line it names.
// https://docs.github.com/actions/reference/workflow-commands-for-github-actions
func (f finding) github() string {
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	place := "file=" + property.Replace(f.File)
	if f.Line > 0 {
		place += fmt.Sprintf(",line=%d,col=%d", f.Line, f.Column)
	}
	return fmt.Sprintf("::%s %s::%s", f.Severity, place, data.Replace(f.message()))
}
