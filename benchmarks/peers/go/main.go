// Command peers matches events by Sigma libraries in Go, for the comparison that
// benchmarks/peers makes. It is a module of its own so that the program does not
// depend on them.
//
//	peers sigma-go|go-sigma-rule-engine RULES [route] < events > matches
//
// Events are JSON lines. With route they name their log source as ls_product,
// ls_category and ls_service, and only rules for it are evaluated; the libraries
// leave that to their users.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// engine is a library with its rules.
type engine interface {
	// match calls found with the ID of each rule that matches.
	match(event map[string]any, ls logSource, found func(id string))
}

type logSource struct{ product, category, service string }

func (ls logSource) selects(event logSource) bool {
	one := func(rule, event string) bool { return rule == "" || rule == event }
	return one(ls.product, event.product) && one(ls.category, event.category) && one(ls.service, event.service)
}

// bySource remembers the rules of each log source.
type bySource[R any] struct {
	rules   []R
	sources []logSource // of the rules
	routed  map[logSource][]R
	route   bool
}

func (b *bySource[R]) add(r R, ls logSource) {
	b.rules, b.sources = append(b.rules, r), append(b.sources, ls)
}

func (b *bySource[R]) of(event logSource) []R {
	if !b.route {
		return b.rules
	}
	out, ok := b.routed[event]
	if !ok {
		for i, ls := range b.sources {
			if ls.selects(event) {
				out = append(out, b.rules[i])
			}
		}
		if b.routed == nil {
			b.routed = map[logSource][]R{}
		}
		b.routed[event] = out
	}
	return out
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: peers sigma-go|go-sigma-rule-engine RULES [route]")
	}
	var files []string
	err := filepath.WalkDir(args[1], func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".yml") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	route := len(args) > 2 && args[2] == "route"
	var e engine
	var loaded int
	switch args[0] {
	case "sigma-go":
		e, loaded, err = newSigmaGo(files, route)
	case "go-sigma-rule-engine":
		e, loaded, err = newRuleEngine(files, route)
	default:
		return fmt.Errorf("no engine %q", args[0])
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "Loaded %d rules\n", loaded)
	out := bufio.NewWriter(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event map[string]any
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return err
		}
		text := func(key string) string { s, _ := event[key].(string); return s }
		e.match(event, logSource{text("ls_product"), text("ls_category"), text("ls_service")}, func(id string) {
			fmt.Fprintf(out, "{\"rule_id\":%q}\n", id)
		})
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return out.Flush()
}
