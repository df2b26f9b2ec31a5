package rules

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
	// Placeholders are the values of %name% in items with the expand modifier.
	// A rule whose placeholder has none is an error.
	Placeholders map[string][]string
	// Limits bound what hostile rules can cost; zero fields take the defaults.
	Limits Limits
}

// Compile compiles all rules of the sources together. It never panics: a rule
// that is wrong is left out, with what refers to it, and reported.
func Compile(sources []Source, opts Options) (*Set, Diagnostics) {
	return &Set{program: &program{}}, nil
}
