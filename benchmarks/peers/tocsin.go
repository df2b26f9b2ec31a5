package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tocsin-io/tocsin/internal/jsonscan"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// matchStdin is tocsin's matcher as an engine among others.
func matchStdin(dir string, routed bool) error {
	var sources []rules.Source
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".yml") {
			return err
		}
		data, err := os.ReadFile(path)
		sources = append(sources, rules.Source{Name: path, Data: data})
		return err
	})
	if err != nil {
		return err
	}
	set, diags := rules.Compile(sources, rules.Options{})
	if err := diags.Err(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "Loaded %d rules\n", len(set.Rules))
	m := set.NewMatcher()
	out := bufio.NewWriterSize(os.Stdout, 1<<16)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<16), 1<<20)
	names := map[string]string{}
	for lines.Scan() {
		event := schemas.Event{Message: lines.Bytes()}
		ls := rules.AnyLogSource
		if routed {
			ls = logSourceOf(event.Message, names)
		}
		for _, i := range m.MatchAs(ls, &event) {
			fmt.Fprintf(out, "{\"rule_id\":%q}\n", set.Rules[i].ID)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return out.Flush()
}

// logSourceOf reads the log source that encodeEvents put first. names keeps the
// few strings that there are.
func logSourceOf(message []byte, names map[string]string) rules.LogSource {
	var ls rules.LogSource
	var s jsonscan.Scanner
	s.Reset(message)
	s.Enter()
	for _, part := range []*string{&ls.Product, &ls.Category, &ls.Service} {
		if _, ok := s.Member(); !ok {
			break
		}
		text := s.Value().Raw
		name, ok := names[string(text)]
		if !ok {
			name = string(text)
			names[name] = name
		}
		*part = name
	}
	return ls
}
