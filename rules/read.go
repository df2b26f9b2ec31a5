package rules

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ReadDir reads the rule files (.yml, .yaml) at paths, directories recursively
// and in sorted order. Test files (.test.yml, _test.yml) are left out of
// directories.
func ReadDir(paths ...string) ([]Source, error) { return readFiles(paths, isRuleFile) }

func readFiles(paths []string, wanted func(name string) bool) ([]Source, error) {
	var names []string
	for _, p := range paths {
		err := filepath.WalkDir(p, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir():
				return nil
			case name == p || wanted(name):
				names = append(names, name)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	sources := make([]Source, 0, len(names))
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		sources = append(sources, Source{Name: name, Data: data})
	}
	return sources, nil
}

func isRuleFile(name string) bool {
	_, ok := yamlStem(name)
	return ok && !IsTestFile(name)
}

// yamlStem cuts off the ending of a YAML file's name.
func yamlStem(name string) (string, bool) {
	if stem, ok := strings.CutSuffix(name, ".yml"); ok {
		return stem, true
	}
	return strings.CutSuffix(name, ".yaml")
}

// ReadTestDir reads the test files at paths, directories recursively and in
// sorted order.
func ReadTestDir(paths ...string) ([]Source, error) { return readFiles(paths, IsTestFile) }
