package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/rules/packs"
)

type rulesCmd struct {
	Lint    rulesLintCmd    `cmd:"" help:"Check rule files and their tests."`
	List    rulesListCmd    `cmd:"" help:"List rules."`
	Show    rulesShowCmd    `cmd:"" help:"Show one rule."`
	Test    rulesTestCmd    `cmd:"" help:"Run the tests beside rule files."`
	Explain rulesExplainCmd `cmd:"" help:"Say why a rule matches events, or why not."`
}

// ruleFlags are the flags of commands that compile rules for tools.
type ruleFlags struct {
	Placeholders string `placeholder:"FILE" help:"YAML mapping of placeholder names to lists of values, for rules with the expand modifier."`
}

// ruleFiles are rules read from files, or those that come with the program.
type ruleFiles struct {
	sources []rules.Source
	opts    rules.Options
	set     *rules.Set
	diags   rules.Diagnostics
}

// load reads and compiles the rules at paths; without any the builtin ones. Test
// files among the paths are left out: a shell's pattern names them, too.
func (f *ruleFlags) load(paths []string) (*ruleFiles, error) {
	out, err := f.loadAny(paths)
	if err == nil && len(out.sources) == 0 {
		return nil, fmt.Errorf("no rule files (.yml, .yaml) in %s", strings.Join(paths, ", "))
	}
	return out, err
}

// loadAny is load where there need be no rule.
func (f *ruleFlags) loadAny(paths []string) (*ruleFiles, error) {
	out := &ruleFiles{}
	var err error
	if len(paths) == 0 {
		out.sources, err = packs.Sources()
	} else {
		out.sources, err = rules.ReadDir(slices.DeleteFunc(slices.Clone(paths), rules.IsTestFile)...)
	}
	if err != nil {
		return nil, err
	}
	if f.Placeholders != "" {
		data, err := os.ReadFile(f.Placeholders)
		if err != nil {
			return nil, err
		}
		if err := yaml.Unmarshal(data, &out.opts.Placeholders); err != nil {
			return nil, fmt.Errorf("%s: want a mapping of names to lists of values: %w", f.Placeholders, err)
		}
	}
	out.set, out.diags = rules.Compile(out.sources, out.opts)
	return out, nil
}

// whole returns an error if a rule is wrong: a result without it would mislead.
func (f *ruleFiles) whole(paths []string) error {
	if err := f.diags.Err(); err != nil {
		return &exitError{code: exitConfig, err: err, try: "tocsin rules lint " + strings.Join(paths, " ")}
	}
	return nil
}

// find returns the rule or correlation with that ID, name or title: one of both.
func (f *ruleFiles) find(name string) (*rules.Rule, *rules.Correlation, error) {
	is := func(m *rules.Meta) bool { return m.ID == name || m.Name == name || m.Title == name }
	for _, r := range f.set.Rules {
		if is(&r.Meta) {
			return r, nil, nil
		}
	}
	for _, c := range f.set.Correlations {
		if is(&c.Meta) {
			return nil, c, nil
		}
	}
	return nil, nil, &exitError{code: exitUsage, err: fmt.Errorf("there is no rule %q", name), try: "tocsin rules list"}
}

// metaName is what rules are called on the command line.
func metaName(m *rules.Meta) string {
	if m.Name != "" {
		return m.Name
	}
	return m.ID
}

type rulesLintCmd struct {
	ruleFlags
	Paths  []string `arg:"" optional:"" name:"path" help:"Rule files and directories; the builtin rules when left out."`
	Format string   `enum:"text,json,github" default:"text" help:"text, json (one object per line) or github (workflow annotations)."`
	Strict bool     `help:"Warnings count as errors."`
}

// Help returns what --help prints below the usage.
func (rulesLintCmd) Help() string {
	return `Reports everything that is wrong, with file, line and column: in rules, in the tests beside them, and rules for logs that
Tocsin never takes in, which would be idle. Exit codes: 0 nothing wrong, 1 a file cannot be read, 2 wrong command line,
78 errors found (with --strict, or warnings).

Examples:

    tocsin rules lint ./rules
    tocsin rules lint --format github --strict ./rules
    tocsin rules lint --placeholders values.yml ./rules`
}

// Run runs the command.
func (c *rulesLintCmd) Run(std streams) error {
	files, err := c.loadAny(c.Paths)
	if err != nil {
		return err
	}
	diags := append(slices.Clone(files.diags), idleRules(files.set)...)
	tests, err := testSources(c.Paths)
	if err != nil {
		return err
	}
	for _, src := range tests {
		_, found := rules.ParseTestFile(src)
		diags = append(diags, found...)
	}
	sortByPlace(diags, append(slices.Clone(files.sources), tests...))
	if len(files.sources)+len(tests) == 0 {
		return fmt.Errorf("no rule files (.yml, .yaml) in %s", strings.Join(c.Paths, ", "))
	}
	var found []finding
	problems := 0
	for _, d := range diags {
		found = append(found, ruleFinding(d))
		if d.Severity == rules.SeverityError || c.Strict {
			problems++
		}
	}
	if err := printFindings(std.out, c.Format, found); err != nil {
		return err
	}
	if problems > 0 {
		return &exitError{code: exitConfig, err: fmt.Errorf("%d problems in %d rule files and %d test files", problems, len(files.sources), len(tests))}
	}
	if c.Format == "text" {
		_, err = fmt.Fprintf(std.out, "ok: %d rules, %d correlations, %d test files\n", len(files.set.Rules), len(files.set.Correlations), len(tests))
	}
	return err
}

// sortByPlace sorts by file, in the order of the sources, and line.
func sortByPlace(diags rules.Diagnostics, sources []rules.Source) {
	order := make(map[string]int, len(sources))
	for i, src := range sources {
		order[src.Name] = i
	}
	slices.SortStableFunc(diags, func(a, b rules.Diagnostic) int {
		return cmp.Or(cmp.Compare(order[a.File], order[b.File]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// idleRules warns of rules that no event will ever reach.
func idleRules(set *rules.Set) rules.Diagnostics {
	var out rules.Diagnostics
	for _, r := range set.Rules {
		if why, hint := r.LogSource.Idle(); why != "" {
			out = append(out, rules.Diagnostic{
				File: r.File, Line: r.Line, Column: 1, Severity: rules.SeverityWarning, Rule: r.Title,
				Message: "the rule is idle: " + why, Hint: hint,
			})
		}
	}
	return out
}

// testSources returns the test files at paths, or the builtin ones. A path that
// is a rule file stands for the tests beside it, if there are any.
func testSources(paths []string) ([]rules.Source, error) {
	if len(paths) == 0 {
		return packs.TestSources()
	}
	var wanted []string
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		if info.IsDir() || rules.IsTestFile(p) {
			wanted = append(wanted, p)
			continue
		}
		for _, beside := range testFilesOf(p) {
			if _, err := os.Stat(beside); err == nil {
				wanted = append(wanted, beside)
			} else if !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	return rules.ReadTestDir(wanted...)
}

// testFilesOf are the names that the tests of a rule file may have.
func testFilesOf(rule string) []string {
	i := strings.LastIndexByte(rule, '.')
	if i < 0 {
		return nil
	}
	return []string{rule[:i] + ".test" + rule[i:], rule[:i] + "_test" + rule[i:]}
}
