package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/tocsin-io/tocsin/internal/ruletest"
	"github.com/tocsin-io/tocsin/rules"
)

type rulesTestCmd struct {
	ruleFlags
	Paths   []string `arg:"" optional:"" name:"path" help:"Test files, rule files and directories; the builtin rules when left out."`
	Format  string   `enum:"text,json,github" default:"text" help:"text, json (one object per test) or github (workflow annotations)."`
	Verbose bool     `short:"v" help:"Name the tests that pass, too."`
}

// Help returns what --help prints below the usage.
func (rulesTestCmd) Help() string {
	return `Tests are in YAML beside the rules, brute.test.yml beside brute.yml: events, and the detections that must result from
them or none. All rules of the directory are compiled, since they may refer to each other. Exit codes: 0 all tests pass,
1 some fail or a file cannot be read, 2 wrong command line, 78 rules or tests are malformed.

A test file:

    tests:
      - name: three refusals in ten minutes
        events:
          - {time: 0s, every: 4m, repeat: 3, message: {eventType: Connection.AuthNError, logLevel: ERROR, clientId: pump-1}}
        detections:
          - {rule: refused_again, group: {tocsin.device: pump-1}, count: 3, first: 0s, last: 8m}

Examples:

    tocsin rules test ./rules
    tocsin rules test -v ./rules/brute.test.yml
    tocsin rules test --format github ./rules`
}

// Run runs the command.
func (c *rulesTestCmd) Run(std streams) error {
	tests, err := testSources(c.Paths)
	if err != nil {
		return err
	}
	if len(tests) == 0 {
		return &exitError{code: exitFailed, err: fmt.Errorf("no tests (.test.yml) at %v", c.Paths), try: "tocsin rules test --help"}
	}
	files, err := c.load(ruleDirs(c.Paths))
	if err != nil {
		return err
	}
	if err := files.whole(c.Paths); err != nil {
		return err
	}
	runner := ruletest.New(files.set)
	passed, failed := 0, 0
	for _, src := range tests {
		f, diags := rules.ParseTestFile(src)
		if err := diags.Err(); err != nil {
			return &exitError{code: exitConfig, err: err}
		}
		for _, r := range runner.Run(f) {
			if len(r.Failures) == 0 {
				passed++
			} else {
				failed++
			}
			if err := c.print(std, &r); err != nil {
				return err
			}
		}
	}
	if failed > 0 {
		return &exitError{code: exitFailed, err: fmt.Errorf("%d of %d tests failed", failed, passed+failed)}
	}
	if c.Format == "text" {
		_, err = fmt.Fprintf(std.out, "ok: %d tests\n", passed)
	}
	return err
}

func (c *rulesTestCmd) print(std streams, r *ruletest.Result) error {
	var err error
	switch c.Format {
	case "json":
		type failure struct {
			Line    int    `json:"line"`
			Message string `json:"message"`
		}
		out := struct {
			File     string    `json:"file"`
			Line     int       `json:"line"`
			Name     string    `json:"name"`
			Passed   bool      `json:"passed"`
			Failures []failure `json:"failures,omitempty"`
		}{File: r.File, Line: r.Line, Name: r.Name, Passed: len(r.Failures) == 0}
		for _, f := range r.Failures {
			out.Failures = append(out.Failures, failure{f.Line, f.Message})
		}
		return json.NewEncoder(std.out).Encode(out)
	case "github":
		for _, f := range r.Failures {
			annotation := finding{File: f.File, Line: f.Line, Column: 1, Severity: "error", Message: r.Name + ": " + f.Message}
			if _, err = fmt.Fprintln(std.out, annotation.github()); err != nil {
				return err
			}
		}
		return nil
	}
	if c.Verbose && len(r.Failures) == 0 {
		_, err = fmt.Fprintf(std.out, "pass: %s:%d: %s\n", r.File, r.Line, r.Name)
	}
	for _, f := range r.Failures {
		if _, err = fmt.Fprintf(std.out, "FAIL: %s:%d: %s: %s\n", f.File, f.Line, r.Name, f.Message); err != nil {
			return err
		}
	}
	return err
}

// ruleDirs are where the rules of tests at paths are: a file stands for its
// directory, because the rules in it may refer to others there.
func ruleDirs(paths []string) []string {
	var out []string
	for _, p := range paths {
		if ext := filepath.Ext(p); ext == ".yml" || ext == ".yaml" {
			p = filepath.Dir(p)
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}
