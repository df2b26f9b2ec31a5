// Command bench measures Tocsin against its bars and writes down what it found:
//
//	go run ./benchmarks/bench [--quick] [--only micro|latency|sustained]
//
// It starts `tocsin run` with the embedded engines as a process of its own and
// talks to it as the world does: Firehose requests in, webhooks out, metrics and
// profiles from the admin listener. A bar that is missed is a result; only what
// breaks makes it fail.
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
	"slices"
	"strings"
	"syscall"
	"time"
)

// bench is what the phases share.
type bench struct {
	quick   bool
	root    string // of the module
	tocsin  string // the program
	dir     string // temporary; removed at the end
	devices int
	// profiles is where profiles of the program go, "" for nowhere.
	profiles string
	log      func(format string, args ...any)
}

// phase is one part of the measurement.
type phase struct {
	name string
	run  func(*bench, context.Context) (*section, error)
}

var phases = []phase{
	{"micro", (*bench).micro},
	{"latency", (*bench).latency},
	{"sustained", (*bench).sustained},
}

func main() {
	quick := flag.Bool("quick", false, "short phases: shows that everything works; the figures are rough")
	only := flag.String("only", "", "run one part: "+strings.Join(phaseNames(), ", "))
	devices := flag.Int("devices", 100_000, "devices in the simulated fleet")
	out := flag.String("out", "", "folder for the results (default benchmarks/results)")
	program := flag.String("tocsin", "", "measure this program instead of building one")
	profiles := flag.String("profiles", "", "keep CPU and heap profiles of tocsin in this folder")
	flag.Parse()
	if *only != "" && !slices.Contains(phaseNames(), *only) || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	b := &bench{quick: *quick, tocsin: *program, devices: *devices, profiles: *profiles, log: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
	}}
	if err := b.main(ctx, *only, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		cancel()
		os.Exit(1)
	}
}

func phaseNames() []string {
	names := make([]string, len(phases))
	for i, p := range phases {
		names[i] = p.name
	}
	return names
}

// main runs the phases. What was measured before something broke is written
// down all the same.
func (b *bench) main(ctx context.Context, only, out string) (err error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("find the module; run this inside the repository: %w", err)
	}
	b.root = strings.TrimSpace(string(root))
	if out == "" {
		out = filepath.Join(b.root, "benchmarks", "results")
	}
	if b.dir, err = os.MkdirTemp("", "tocsin-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	r := &report{Started: time.Now().UTC().Truncate(time.Second), Quick: b.quick, Devices: b.devices, Machine: thisMachine(), Commit: commit(b.root)}
	if b.tocsin == "" {
		b.tocsin = filepath.Join(b.dir, "tocsin")
		b.log("building tocsin")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.tocsin, "./cmd/tocsin")
		build.Dir, build.Env = b.root, append(os.Environ(), "CGO_ENABLED=0")
		if output, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build tocsin: %w\n%s", err, output)
		}
	}
	for _, p := range phases {
		if only != "" && only != p.name {
			continue
		}
		s, perr := p.run(b, ctx)
		if perr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", p.name, perr))
		}
		if s != nil {
			r.Sections = append(r.Sections, s)
		}
		if ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
	}
	r.Took = time.Since(r.Started).Round(time.Second).String()
	r.write(os.Stdout)
	if len(r.Sections) == 0 {
		return err
	}
	path, serr := r.save(out)
	if serr == nil {
		b.log("results in %s.{json,md}", path)
	}
	return errors.Join(err, serr)
}
