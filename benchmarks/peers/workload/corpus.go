// Package workload has the rules and events with which matching is measured, by
// the benchmarks and side by side with other programs.
package workload

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/rules"
)

// CorpusVariable is the environment variable that names the archive with the
// SigmaHQ rules (tar.gz), which are not part of the repository.
const CorpusVariable = "SIGMA_CORPUS"

// Corpus reads the SigmaHQ rules, sorted by path, with values for their
// placeholders. root is the repository's. Without an archive the error is
// os.ErrNotExist.
func Corpus(root string) ([]rules.Source, rules.Options, error) {
	opts := rules.Options{Placeholders: map[string][]string{}}
	archive := os.Getenv(CorpusVariable)
	if archive == "" {
		archive = filepath.Join(root, "..", "shared", "data", "sigmahq-rules-8eaafff.tar.gz")
	}
	sources, err := readArchive(archive)
	if err != nil {
		return nil, opts, fmt.Errorf("the SigmaHQ rules (%s names the archive): %w", CorpusVariable, err)
	}
	for i := range sources {
		for _, m := range placeholder.FindAllSubmatch(sources[i].Data, -1) {
			opts.Placeholders[string(m[1])] = []string{PlaceholderValue}
		}
	}
	slices.SortFunc(sources, func(a, b rules.Source) int { return strings.Compare(a.Name, b.Name) })
	return sources, opts, nil
}

// PlaceholderValue is what every placeholder stands for.
const PlaceholderValue = "placeholder-value"

var placeholder = regexp.MustCompile(`%([\w.-]+)%`)

func readArchive(name string) ([]rules.Source, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	var sources []rules.Source
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return sources, nil
		}
		if err != nil {
			return nil, err
		}
		if !strings.HasSuffix(h.Name, ".yml") {
			continue
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			return nil, err
		}
		sources = append(sources, rules.Source{Name: h.Name, Data: data})
	}
}
