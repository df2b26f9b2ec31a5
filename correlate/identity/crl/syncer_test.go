package crl

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/internal/documents"
	"github.com/tocsin-io/tocsin/internal/testkit"
)

type issuers []*x509.Certificate

func (i issuers) Issuers([]byte) []*x509.Certificate { return i }

// consumer is a registry in small: it keeps states and serials.
type consumer struct {
	t       testing.TB
	syncer  *Syncer
	now     time.Time
	states  map[Key]State
	serials map[string]bool
	lists   int
}

func newConsumer(t testing.TB, place documents.Place, cas ...*testkit.CA) *consumer {
	c := &consumer{t: t, now: start, states: map[Key]State{}, serials: map[string]bool{}}
	var known issuers
	for _, ca := range cas {
		known = append(known, ca.Cert)
	}
	c.syncer = &Syncer{Place: place, Issuers: known, Now: func() time.Time { return c.now }, Metrics: NewMetrics(nil)}
	return c
}

// sync returns what happened: a line for each list and problem.
func (c *consumer) sync(ctx context.Context) []string {
	var happened []string
	var states []State
	for _, s := range c.states {
		states = append(states, s)
	}
	for u := range c.syncer.Sync(ctx, states) {
		if u.List != nil {
			c.lists++
			for e := range u.List.Revoked() {
				c.serials[e.SerialHex()] = true
			}
			happened = append(happened, fmt.Sprintf("list %s of %s", u.State.Number, filepath.Base(u.State.Location)))
		}
		if u.Problem != nil {
			happened = append(happened, fmt.Sprintf("%s %s of %s", u.Problem.EventType(), u.Problem.Reason, filepath.Base(u.Problem.Source)))
		}
		if u.State.IssuerKeyID != "" {
			c.states[u.State.Key] = u.State
		}
	}
	return happened
}

func (c *consumer) expect(want ...string) {
	c.t.Helper()
	if diff := cmp.Diff(want, c.sync(c.t.Context())); diff != "" {
		c.t.Error(diff)
	}
}

func put(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := documents.WriteFile(path, func(w io.Writer) error { _, err := w.Write(content); return err }); err != nil {
		t.Fatal(err)
	}
}

func folder(t testing.TB) (*documents.Files, string) {
	dir := t.TempDir()
	return &documents.Files{Path: dir, Suffixes: Suffixes, Limit: 1 << 20}, dir
}

func TestSyncTakesInWhatChanged(t *testing.T) {
	ca := testkit.NewCA(t, "one")
	place, dir := folder(t)
	c := newConsumer(t, place, ca)
	c.expect()
	put(t, filepath.Join(dir, "a.crl"), signList(t, ca, template(10, 1, 2)))
	put(t, filepath.Join(dir, "acm-pca-permission-test-key"), []byte("x"))
	c.expect("list 10 of a.crl")
	c.expect()
	// Written again, but the same: the version changed, the list did not.
	if err := os.Chtimes(filepath.Join(dir, "a.crl"), start, start); err != nil {
		t.Fatal(err)
	}
	c.expect()
	put(t, filepath.Join(dir, "a.crl"), toPEM(signList(t, ca, template(11, 3))))
	c.expect("list 11 of a.crl")
	if !c.serials["1"] || !c.serials["3"] {
		t.Errorf("serials %v: what disappeared must stay", c.serials)
	}
	if err := os.Remove(filepath.Join(dir, "a.crl")); err != nil {
		t.Fatal(err)
	}
	c.expect()
}

func TestSyncRefusesOlderLists(t *testing.T) {
	ca := testkit.NewCA(t, "one")
	place, dir := folder(t)
	path := filepath.Join(dir, "a.crl")
	c := newConsumer(t, place, ca)
	put(t, path, signList(t, ca, template(10, 1)))
	c.expect("list 10 of a.crl")
	put(t, path, signList(t, ca, template(9)))
	c.expect("CRLRolledBack rolled_back of a.crl")
	c.expect("CRLRolledBack rolled_back of a.crl") // until it is put right
	older := template(10)
	older.ThisUpdate = start.Add(-time.Hour)
	put(t, path, signList(t, ca, older))
	c.expect("CRLRolledBack rolled_back of a.crl") // the same number, used again
	// A longer number is not smaller for being compared as text.
	put(t, path, signList(t, ca, template(100, 1, 2)))
	c.expect("list 100 of a.crl")
	put(t, path, signList(t, ca, template(99, 1, 2)))
	c.expect("CRLRolledBack rolled_back of a.crl")
	for _, s := range c.states {
		if s.Number != "100" {
			t.Errorf("state %+v", s)
		}
	}
}

