// Package packs holds the rules that come with the program.
package packs

import (
	"embed"
	"io/fs"
	"strings"

	"github.com/tocsin-io/tocsin/rules"
)

//go:embed */*.yml
var files embed.FS

// Sources returns the rule files, in sorted order, named "builtin/" and their
// path. Test files are left out.
func Sources() ([]rules.Source, error) {
	names, err := fs.Glob(files, "*/*.yml")
	if err != nil {
		return nil, err
	}
	sources := make([]rules.Source, 0, len(names))
	for _, name := range names {
		if strings.HasSuffix(name, ".test.yml") {
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
