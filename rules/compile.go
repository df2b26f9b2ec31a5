package rules

import (
	"cmp"
	"slices"
)

// Source is one rule file; it may hold several YAML documents.
type Source struct {
	Name string // shown in diagnostics, usually the path
	Data []byte
}

// Options change how rules are compiled. The zero value is what a pipeline
// wants.
type Options struct {
	// Strict makes Compile return an empty Set when any error was found.
	Strict bool
	// Placeholders are the values of %name% in items with the expand modifier;
	// they are Sigma strings. A rule whose placeholder has none is an error.
	Placeholders map[string][]string
	// Limits bound what hostile rules can cost; zero fields take the defaults.
	Limits Limits
}

// Compile compiles all rules of the sources together. It never panics: a rule
// that is wrong is left out, with what refers to it, and reported.
func Compile(sources []Source, opts Options) (*Set, Diagnostics) {
	opts.Limits = opts.Limits.withDefaults()
	var diags Diagnostics
	p := &parser{opts: opts, regexes: map[string]*regex{}}
	for _, src := range sources {
		before := len(diags)
		for _, d := range readDocuments(src, &opts.Limits, &diags) {
			p.document(d)
		}
		if most := before + opts.Limits.Diagnostics; len(diags) > most {
			diags = append(diags[:most:most], Diagnostic{File: src.Name, Message: "too many errors; the rest is not shown"})
		}
	}
	index := newRuleIndex(p)
	applyFilters(p.filters, index, p.rules)
	order := resolver{index: index}
	for _, c := range p.correlations {
		if c.state == unvisited {
			order.visit(c)
		}
	}
	set := link(p, order.ordered)
	sortDiagnostics(diags, sources)
	if opts.Strict && diags.Errors() > 0 {
		set = link(&parser{}, nil)
	}
	return set, diags
}

func sortDiagnostics(diags Diagnostics, sources []Source) {
	order := make(map[string]int, len(sources))
	for i, src := range sources {
		if _, ok := order[src.Name]; !ok {
			order[src.Name] = i
		}
	}
	slices.SortStableFunc(diags, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(order[a.File], order[b.File]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