func TestSyncTellsOfStaleLists(t *testing.T) {
	ca := testkit.NewCA(t, "one")
	place, dir := folder(t)
	c := newConsumer(t, place, ca)
	put(t, filepath.Join(dir, "a.crl"), signList(t, ca, template(10, 1)))
	c.expect("list 10 of a.crl")
	c.now = start.Add(7 * 24 * time.Hour)
	c.expect()
	c.now = c.now.Add(time.Second)
	c.expect("CRLStale stale of a.crl")
	put(t, filepath.Join(dir, "b.crl"), signList(t, ca, template(3, 2))) // stale from the beginning
	c.expect("list 3 of b.crl", "CRLStale stale of b.crl", "CRLStale stale of a.crl")
	if !c.serials["2"] {
		t.Error("a stale list was not taken in")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	c.expect("SyncFailed unreachable of "+filepath.Base(dir), "CRLStale stale of a.crl", "CRLStale stale of b.crl")
}

func TestSyncGoesOnAfterBadLists(t *testing.T) {
	one, two, unknown := testkit.NewCA(t, "one"), testkit.NewCA(t, "two"), testkit.NewCA(t, "unknown")
	place, dir := folder(t)
	c := newConsumer(t, place, one, two)
	good := signList(t, one, template(1, 1))
	forged := signList(t, &testkit.CA{Cert: one.Cert, Key: unknown.Key}, template(2))
	put(t, filepath.Join(dir, "a.crl"), []byte("<html>"))
	put(t, filepath.Join(dir, "b.crl"), forged)
	put(t, filepath.Join(dir, "c.crl"), make([]byte, 2<<20))
	put(t, filepath.Join(dir, "d.crl"), good[:len(good)-1])
	put(t, filepath.Join(dir, "e.crl"), append([]byte{0x30, 0x83, 0x20, 0, 0}, make([]byte, 2<<20)...)) // above the file's limit
	put(t, filepath.Join(dir, "f.crl"), signList(t, unknown, template(1, 9)))
	put(t, filepath.Join(dir, "g.crl"), good)
	put(t, filepath.Join(dir, "h.pem"), toPEM(signList(t, two, template(5, 5)), forged, signList(t, two, template(6, 6))))
	want := []string{
		"CRLInvalid malformed of a.crl", "CRLInvalid signature of b.crl", "CRLInvalid too_large of c.crl",
		"CRLInvalid malformed of d.crl", "CRLInvalid too_large of e.crl", "CRLInvalid unknown_issuer of f.crl", "list 1 of g.crl",
		"list 5 of h.pem", "CRLInvalid signature of h.pem", "list 6 of h.pem",
	}
	c.expect(want...)
	// Until everything in a document is good it is read again, to tell of it.
	c.expect("CRLInvalid malformed of a.crl", "CRLInvalid signature of b.crl", "CRLInvalid too_large of c.crl",
		"CRLInvalid malformed of d.crl", "CRLInvalid too_large of e.crl", "CRLInvalid unknown_issuer of f.crl",
		"CRLRolledBack rolled_back of h.pem", "CRLInvalid signature of h.pem")
	if c.serials["9"] || !c.serials["1"] || !c.serials["5"] || !c.serials["6"] {
		t.Errorf("serials %v", c.serials)
	}
	// The CA becomes known.
	c.syncer.Issuers = issuers{one.Cert, two.Cert, unknown.Cert}
	if got := c.sync(t.Context()); !strings.Contains(strings.Join(got, "\n"), "list 1 of f.crl") {
		t.Errorf("%q", got)
	}
}

func TestSyncOfAnIssuerWithTwoKeys(t *testing.T) {
	old, renewed := testkit.NewCA(t, "one"), testkit.NewCA(t, "one")
	place, dir := folder(t)
	c := newConsumer(t, place, old, renewed)
	put(t, filepath.Join(dir, "a.crl"), signList(t, old, template(10, 1)))
	c.expect("list 10 of a.crl")
	put(t, filepath.Join(dir, "a.crl"), signList(t, renewed, template(1, 2)))
	c.expect("list 1 of a.crl") // numbers are of an issuer's key
	c.now = start.Add(30 * 24 * time.Hour)
	if got := c.sync(t.Context()); len(got) != 2 {
		t.Errorf("%q: both keys' lists are stale", got)
	}
}

func TestSyncUnitesPartitions(t *testing.T) {
	ca := testkit.NewCA(t, "one")
	place, dir := folder(t)
	c := newConsumer(t, place, ca)
	scoped := func(number int64, uri string, serials ...int64) []byte {
		l := template(number, serials...)
		l.ExtraExtensions = []pkix.Extension{partition(uri)}
		return signList(t, ca, l)
	}
	put(t, filepath.Join(dir, "1.crl"), scoped(1, "http://a/1.crl", 1))
	put(t, filepath.Join(dir, "2.crl"), scoped(1, "http://a/2.crl", 2))
	both := toPEM(scoped(1, "http://a/3.crl", 3), scoped(7, "http://a/4.crl", 4))
	put(t, filepath.Join(dir, "3.pem"), both)
	c.expect("list 1 of 1.crl", "list 1 of 2.crl", "list 1 of 3.pem", "list 7 of 3.pem")
	c.expect()
	// In another order, and one of them newer.
	put(t, filepath.Join(dir, "3.pem"), toPEM(scoped(8, "http://a/4.crl", 44), scoped(1, "http://a/3.crl", 3)))
	if got := c.sync(t.Context()); len(got) == 0 || got[0] != "list 8 of 3.pem" {
		t.Errorf("%q", got)
	}
	if len(c.serials) != 5 {
		t.Errorf("serials %v", c.serials)
	}
}

func TestSyncAgainAfterACrash(t *testing.T) {
	ca, other := testkit.NewCA(t, "one"), testkit.NewCA(t, "two")
	place, dir := folder(t)
	c := newConsumer(t, place, ca, other)
	put(t, filepath.Join(dir, "a.pem"), toPEM(signList(t, ca, template(1, 1)), signList(t, other, template(1, 2))))
	// The process dies after it has stored the first list.
	for u := range c.syncer.Sync(t.Context(), nil) {
		c.states[u.State.Key] = u.State
		break
	}
	c.expect("list 1 of a.pem") // the second
	c.expect()
	if len(c.states) != 2 {
		t.Errorf("states %v", c.states)
	}
}

func TestSyncOverHTTP(t *testing.T) {
	ca := testkit.NewCA(t, "one")
	content := signList(t, ca, template(1, 1))
	tag, fail, requests, full := `"v1"`, 0, 0, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		if fail != 0 {
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(fail)
			return
		}
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		full++
		_, _ = w.Write(content)
	}))
	defer server.Close()
	place, err := documents.NewHTTP(server.URL+"/ca.crl", documents.HTTPOptions{Limit: 1 << 20, AllowPrivate: true})
	if err != nil {
		t.Fatal(err)
	}
	c := newConsumer(t, place, ca)
	c.expect("list 1 of ca.crl")
	c.expect()
	if full != 1 || requests != 2 {
		t.Errorf("%d requests, %d of them with an answer in full", requests, full)
	}
	tag, content = `"v2"`, signList(t, ca, template(2, 2))
	c.expect("list 2 of ca.crl")
	fail = http.StatusInternalServerError
	c.expect("SyncFailed unreachable of ca.crl")
	fail = http.StatusFound
	c.expect("SyncFailed unreachable of ca.crl")
	fail = 0
	// What was taken in is lost: an answer that it is unchanged must not be asked for.
	c.syncer.Held = func(*State) bool { return false }
	c.expect("list 2 of ca.crl")
	server.Close()
	c.expect("SyncFailed unreachable of ca.crl")
}

