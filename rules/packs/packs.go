// Package packs holds the rules that come with the program.
package packs

import (
	"embed"
	"io/fs"

	"github.com/tocsin-io/tocsin/rules"
)

//go:embed */*.yml
var files embed.FS

// Sources returns the rule files, in sorted order, named "builtin/" and their
// path.
func Sources() ([]rules.Source, error) {
	return read(func(name string) bool { return !rules.IsTestFile(name) })
}

// TestSources returns the test files of the packs, named like Sources.
func TestSources() ([]rules.Source, error) { return read(rules.IsTestFile) }

func read(wanted func(name string) bool) ([]rules.Source, error) {
	names, err := fs.Glob(files, "*/*.yml")
	if err != nil {
		return nil, err
	}
	sources := make([]rules.Source, 0, len(names))
	for _, name := range names {
		if !wanted(name) {
			continue
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		sources = append(sources, rules.Source{Name: "builtin/" + name, Data: data})
	}
	return sources, nil
}
