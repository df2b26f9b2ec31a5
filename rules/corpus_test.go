package rules

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	corpusName  = "sigmahq-rules-8eaafff.tar.gz"
	corpusRules = 3780
)

// corpus returns the SigmaHQ rules. They are not part of the repository; a test
// that needs them is left out, saying so, where they cannot be found.
func corpus(tb testing.TB) []Source {
	tb.Helper()
	archive := os.Getenv("SIGMA_CORPUS")
	if archive == "" {
		archive = filepath.Join("..", "..", "shared", "data", corpusName)
	}
	f, err := os.Open(archive)
	if err != nil {
		if os.Getenv("SIGMA_CORPUS") != "" {
			tb.Fatal(err)
		}
		tb.Skipf("left out: needs the SigmaHQ rules; set SIGMA_CORPUS to %s", corpusName)
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	var sources []Source
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return sources
		}
		if err != nil {
			tb.Fatal(err)
		}
		if strings.HasSuffix(h.Name, ".yml") {
			data, err := io.ReadAll(tr)
			if err != nil {
				tb.Fatal(err)
			}
			sources = append(sources, Source{Name: h.Name, Data: data})
		}
	}
}

// corpusPlaceholders gives every placeholder of the corpus a value.
func corpusPlaceholders(sources []Source) map[string][]string {
	values := map[string][]string{}
	for _, src := range sources {
		for _, m := range placeholder.FindAllSubmatch(src.Data, -1) {
			values[string(m[1])] = []string{"placeholder-value"}
		}
	}
	return values
}

func TestCorpusLoads(t *testing.T) {
	sources := corpus(t)
	start := time.Now()
	set, diags := Compile(sources, Options{Placeholders: corpusPlaceholders(sources)})
	t.Logf("%d rules in %v; %d fields, %d predicates", len(set.Rules), time.Since(start), len(set.fields), len(set.program.preds))
	for i, d := range diags {
		if i < 20 {
			t.Log(d)
		}
	}
	if n := diags.Errors(); n > 0 {
		t.Errorf("%d errors", n)
	}
	if len(set.Rules) != corpusRules {
		t.Errorf("%d rules, want %d", len(set.Rules), corpusRules)
	}
}
