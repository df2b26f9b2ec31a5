package revocation

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate/identity/crl"
	"github.com/tocsin-io/tocsin/correlate/identity/pcareport"
	"github.com/tocsin-io/tocsin/internal/documents"
	"github.com/tocsin-io/tocsin/internal/testkit"
)

var start = time.Now().Add(-time.Hour).Truncate(time.Second)

// target is a registry in small. What was told counts as safe when it is saved.
type target struct {
	cas      []*x509.Certificate
	revoked  map[string]string // by issuer and serial number: the reason
	told     int
	problems []string
	state    json.RawMessage
	fail     func() error // of Revoke
}

func (t *target) Issuers([]byte) []*x509.Certificate { return t.cas }

func (t *target) Revoke(_ context.Context, r *Revocation) error {
	if t.fail != nil {
		if err := t.fail(); err != nil {
			return err
		}
	}
	t.told++
	t.revoked[r.IssuerKeyID+" "+r.Serial] = r.Reason + " " + filepath.Base(r.Source)
	return nil
}

func (t *target) Problem(p *crl.Problem) {
	t.problems = append(t.problems, p.EventType()+" "+string(p.Reason)+" "+filepath.Base(p.Source))
}

func (t *target) Save(_ context.Context, state any) (err error) {
	t.state, err = json.Marshal(state)
	return err
}

func newTarget(cas ...*testkit.CA) *target {
	t := &target{revoked: make(map[string]string)}
	for _, ca := range cas {
		t.cas = append(t.cas, ca.Cert)
	}
	return t
}

// expect synchronises and compares how many revocations were told, and the
// problems.
func (t *target) expect(tb testing.TB, s Source, told int, problems ...string) {
	tb.Helper()
	t.told, t.problems = 0, nil
	if err := s.Sync(tb.Context(), t.state, t); err != nil {
		tb.Fatal(err)
	}
	if diff := cmp.Diff(problems, t.problems); diff != "" || t.told != told {
		tb.Errorf("%d told, want %d; problems %s", t.told, told, diff)
	}
}

