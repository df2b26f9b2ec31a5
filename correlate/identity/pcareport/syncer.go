package pcareport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/internal/documents"
)

// Suffixes are those of the files and objects that are taken for reports.
var Suffixes = []string{".json", ".csv"}

// State is what must be remembered of the reports of one CA, over restarts.
type State struct {
	// Folder is that of the CA: AWS writes reports to audit-report/CA-ID/.
	Folder   string    `json:"folder"`
	Location string    `json:"location"` // of the report read last
	Version  string    `json:"version"`  // of it
	Modified time.Time `json:"modified"`
}

// Report is one report that has not been read yet.
type Report struct {
	// State is to be stored when all entries have been taken in.
	State State
	body  io.Reader
}

// Entries yields the entries as Read does. It can be read once, before the next
// report is asked for.
func (r *Report) Entries() iter.Seq2[Entry, error] { return Read(r.body) }

// Syncer keeps up with the reports of one place: of each folder it reads the
// newest, because every report is complete.
type Syncer struct{ Place documents.Place }

// Sync yields the reports that are newer than those of states. With an error the
// State of the report is set if it is about one. It ends early when ctx does,
// without an error for that.
func (s *Syncer) Sync(ctx context.Context, states []State) iter.Seq2[*Report, error] {
	return func(yield func(*Report, error) bool) {
		newest := make(map[string]documents.Ref)
		for ref, err := range s.Place.List(ctx) {
			if err != nil {
				if ctx.Err() == nil {
					yield(&Report{}, err)
				}
				return
			}
			folder := path.Dir(ref.Location)
			if last, ok := newest[folder]; !ok || ref.Modified.After(last.Modified) {
				newest[folder] = ref
			}
		}
		known := make(map[string]State, len(states))
		for _, state := range states {
			known[state.Folder] = state
		}
		for _, folder := range slices.Sorted(maps.Keys(newest)) {
			if !s.one(ctx, folder, newest[folder], known[folder], yield) {
				return
			}
		}
	}
}

func (s *Syncer) one(ctx context.Context, folder string, ref documents.Ref, last State, yield func(*Report, error) bool) bool {
	version := ""
	if last.Location == ref.Location {
		version = last.Version
	}
	if version != "" && version == ref.Version || ref.Modified.Before(last.Modified) {
		return true
	}
	report := &Report{State: State{Folder: folder, Location: ref.Location, Modified: ref.Modified}}
	doc, err := s.Place.Open(ctx, ref.Location, version)
	switch {
	case ctx.Err() != nil:
		if err == nil {
			doc.Close()
		}
		return false
	case errors.Is(err, documents.ErrUnchanged):
		return true
	case err != nil:
		return yield(report, fmt.Errorf("%s: %w", ref.Location, err))
	}
	defer doc.Close()
	report.State.Version, report.State.Modified, report.body = doc.Version, doc.Modified, doc
	return yield(report, nil)
}
