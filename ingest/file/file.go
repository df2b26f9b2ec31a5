// Package file is the source for files: exports, S3 objects that were copied,
// logs to be replayed, standard input. It reads files, folders (all below) and
// patterns, gzip or not, in the order of their paths, and ends when they end.
//
// Lines are delivered in chunks of whole lines, in order: the one lane "file"
// is an ordered one. The times of the events should ascend from file to file,
// as they do when AWS names the objects; an event that is far older than those
// before it is a late one, here as everywhere.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/ingest"
)

// The defaults of Options.
const (
	DefaultChunkBytes  = 1 << 20
	DefaultMaxDocument = 64 << 20

	// Stdin is the path that stands for standard input.
	Stdin = "-"

	progressInterval = 100 * time.Millisecond
	retryFirst       = 100 * time.Millisecond
	retryLimit       = 5 * time.Second
)

// Options of a Source. Paths is required, the rest has defaults.
type Options struct {
	// Paths are files, folders, patterns as of path/filepath.Match, or Stdin.
	Paths []string
	// Stdin is read for the path "-". Default os.Stdin.
	Stdin io.Reader
	// ChunkBytes is the size up to which lines are delivered together.
	ChunkBytes int
	// MaxDocument bounds a line, or a JSON document over many lines. A longer one
	// becomes a dead letter.
	MaxDocument int
	// LinesPerSecond and BytesPerSecond (after decompression) slow the reading
	// down; 0: as fast as it goes.
	LinesPerSecond, BytesPerSecond int
	// Progress, when it is set, is called now and then and at the end with the
	// bytes read of all files, before decompression, and their total size; total
	// is -1 when standard input is among them. It must not block.
	Progress func(done, total int64)

	Logger     *zap.Logger           // nil: none
	Registerer prometheus.Registerer // nil: metrics are not exposed
}

// Source reads files; see the package comment.
type Source struct {
	opts    Options
	log     *zap.Logger
	retries prometheus.Counter
	failed  prometheus.Counter
}

var _ ingest.Source = (*Source)(nil)

// New checks the options and returns a source. It touches no file.
func New(opts Options) (*Source, error) {
	if len(opts.Paths) == 0 {
		return nil, errors.New("file source: no path is given; use - for standard input")
	}
	if opts.LinesPerSecond < 0 || opts.BytesPerSecond < 0 {
		return nil, errors.New("file source: a rate is negative")
	}
	if opts.Stdin == nil {
		opts.Stdin = os.Stdin
	}
	if opts.ChunkBytes <= 0 {
		opts.ChunkBytes = DefaultChunkBytes
	}
	if opts.MaxDocument <= 0 {
		opts.MaxDocument = DefaultMaxDocument
	}
	opts.MaxDocument = max(opts.MaxDocument, opts.ChunkBytes)
	if opts.Logger == nil {
		opts.Logger = zap.NewNop()
	}
	s := &Source{
		opts: opts,
		log:  opts.Logger,
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tocsin_file_retries_total",
			Help: "Chunks delivered again because they could not be published.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tocsin_file_failed_files_total",
			Help: "Files that could not be read, or not to their end.",
		}),
	}
	if opts.Registerer != nil {
		opts.Registerer.MustRegister(s.retries, s.failed)
	}
	return s, nil
}

// input is one file to read.
type input struct {
	path string
	size int64 // -1: not known
}

// find lists the files, each once, by path. Folders and patterns may be empty; a
// path that does not exist is an error, because it is a typing error as a rule.
func find(paths []string) ([]input, error) {
	var found []input
	var errs []error
	add := func(path string, entry fs.DirEntry) error {
		info, err := entry.Info()
		if err == nil && info.Mode().Type() == fs.ModeSymlink {
			info, err = os.Stat(path)
		}
		if err != nil {
			return err
		}
		// A pipe has no size, and may be an argument like <(zcat x).
		switch mode := info.Mode(); {
		case mode.IsRegular():
			found = append(found, input{path, info.Size()})
		case mode&(fs.ModeNamedPipe|fs.ModeCharDevice) != 0:
			found = append(found, input{path, -1})
		}
		return nil
	}
	for _, p := range paths {
		if p == Stdin {
			found = append(found, input{Stdin, -1})
			continue
		}
		roots := []string{p}
		if _, err := os.Lstat(p); err != nil && strings.ContainsAny(p, "*?[") {
			if roots, err = filepath.Glob(p); err != nil {
				errs = append(errs, fmt.Errorf("pattern %s: %w", p, err))
				continue
			}
		}
		for _, root := range roots {
			info, err := os.Stat(root)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if !info.IsDir() {
				if err := add(root, fs.FileInfoToDirEntry(info)); err != nil {
					errs = append(errs, err)
				}
				continue
			}
			// The slash makes a link to a folder be followed, at the top only: below
			// it links to folders could go in circles.
			errs = append(errs, filepath.WalkDir(root+string(filepath.Separator), func(path string, entry fs.DirEntry, err error) error {
				if err != nil || entry.IsDir() {
					return err
				}
				return add(path, entry)
			}))
		}
	}
	slices.SortFunc(found, func(a, b input) int { return strings.Compare(a.path, b.path) })
	found = slices.CompactFunc(found, func(a, b input) bool { return a.path == b.path })
	return found, errors.Join(errs...)
}

// Run delivers the files and returns when all of it is acknowledged. A path that
// does not exist fails it at once; files that cannot be read are left out, and
// are the error at the end.
func (s *Source) Run(ctx context.Context, hand func(context.Context, *ingest.Delivery) error) error {
	inputs, err := find(s.opts.Paths)
	if err != nil {
		return fmt.Errorf("file source: %w", err)
	}
	r := &reading{source: s, hand: hand, progress: newProgress(s.opts.Progress, inputs)}
	r.pace = pace{lines: float64(s.opts.LinesPerSecond), bytes: float64(s.opts.BytesPerSecond)}
	var errs []error
	for _, in := range inputs {
		if err := r.file(ctx, in); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			var stop *handError
			if errors.As(err, &stop) {
				return fmt.Errorf("file source: %s: %w", in.path, stop.err)
			}
			s.failed.Inc()
			s.log.Error("file could not be read to its end", zap.String("path", in.path), zap.Error(err))
			errs = append(errs, fmt.Errorf("file source: %w", err))
		}
	}
	if err := r.finish(ctx); err != nil {
		return err
	}
	r.progress.report(true)
	return errors.Join(errs...)
}