func TestSyncEndsWithItsContext(t *testing.T) {
	ca := testkit.NewCA(t, "one")
	place, dir := folder(t)
	c := newConsumer(t, place, ca)
	for n := range 5 {
		put(t, filepath.Join(dir, fmt.Sprint(n, ".crl")), signList(t, ca, template(1, int64(n))))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := c.sync(ctx); len(got) != 0 {
		t.Errorf("%q after the end", got)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	updates := 0
	for u := range c.syncer.Sync(ctx, nil) {
		updates++
		cancel()
		if u.Problem != nil {
			t.Errorf("problem %+v", u.Problem)
		}
	}
	if updates != 1 {
		t.Errorf("%d updates, want 1", updates)
	}
}

func TestPrecedes(t *testing.T) {
	later := start.Add(time.Hour)
	for _, tc := range []struct {
		last   string
		number *big.Int
		at     time.Time
		want   bool
	}{
		{"", nil, start, true},
		{"", nil, later, true},
		{"", nil, start.Add(-1), false},
		{"", big.NewInt(1), start, true}, // it begins to number them
		{"5", nil, later, false},         // it ceases to
		{"5", big.NewInt(5), start, true},
		{"5", big.NewInt(5), start.Add(-1), false},
		{"5", big.NewInt(6), start.Add(-1), true}, // a clock was put right
		{"5", big.NewInt(4), later, false},
	} {
		s := State{Number: tc.last, ThisUpdate: start}
		if got := s.precedes(tc.number, tc.at); got != tc.want {
			t.Errorf("%q then %v at %v: %v, want %v", tc.last, tc.number, tc.at, got, tc.want)
		}
	}
}

func TestExport(t *testing.T) {
	one, two := testkit.NewCA(t, "one"), testkit.NewCA(t, "two")
	place, dir := folder(t)
	x := &Exporter{Path: filepath.Join(t.TempDir(), "all[1].pem"), Metrics: NewMetrics(nil)}
	c := newConsumer(t, place, one, two)
	c.syncer.Held = x.Held
	round := func() (changed bool) {
		t.Helper()
		var states []State
		for _, s := range c.states {
			states = append(states, s)
		}
		for u := range c.syncer.Sync(t.Context(), states) {
			if u.List != nil {
				if err := x.Add(&u.State, u.List); err != nil {
					t.Fatal(err)
				}
			}
			if u.State.IssuerKeyID != "" {
				c.states[u.State.Key] = u.State
			}
		}
		states = nil
		for _, s := range c.states {
			states = append(states, s)
		}
		changed, err := x.Write(states)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	numbers := func() (out []string) {
		f, err := os.Open(x.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for r := NewReader(f, 0); ; {
			u, err := r.Next()
			if err != nil {
				break
			}
			out = append(out, u.Header.Issuer.CommonName+" "+u.Header.Number.String())
		}
		return out
	}
	if round() {
		t.Error("a file of nothing was written")
	}
	if _, err := os.Stat(x.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file of nothing: %v", err)
	}
	put(t, filepath.Join(dir, "a.crl"), signList(t, one, template(1, 1)))
	put(t, filepath.Join(dir, "b.crl"), signList(t, two, template(5, 5)))
	if !round() || len(numbers()) != 2 {
		t.Errorf("lists %q", numbers())
	}
	if round() {
		t.Error("written again without a change")
	}
	put(t, filepath.Join(dir, "a.crl"), signList(t, one, template(2, 1, 2)))
	if !round() || !strings.Contains(strings.Join(numbers(), ","), "one 2") || len(numbers()) != 2 {
		t.Errorf("lists %q", numbers())
	}
	// Another machine takes over, with the states and an empty disk.
	if err := errors.Join(os.RemoveAll(x.Path), os.RemoveAll(x.folder())); err != nil {
		t.Fatal(err)
	}
	if !round() || len(numbers()) != 2 {
		t.Errorf("lists %q", numbers())
	}
	info, err := os.Stat(x.Path)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v: servers must be able to read it", info.Mode(), err)
	}
	// A source is taken out of the configuration.
	for key := range c.states {
		if key.IssuerKeyID == KeyID(two.Cert) {
			delete(c.states, key)
		}
	}
	if err := os.Remove(filepath.Join(dir, "b.crl")); err != nil {
		t.Fatal(err)
	}
	if !round() || len(numbers()) != 1 {
		t.Errorf("lists %q", numbers())
	}
	if left, err := os.ReadDir(x.folder()); err != nil || len(left) != 1 {
		t.Errorf("%d files are left: %v", len(left), err)
	}
}
