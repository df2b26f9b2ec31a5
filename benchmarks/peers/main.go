// Command peers matches the same events by the same SigmaHQ rules with tocsin and
// with other Sigma engines, one after the other on one core, and compares rates
// and matches. It writes what it found to benchmarks/results.
//
//	make bench-peers
//	go run ./benchmarks/peers -rsigma PROGRAM -correlations
//
// All read JSON lines from a pipe and write a line for each match. What counts is
// the CPU time of their processes, less that of the same process without events
// (loading the rules). The number of events is chosen so that each engine is
// measured for about as long. Correlations are compared with rsigma only, by the
// groups that are alerted on. (The third Go library that is known,
// github.com/runreveal/sigmalite, has no version that the module proxy serves.)
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/tocsin-io/tocsin/benchmarks/peers/workload"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/rules/packs"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "tocsin" {
		if err := matchStdin(os.Args[2], len(os.Args) > 3); err != nil {
			fmt.Fprintln(os.Stderr, "peers:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 2 && os.Args[1] == "tocsin-correlations" {
		if err := correlateStdin(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "peers:", err)
			os.Exit(1)
		}
		return
	}
	root := flag.String("root", ".", "the repository")
	rsigma := flag.String("rsigma", "", "rsigma `program`; left out if empty")
	gopeers := flag.String("go", "", "`program` of benchmarks/peers/go; left out if empty")
	only := flag.Bool("correlations", false, "correlations only: they need no SigmaHQ rules, and nothing is kept")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *root, *rsigma, *gopeers, *only); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// distinct is the number of events before they repeat.
const distinct = 20_000

// mode is a way to choose rules for an event.
type mode struct {
	name   string
	routed bool
}

var modes = []mode{
	{"rules of the event's log source", true},
	{"every rule for every event", false},
}

func run(ctx context.Context, root, rsigma, gopeers string, only bool) error {
	dir, err := os.MkdirTemp("", "tocsin-peers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	own, err := os.Executable()
	if err != nil {
		return err
	}
	correlated, err := runCorrelations(ctx, filepath.Join(dir, "correlations"), own, rsigma)
	if err != nil {
		return err
	}
	if only {
		writeCorrelations(os.Stdout, correlated)
		return nil
	}
	dir = filepath.Join(dir, "rules")
	loaded, err := writeRules(root, dir)
	if err != nil {
		return err
	}
	r := &report{Started: time.Now().UTC(), Commit: commit(root), Rules: loaded, Correlations: correlated}
	r.describeMachine()
	events := encodeEvents(workload.Mixed(distinct))
	for _, mode := range modes {
		ours := &engine{name: "tocsin", args: []string{own, "tocsin", dir}, events: 40 * distinct}
		if mode.routed {
			ours.args = append(ours.args, "route")
		}
		engines := []*engine{ours}
		if rsigma != "" {
			e := &engine{name: "rsigma", args: []string{rsigma, "engine", "eval", "-r", dir, "--input-format", "json"}, events: 3 * distinct}
			if mode.routed {
				e.args = append(e.args, "--logsource-routing", "--logsource-field-map", "product=ls_product,category=ls_category,service=ls_service")
			}
			engines = append(engines, e)
		}
		for _, library := range []string{"sigma-go", "go-sigma-rule-engine"} {
			if gopeers != "" && mode.routed {
				engines = append(engines, &engine{name: library, args: []string{gopeers, library, dir, "route"}, events: 500})
			}
		}
		for _, e := range engines {
			fmt.Fprintf(os.Stderr, "%s: %s, %d events\n", mode.name, e.name, e.events)
			row, err := e.measure(ctx, events, ours)
			if err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
			row.Mode = mode.name
			r.Rows = append(r.Rows, row)
		}
	}
	if r.OwnPacks, err = ownPacks(); err != nil {
		return err
	}
	r.conclude()
	r.write(os.Stdout)
	path, err := r.save(filepath.Join(root, "benchmarks", "results"))
	if err != nil {
		return err
	}
	fmt.Println("\nkept as " + path + ".md and .json")
	return nil
}

// writeRules unpacks the SigmaHQ rules, with values for their placeholders, since
// not every engine takes these.
func writeRules(root, dir string) (int, error) {
	sources, opts, err := workload.Corpus(root)
	if err != nil {
		return 0, err
	}
	var values []string
	for name, v := range opts.Placeholders {
		values = append(values, "%"+name+"%", v[0])
	}
	replace := strings.NewReplacer(values...)
	for _, src := range sources {
		path := filepath.Join(dir, filepath.FromSlash(src.Name))
		if !filepath.IsLocal(src.Name) {
			return 0, fmt.Errorf("%s: not a path in the archive", src.Name)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return 0, err
		}
		if err := os.WriteFile(path, []byte(replace.Replace(string(src.Data))), 0o644); err != nil {
			return 0, err
		}
	}
	return len(sources), nil
}

// ownPacks returns events per second of CPU time for the built-in packs on IoT
// logs. They read the envelope, which other engines do not have.
func ownPacks() (float64, error) {
	sources, err := packs.Sources()
	if err != nil {
		return 0, err
	}
	set, diags := rules.Compile(sources, rules.Options{})
	if err := diags.Err(); err != nil {
		return 0, err
	}
	runtime.GOMAXPROCS(1)
	events := workload.IoT(distinct)
	m := set.NewMatcher()
	const rounds = 100
	var start time.Duration
	for round := range rounds + 1 {
		if round == 1 {
			start = cpuTime()
		}
		for i := range events {
			m.Match(&events[i])
		}
	}
	return float64(rounds*len(events)) / (cpuTime() - start).Seconds(), nil
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // there is no such error for one's own process
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func commit(root string) string {
	id, err := exec.Command("git", "-C", root, "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(id))
}

var errNoMatches = errors.New("no event matched anything")
