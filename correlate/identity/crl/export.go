package crl

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/tocsin-io/tocsin/internal/documents"
)

// Exporter keeps one PEM file with all verified lists, for TLS servers that are
// not AWS IoT: Mosquitto's crlfile, nginx's ssl_crl. Beside the file, in a folder
// named like it with .d at the end, is each list by itself, so that the file can
// be put together again without fetching what did not change.
//
// Lists that are stale are part of the file, too. OpenSSL refuses every
// certificate of an issuer whose list is stale ("CRL has expired"): whoever would
// rather accept revoked certificates than none must not export. And OpenSSL asks
// for a list of each issuer whose certificates it checks, as soon as it is given
// one of any.
//
// An Exporter is for one goroutine.
type Exporter struct {
	// Path of the file.
	Path string
	// PIDFile, if set, names a file with the ID of the process that is sent SIGHUP
	// when Path has changed.
	PIDFile string
	Metrics *Metrics
}

// Held reports whether the list that state is of is in the folder. It is made for
// Syncer.Held: a list that is not there is read again.
func (x *Exporter) Held(state *State) bool {
	_, err := os.Stat(x.part(state))
	return err == nil
}

// part returns the path of one list. The name has the list's hash, so that Held
// knows which one it is.
func (x *Exporter) part(state *State) string {
	return x.parts(&state.Key) + state.SHA256[:min(16, len(state.SHA256))] + ".pem"
}

// parts is how the paths of all versions of a list begin.
func (x *Exporter) parts(key *Key) string {
	sum := sha256.Sum256([]byte(key.IssuerKeyID + "\n" + key.Location + "\n" + key.Scope))
	return filepath.Join(x.folder(), hex.EncodeToString(sum[:8])+"-")
}

func (x *Exporter) folder() string { return x.Path + ".d" }

// Add puts a list into the folder, in the place of the one before it.
func (x *Exporter) Add(state *State, list *List) error {
	err := x.add(state, list)
	if err != nil {
		x.Metrics.export("failed")
		return fmt.Errorf("export of %s: %w", state.Location, err)
	}
	return nil
}

func (x *Exporter) add(state *State, list *List) error {
	if err := os.MkdirAll(x.folder(), 0o755); err != nil {
		return err
	}
	path := x.part(state)
	err := documents.WriteFile(path, func(w io.Writer) error {
		return pem.Encode(w, &pem.Block{Type: "X509 CRL", Bytes: list.DER()})
	})
	if err != nil {
		return err
	}
	return x.remove(func(other string) bool { return strings.HasPrefix(other, x.parts(&state.Key)) && other != path })
}

// remove deletes lists from the folder.
func (x *Exporter) remove(which func(path string) bool) error {
	entries, err := os.ReadDir(x.folder())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		path := filepath.Join(x.folder(), e.Name())
		if filepath.Ext(path) == ".pem" && which(path) {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// Write puts the file together from the lists that states are of, removes other
// lists from the folder, and signals the server if the file has changed. It
// reports whether it has. Lists that are not Held are left out.
func (x *Exporter) Write(states []State) (changed bool, err error) {
	defer func() {
		switch {
		case err != nil:
			x.Metrics.export("failed")
		case changed:
			x.Metrics.export("written")
		default:
			x.Metrics.export("unchanged")
		}
	}()
	lists := make(map[string]string, len(states)) // hashes by path
	for i := range states {
		if x.Held(&states[i]) {
			lists[x.part(&states[i])] = states[i].SHA256
		}
	}
	var parts []string
	seen := make(map[string]bool, len(lists))
	for _, path := range slices.Sorted(maps.Keys(lists)) {
		if sum := lists[path]; !seen[sum] { // one list may be in several places
			seen[sum] = true
			parts = append(parts, path)
		}
	}
	if err := x.remove(func(path string) bool { _, ok := lists[path]; return !ok }); err != nil {
		return false, err
	}
	if len(parts) == 0 {
		// An empty file would be refused by servers, and they would not start.
		return false, nil
	}
	before, err := hashFile(x.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	sum := sha256.New()
	if err := concatenate(sum, parts); err != nil {
		return false, err
	}
	if bytes.Equal(before, sum.Sum(nil)) {
		return false, nil
	}
	if err := documents.WriteFile(x.Path, func(w io.Writer) error { return concatenate(w, parts) }); err != nil {
		return false, err
	}
	if err := x.signal(); err != nil {
		return true, fmt.Errorf("%s was written, but its server was not told: %w", x.Path, err)
	}
	return true, nil
}

func concatenate(w io.Writer, paths []string) error {
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func hashFile(path string) ([]byte, error) {
	sum := sha256.New()
	if err := concatenate(sum, []string{path}); err != nil {
		return nil, err
	}
	return sum.Sum(nil), nil
}

// signal sends SIGHUP to the process of the PID file. One that does not run will
// read the file when it starts.
func (x *Exporter) signal() error {
	if x.PIDFile == "" {
		return nil
	}
	f, err := os.Open(x.PIDFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return err
	}
	// Of 0 and below kill would make a group of processes, and 1 is init.
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return fmt.Errorf("%s has no process ID", x.PIDFile)
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("process %d of %s: %w", pid, x.PIDFile, err)
	}
	return nil
}
