package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// position is where a path is in the document.
type position struct{ line, column int }

// reader walks a document beside the type it is for. The YAML library stops
// in a mapping at its first duplicate key and names Go types; walking first
// finds every fault and says it in the document's own words. What is faulty is
// taken out of the tree, so that the rest still decodes and is validated.
type reader struct {
	file      string
	env       expander
	positions map[string]position
	faulty    map[string]bool // paths whose value was not taken over
	problems  []Problem
}

func (r *reader) bad(n *yaml.Node, path, format string, args ...any) {
	r.problems = append(r.problems, Problem{File: r.file, Line: n.Line, Column: n.Column, Path: path, Message: fmt.Sprintf(format, args...)})
}

// walk checks n against t and reports whether n may be decoded.
func (r *reader) walk(n *yaml.Node, t reflect.Type, path string) bool {
	r.positions[path] = position{n.Line, n.Column}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		r.bad(n, path, "anchors and aliases are not supported; write the value out")
		return false
	}
	if n.Kind == yaml.ScalarNode {
		return r.scalar(n, t, path)
	}
	switch t.Kind() {
	case reflect.Struct:
		return r.mapping(n, path, t, nil)
	case reflect.Map:
		return r.mapping(n, path, nil, t.Elem())
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			r.bad(n, path, "want a list, got %s", describe(n))
			return false
		}
		for i, item := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			if !r.walk(item, t.Elem(), at) {
				// It must keep its place: the others are validated by their index.
				r.faulty[at] = true
				*item = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: item.Line, Column: item.Column}
			}
		}
		return true
	}
	r.bad(n, path, "want %s, got %s", scalarName(t), describe(n))
	return false
}

// mapping checks the keys of n against the fields of a struct, or takes any
// key when elem is the element of a map.
func (r *reader) mapping(n *yaml.Node, path string, t, elem reflect.Type) bool {
	if n.Kind != yaml.MappingNode {
		r.bad(n, path, "want a mapping, got %s", describe(n))
		return false
	}
	var fields map[string]reflect.Type
	if t != nil {
		fields = yamlFields(t)
	}
	seen := make(map[string]int, len(n.Content)/2)
	kept := n.Content[:0]
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
			r.bad(key, path, "want a plain key, got %s", describe(key))
			continue
		}
		at := join(path, key.Value)
		if line, ok := seen[key.Value]; ok {
			r.bad(key, at, "already set in line %d", line)
			continue
		}
		seen[key.Value] = key.Line
		of := elem
		if t != nil {
			var known bool
			if of, known = fields[key.Value]; !known {
				r.bad(key, path, "unknown key %q%s", key.Value, suggest(key.Value, fields))
				continue
			}
		}
		if r.walk(value, of, at) {
			kept = append(kept, key, value)
		} else {
			r.faulty[at] = true
		}
	}
	n.Content = kept
	return true
}

func (r *reader) scalar(n *yaml.Node, t reflect.Type, path string) bool {
	missing := len(r.env.missing)
	value, expanded, err := r.env.expand(n.Value)
	if err != nil {
		r.bad(n, path, "%s", err)
		return false
	}
	if expanded {
		n.Value = value
		if t.Kind() == reflect.String {
			n.Tag = "!!str" // a password of "null" or "1e3" stays what it is
		} else {
			n.Tag, n.Style = "", 0 // resolved again: "8" is a number now, quoted or not
		}
		if len(r.env.missing) > missing {
			return false // reported once for all, by load
		}
		if items, ok := listFromEnv(n, t); ok {
			*n = items
			return true
		}
	}
	if n.ShortTag() == "!!null" && !expanded {
		return true // "key:" without a value keeps the default
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		r.bad(n, path, "want a mapping, got %s", describe(n))
		return false
	case reflect.Slice:
		r.bad(n, path, "want a list, got %s", describe(n))
		return false
	}
	if n.Load(reflect.New(t).Interface()) != nil {
		r.bad(n, path, "want %s, got %s", scalarName(t), describe(n))
		return false
	}
	return true
}

// listFromEnv turns a variable into the list that is wanted in its place:
// `brokers: ${BROKERS}` with BROKERS=a:9092,b:9092.
func listFromEnv(n *yaml.Node, t reflect.Type) (yaml.Node, bool) {
	if t.Kind() != reflect.Slice || t.Elem().Kind() != reflect.String {
		return yaml.Node{}, false
	}
	list := yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: n.Line, Column: n.Column}
	for _, item := range splitList(n.Value) {
		list.Content = append(list.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: item, Line: n.Line, Column: n.Column})
	}
	return list, true
}

func yamlFields(t reflect.Type) map[string]reflect.Type {
	fields := make(map[string]reflect.Type, t.NumField())
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			fields[name] = f.Type
		}
	}
	return fields
}

func scalarName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return "a duration like 30s, 10m or 7d"
	case reflect.TypeFor[Size]():
		return "a size like 512KiB or 64MiB"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	}
	return "a text"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// suggest names the known key that is nearest to an unknown one, or all of
// them when none is near.
func suggest(key string, fields map[string]reflect.Type) string {
	names := slices.Sorted(maps.Keys(fields))
	best, distance := "", 3
	for _, name := range names {
		if d := editDistance(key, name, distance); d < distance {
			best, distance = name, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return "; known are " + strings.Join(names, ", ")
}

// editDistance is Levenshtein's distance, or limit when it is at least that.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return min(row[len(b)], limit)
}