func writeList(t testing.TB, path string, ca *testkit.CA, number int64, serials ...int64) {
	t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: start, NextUpdate: start.AddDate(0, 0, 7)}
	for _, s := range serials {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: start, ReasonCode: 1})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, ca.Cert, ca.Key)
	if err == nil {
		err = os.WriteFile(path, der, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestLists(t *testing.T) {
	one, two := testkit.NewCA(t, "one"), testkit.NewCA(t, "two")
	dirs := []string{t.TempDir(), t.TempDir()}
	lists := &Lists{Metrics: crl.NewMetrics(nil), Logger: zap.NewNop()}
	for _, dir := range dirs {
		lists.Places = append(lists.Places, &documents.Files{Path: dir, Suffixes: crl.Suffixes})
	}
	r := newTarget(one, two)
	r.expect(t, lists, 0)
	writeList(t, filepath.Join(dirs[0], "a.crl"), one, 1, 10, 11)
	writeList(t, filepath.Join(dirs[1], "b.crl"), two, 5, 255)
	r.expect(t, lists, 3)
	want := map[string]string{
		crl.KeyID(one.Cert) + " a": "keyCompromise a.crl", crl.KeyID(one.Cert) + " b": "keyCompromise a.crl",
		crl.KeyID(two.Cert) + " ff": "keyCompromise b.crl",
	}
	if diff := cmp.Diff(want, r.revoked); diff != "" {
		t.Error(diff)
	}
	before := string(r.state)
	r.expect(t, lists, 0)
	if string(r.state) != before {
		t.Error("the state changed though nothing else did")
	}
	writeList(t, filepath.Join(dirs[0], "a.crl"), one, 0)
	r.expect(t, lists, 0, "CRLRolledBack rolled_back a.crl")
	writeList(t, filepath.Join(dirs[0], "a.crl"), one, 2, 12)
	r.expect(t, lists, 1)
	// A state that cannot be read costs a second reading.
	r.state = json.RawMessage(`[1]`)
	r.expect(t, lists, 2)
	// A place that is not configured any more is forgotten, one that is back is read.
	places := lists.Places
	lists.Places = places[:1]
	r.expect(t, lists, 0)
	lists.Places = places
	r.expect(t, lists, 1)
}

func TestSoManyListsAreRemembered(t *testing.T) {
	place := &documents.Files{Path: "a"}
	r := &listRun{Lists: &Lists{Metrics: crl.NewMetrics(nil)}, states: map[string]map[crl.Key]crl.State{}}
	for n, name := range []string{"a", "b", "c"} {
		r.states[name] = map[crl.Key]crl.State{}
		for i := range maxRemembered/2 + n {
			key := crl.Key{IssuerKeyID: "k", Location: fmt.Sprintf("%s/%05d.crl", place, i)}
			r.states[name][key] = crl.State{Key: key}
		}
	}
	out := r.snapshot()
	if len(out["a"]) != maxRemembered/2 || len(out["b"]) != maxRemembered/2 || len(out["c"]) != 0 {
		t.Errorf("%d, %d, %d", len(out["a"]), len(out["b"]), len(out["c"]))
	}
	if len(r.states["c"]) != maxRemembered/2+2 {
		t.Error("what was read in this round is gone")
	}
}

func TestListsAfterACrash(t *testing.T) {
	ca := testkit.NewCA(t, "one")
	dir := t.TempDir()
	lists := &Lists{Places: []documents.Place{&documents.Files{Path: dir, Suffixes: crl.Suffixes}}, Metrics: crl.NewMetrics(nil), Logger: zap.NewNop()}
	writeList(t, filepath.Join(dir, "a.crl"), ca, 1, 10, 11, 12)
	r := newTarget(ca)
	lost := errors.New("not the owner any more")
	r.fail = func() error {
		if r.told == 1 {
			return lost
		}
		return nil
	}
	if err := lists.Sync(t.Context(), r.state, r); !errors.Is(err, lost) || r.state != nil {
		t.Errorf("%v, state %s", err, r.state)
	}
	r.fail = nil
	r.expect(t, lists, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := lists.Sync(ctx, nil, r); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestListsAreExported(t *testing.T) {
	ca := testkit.NewCA(t, "one")
	dir := t.TempDir()
	x := &crl.Exporter{Path: filepath.Join(t.TempDir(), "all.pem"), Metrics: crl.NewMetrics(nil)}
	lists := &Lists{
		Places: []documents.Place{&documents.Files{Path: dir, Suffixes: crl.Suffixes}}, Exporter: x, Metrics: crl.NewMetrics(nil), Logger: zap.NewNop(),
	}
	r := newTarget(ca)
	writeList(t, filepath.Join(dir, "a.crl"), ca, 1, 10)
	r.expect(t, lists, 1)
	exported := func() int64 {
		f, err := os.Open(x.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		u, err := crl.Read(f, 0)
		if err != nil {
			t.Fatal(err)
		}
		return u.Header.Number.Int64()
	}
	if n := exported(); n != 1 {
		t.Errorf("list %d", n)
	}
	writeList(t, filepath.Join(dir, "a.crl"), ca, 2, 10)
	r.expect(t, lists, 1)
	if n := exported(); n != 2 {
		t.Errorf("list %d", n)
	}
	// The file cannot be written for a while: the registry goes on.
	inTheWay := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	x.Path = filepath.Join(inTheWay, "all.pem")
	writeList(t, filepath.Join(dir, "a.crl"), ca, 3, 10, 11)
	r.expect(t, lists, 2)
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	r.expect(t, lists, 2)
	if n := exported(); n != 3 {
		t.Errorf("list %d", n)
	}
}

func TestReports(t *testing.T) {
	dir := t.TempDir()
	const arn = "arn:aws:acm-pca:eu-west-1:111122223333:certificate-authority/"
	put := func(name string, age time.Duration, rows ...string) {
		t.Helper()
		path := filepath.Join(dir, name)
		text := "[" + strings.Join(rows, ",") + "]"
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, start.Add(-age), start.Add(-age)))
		if err != nil {
			t.Fatal(err)
		}
	}
	row := func(ca, serial, revoked string) string {
		return fmt.Sprintf(`{"certificateArn":"%s%s/certificate/%s","serial":"%s","revokedAt":"%s","revocationReason":"SUPERSEDED"}`, arn, ca, serial, serial, revoked)
	}
	const when = "2026-03-01T00:00:00+0000"
	known := map[string]string{arn + "ca-1": "k1"}
	reports := &Reports{
		Places: []documents.Place{&documents.Files{Path: dir, Suffixes: pcareport.Suffixes}}, Logger: zap.NewNop(),
		KeyID: func(_ context.Context, arn string) (string, error) {
			if id := known[arn]; id != "" {
				return id, nil
			}
			return "", errors.New("AccessDeniedException")
		},
	}
	r := newTarget()
	r.expect(t, reports, 0)
	put("ca-1/a.json", time.Hour, row("ca-1", "0A:01", when), row("ca-1", "0b", ""), row("ca-1", "not hex", when))
	put("ca-2/b.json", time.Hour, row("ca-2", "0c", when))
	put("ca-3/c.json", time.Hour, row("ca-1", "0d", when), "{") // cut off
	r.expect(t, reports, 2, "CRLInvalid malformed a.json", "SyncFailed unreachable b.json", "CRLInvalid malformed c.json")
	if diff := cmp.Diff(map[string]string{"k1 a01": "superseded a.json", "k1 d": "superseded c.json"}, r.revoked); diff != "" {
		t.Error(diff)
	}
	// What failed is tried again, what was read is not.
	known[arn+"ca-2"] = "k2"
	put("ca-3/c.json", time.Minute, row("ca-1", "0d", when))
	r.expect(t, reports, 2)
	r.expect(t, reports, 0)
	r.state = json.RawMessage(`"?"`)
	lost := errors.New("not the owner any more")
	r.fail = func() error { return lost }
	if err := reports.Sync(t.Context(), r.state, r); !errors.Is(err, lost) {
		t.Errorf("%v", err)
	}
}
