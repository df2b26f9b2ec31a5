package correlate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// snapshotStore keeps the snapshots of partitions, the last few of each.
type snapshotStore interface {
	// save must return nil only when the snapshot survives a crash of whatever keeps
	// it, and must leave the one before usable until then. It may be called for
	// different keys at the same time, and by a worker that was superseded: it may
	// return errSuperseded to that, after which the worker starts over with load.
	save(ctx context.Context, key snapshotKey, sequence uint64, writer string, snapshot []byte) error
	// load must call use for the newest complete snapshot and, as long as that
	// returns false, for the ones before; it returns whether one was used. What use
	// gets is valid during the call only.
	load(ctx context.Context, key snapshotKey, use func(snapshot []byte, sequence uint64) bool) (bool, error)
}

// stateDir keeps snapshots in a directory that all correlators share: a file for
// each of a partition's slots. Where partitions move between machines it must be
// a file system that these share, with atomic renames.
type stateDir struct{ dir string }

// newStateDir makes the directory if there is none.
func newStateDir(dir string) (*stateDir, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	return &stateDir{dir: dir}, nil
}

// snapshotHead says what a snapshot in a file or an S3 object is. In a file it is
// the first line, and the snapshot follows.
type snapshotHead struct {
	Sequence uint64 `json:"sequence"`
	Writer   string `json:"writer"`
	Size     int    `json:"size"` // of the snapshot, bytes
	CRC      uint32 `json:"crc"`  // CRC-32C of the snapshot
}

func (s *stateDir) path(key snapshotKey, slot uint64) string {
	return filepath.Join(s.dir, key.slotName(slot))
}

// slotName names the file or S3 object of a slot.
func (k snapshotKey) slotName(slot uint64) string {
	return fmt.Sprintf("%s-%d.%d", k.topic, k.partition, slot)
}

func (s *stateDir) save(ctx context.Context, key snapshotKey, sequence uint64, writer string, snapshot []byte) (err error) {
	fail := func(err error) error { return fmt.Errorf("snapshot of %s: %w", key, err) }
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	head, err := json.Marshal(snapshotHead{sequence, writer, len(snapshot), crc32.Checksum(snapshot, castagnoli)})
	if err != nil {
		return fail(err)
	}
	path := s.path(key, sequence%snapshotSlots)
	// A superseded worker may be writing the same slot.
	f, err := os.CreateTemp(s.dir, filepath.Base(path)+".*.tmp")
	if err != nil {
		return fail(err)
	}
	_, err = f.Write(append(head, '\n'))
	if err == nil {
		_, err = f.Write(snapshot)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fail(errors.Join(err, os.Remove(f.Name())))
	}
	// The rename, too, must survive.
	if err := syncDir(s.dir); err != nil {
		return fail(err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *stateDir) load(ctx context.Context, key snapshotKey, use func(snapshot []byte, sequence uint64) bool) (bool, error) {
	// What a crash left of a file that was being written.
	left, _ := filepath.Glob(s.path(key, 0)[:len(s.path(key, 0))-1] + "*.tmp") // the pattern is well-formed
	for _, name := range left {
		_ = os.Remove(name) // another worker may have
	}
	type candidate struct {
		path string
		head snapshotHead
	}
	var found []candidate
	for slot := range uint64(snapshotSlots) {
		path := s.path(key, slot)
		head, _, err := readState(path)
		switch {
		case errors.Is(err, errSnapshotTorn), errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return false, fmt.Errorf("snapshot of %s: %w", key, err)
		default:
			found = append(found, candidate{path, head})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int { return cmp.Compare(b.head.Sequence, a.head.Sequence) })
	for _, c := range found {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		head, snapshot, err := readState(c.path)
		if err != nil {
			continue // replaced meanwhile
		}
		if use(snapshot, head.Sequence) {
			return true, nil
		}
	}
	return false, nil
}

// readState reads and checks one file.
func readState(path string) (snapshotHead, []byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return snapshotHead{}, nil, err
	}
	line, snapshot, ok := bytes.Cut(b, []byte("\n"))
	var head snapshotHead
	if !ok || json.Unmarshal(line, &head) != nil || head.Size != len(snapshot) || head.CRC != crc32.Checksum(snapshot, castagnoli) {
		return snapshotHead{}, nil, errSnapshotTorn
	}
	return head, snapshot, nil
}
