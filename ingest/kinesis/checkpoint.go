package kinesis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Checkpoint is how far a shard has been published.
type Checkpoint struct {
	// Sequence is the number of the last record up to which everything is in
	// Kafka; "" when there is none yet.
	Sequence string `json:"sequence,omitempty"`
	// Since is where reading began when it was to begin with what is new; it counts
	// while there is no Sequence.
	Since time.Time `json:"since,omitzero"`
	// Done says that the shard is closed and all of it is in Kafka.
	Done bool `json:"done,omitempty"`
}

// CheckpointStore keeps checkpoints over restarts. Its methods are called by one
// goroutine at a time.
type CheckpointStore interface {
	// Load returns the checkpoints of a stream by shard ID; none when nothing is
	// known of it.
	Load(ctx context.Context, stream string) (map[string]Checkpoint, error)
	// Save replaces the checkpoints of the given shards and leaves the others. The
	// zero Checkpoint forgets a shard. When it returns nil they must survive a
	// crash.
	Save(ctx context.Context, stream string, changed map[string]Checkpoint) error
}

// FileStore keeps the checkpoints of each stream in a file of a folder, which
// must not be shared by two processes.
type FileStore struct {
	dir string

	mu    sync.Mutex
	known map[string]map[string]Checkpoint // by stream; what the files say
}

// NewFileStore makes the folder when it is not there.
func NewFileStore(dir string) (*FileStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("kinesis checkpoints: %w", err)
	}
	return &FileStore{dir: dir, known: map[string]map[string]Checkpoint{}}, nil
}

// path of a stream's file. A stream is a name or an ARN, of letters, digits and
// these: _.-:/
func (s *FileStore) path(stream string) string {
	return filepath.Join(s.dir, "kinesis-"+strings.NewReplacer("/", "%2F", ":", "%3A", "%", "%25").Replace(stream)+".json")
}

// Load reads the stream's file.
func (s *FileStore) Load(_ context.Context, stream string) (map[string]Checkpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.load(stream)
}

func (s *FileStore) load(stream string) (map[string]Checkpoint, error) {
	loaded := map[string]Checkpoint{}
	content, err := os.ReadFile(s.path(stream))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("kinesis checkpoints: %w", err)
	default:
		if err := json.Unmarshal(content, &loaded); err != nil {
			return nil, fmt.Errorf("kinesis checkpoints: %s is damaged (%w); remove it to read the stream from its configured start", s.path(stream), err)
		}
	}
	s.known[stream] = loaded
	out := make(map[string]Checkpoint, len(loaded))
	for shard, cp := range loaded {
		out[shard] = cp
	}
	return out, nil
}

// Save writes the stream's file anew and renames it into its place.
func (s *FileStore) Save(_ context.Context, stream string, changed map[string]Checkpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[stream] == nil {
		if _, err := s.load(stream); err != nil {
			return err
		}
	}
	all := s.known[stream]
	for shard, cp := range changed {
		if cp == (Checkpoint{}) {
			delete(all, shard)
		} else {
			all[shard] = cp
		}
	}
	content, err := json.MarshalIndent(all, "", " ")
	if err == nil {
		err = replaceFile(s.path(stream), append(content, '\n'))
	}
	if err != nil {
		return fmt.Errorf("kinesis checkpoints: %w", err)
	}
	return nil
}

// replaceFile makes path hold content, now or, after a crash, what it held
// before.
func replaceFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	// The rename itself is in the folder.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
