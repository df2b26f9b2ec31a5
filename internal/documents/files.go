package documents

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Files are a file, a directory, or a pattern of filepath.Match. Of a directory,
// and of those in it, the files whose name ends in one of Suffixes are read;
// hidden ones are not.
type Files struct {
	Path     string
	Suffixes []string
	Limit    int64 // bytes of a file; 0: DefaultLimit
}

func (f *Files) String() string { return f.Path }

// List yields the files, in the order of their names.
func (f *Files) List(ctx context.Context) iter.Seq2[Ref, error] {
	return func(yield func(Ref, error) bool) {
		paths, err := f.paths(ctx)
		if err != nil {
			yield(Ref{}, err)
			return
		}
		for _, path := range paths {
			info, err := os.Stat(path)
			if errors.Is(err, fs.ErrNotExist) && path != f.Path {
				continue // gone since it was listed
			}
			if err != nil {
				yield(Ref{}, err)
				return
			}
			if !yield(f.ref(path, info), nil) {
				return
			}
		}
	}
}

func (f *Files) paths(ctx context.Context) ([]string, error) {
	roots := []string{f.Path}
	info, err := os.Stat(f.Path)
	if err != nil && strings.ContainsAny(f.Path, "*?[") {
		if roots, err = filepath.Glob(f.Path); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		slices.Sort(roots)
		return roots, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return roots, nil
	}
	var paths []string
	err = filepath.WalkDir(f.Path, func(path string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && path == f.Path:
			return err
		case err != nil:
			return nil // gone since it was listed
		case strings.HasPrefix(d.Name(), ".") && path != f.Path:
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		case d.IsDir() || !hasSuffix(path, f.Suffixes):
			return nil
		case len(paths) == maxListed:
			return errTooMany(f)
		}
		paths = append(paths, path)
		return nil
	})
	return paths, err
}

func (f *Files) ref(path string, info fs.FileInfo) Ref {
	return Ref{
		Location: path, Modified: info.ModTime(),
		Version: fmt.Sprintf("%d bytes of %s", info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano)),
	}
}

// Open opens a file. A pipe or a device is refused: it might never end.
func (f *Files) Open(_ context.Context, location, version string) (*Document, error) {
	// Without O_NONBLOCK opening a pipe would wait for a writer.
	file, err := os.OpenFile(location, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", location)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	ref := f.ref(location, info)
	if version != "" && ref.Version == version {
		file.Close()
		return nil, ErrUnchanged
	}
	return &Document{Ref: ref, ReadCloser: readCloser{limit(file, orDefault(f.Limit)), file}}, nil
}

type readCloser struct {
	io.Reader
	io.Closer
}

func hasSuffix(name string, suffixes []string) bool {
	return slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(name, s) })
}
