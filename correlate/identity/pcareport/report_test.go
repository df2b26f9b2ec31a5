package pcareport

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/internal/documents"
)

const (
	caARN = "arn:aws:acm-pca:eu-west-1:111122223333:certificate-authority/0a1b2c3d-0000-4000-8000-0123456789ab"
	head  = "awsAccountId,requestedByServicePrincipal,certificateArn,serial,subject,notBefore,notAfter,issuedAt,revokedAt,revocationReason,templateArn\n"
)

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

var want = []Entry{
	{
		CertificateARN: caARN + "/certificate/1a98eb03", CAARN: caARN, Serial: "1a98eb03", Subject: "CN=pump-0001,O=Fleet",
		NotBefore: at("2026-02-26T18:39:57Z"), NotAfter: at("2027-02-26T19:39:57Z"), IssuedAt: at("2026-02-26T19:39:58Z"),
		RevokedAt: at("2026-03-01T00:00:00Z"), Reason: "keyCompromise",
	},
	{
		CertificateARN: caARN + "/certificate/00ff", CAARN: caARN, Serial: "ff", Subject: "CN=pump-0002",
		NotBefore: at("2026-02-26T18:39:57Z"), NotAfter: at("2027-02-26T19:39:57Z"), IssuedAt: at("2026-02-26T19:39:58Z"),
	},
}

var jsonReport = `[
 {"awsAccountId":"111122223333","certificateArn":"` + caARN + `/certificate/1a98eb03","serial":"1a:98:eb:03","subject":"CN=pump-0001,O=Fleet",
  "notBefore":"2026-02-26T18:39:57+0000","notAfter":"2027-02-26T19:39:57+0000","issuedAt":"2026-02-26T19:39:58+0000",
  "revokedAt":"2026-03-01T01:00:00+0100","revocationReason":"KEY_COMPROMISE","templateArn":"t"},
 {"certificateArn":"` + caARN + `/certificate/00ff","serial":"00:FF","subject":"CN=pump-0002",
  "notBefore":"2026-02-26T18:39:57Z","notAfter":"2027-02-26T19:39:57Z","issuedAt":"2026-02-26T19:39:58Z","revocationReason":"UNSPECIFIED","of the future":{"a":[1]}}
]`

// The second row has a reason and no time, as AWS's example has.
var csvReport = head +
	`"111122223333","",` + caARN + `/certificate/1a98eb03,1A:98:EB:03,"CN=pump-0001,O=Fleet",2026-02-26T18:39:57+0000,2027-02-26T19:39:57+0000,2026-02-26T19:39:58+0000,2026-03-01T00:00:00+0000,KEY_COMPROMISE,t` + "\n" +
	`"111122223333","",` + caARN + `/certificate/00ff,00:ff,CN=pump-0002,2026-02-26T18:39:57+0000,2027-02-26T19:39:57+0000,2026-02-26T19:39:58+0000,,UNSPECIFIED,t` + "\n"

func collect(r io.Reader) (entries []Entry, bad int, fatal error) {
	for e, err := range Read(r) {
		if _, ok := errors.AsType[*BadEntry](err); ok {
			bad++
		} else if err != nil {
			fatal = err
		} else {
			entries = append(entries, e)
		}
	}
	return entries, bad, fatal
}

func TestRead(t *testing.T) {
	for name, text := range map[string]string{
		"JSON": jsonReport, "JSON with a mark": "\xef\xbb\xbf\n" + jsonReport,
		"CSV": csvReport, "CSV with CRLF": strings.ReplaceAll(csvReport, "\n", "\r\n"), "CSV with a mark": "\xef\xbb\xbf" + csvReport,
	} {
		got, bad, err := collect(iotest.OneByteReader(strings.NewReader(text)))
		if err != nil || bad != 0 {
			t.Errorf("%s: %d bad, %v", name, bad, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if got, bad, err := collect(strings.NewReader("[]")); len(got) != 0 || bad != 0 || err != nil {
		t.Errorf("a report of nothing: %v, %d, %v", got, bad, err)
	}
}

func TestBadEntriesAreNotTheReport(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		good, bad  int
		fatal      bool
	}{
		{"JSON: serial", `[{"serial":"xyz"},{"serial":"1"}]`, 1, 1, false},
		{"JSON: no serial", `[{},{"serial":"1"}]`, 1, 1, false},
		{"JSON: time", `[{"serial":"1","notAfter":"tomorrow"},{"serial":"1"}]`, 1, 1, false},
		{"JSON: type", `[{"serial":1},{"serial":"1"}]`, 1, 1, false},
		{"JSON: no object", `[1,"x",{"serial":"1"}]`, 1, 2, false},
		{"JSON: cut off between", `[{"serial":"1"},`, 1, 0, true},
		{"JSON: cut off within", `[{"serial":"1"},{"ser`, 1, 0, true},
		{"JSON: no end", `[{"serial":"1"}`, 1, 0, true},
		{"JSON: nonsense", `[{"serial":"1"},}`, 1, 0, true},
		{"CSV: serial", "serial,revokedAt\nxyz,\n1,\n", 1, 1, false},
		{"CSV: too few fields", "serial,revokedAt\n1\n1,\n", 1, 1, false},
		{"CSV: time", "serial,revokedAt\n1,never\n1,\n", 1, 1, false},
		{"CSV: quotes", "serial,revokedAt\n1,\n\"1,\n", 1, 0, true},
		{"CSV: other columns", "a,b\n1,2\n", 0, 0, true},
		{"HTML", "<html><body>403</body></html>", 0, 0, true},
		{"empty", "", 0, 0, true},
		{"white space", " \n ", 0, 0, true},
	} {
		got, bad, err := collect(strings.NewReader(tc.text))
		if len(got) != tc.good || bad != tc.bad || (err != nil) != tc.fatal {
			t.Errorf("%s: %d good, %d bad, %v", tc.name, len(got), bad, err)
		}
	}
	lost := errors.New("connection reset")
	for _, text := range []string{jsonReport, csvReport} {
		if _, _, err := collect(io.MultiReader(strings.NewReader(text[:len(text)/2]), iotest.ErrReader(lost))); !errors.Is(err, lost) {
			t.Errorf("%v", err)
		}
	}
}

func TestReasons(t *testing.T) {
	for aws, name := range reasons {
		got, _, err := collect(strings.NewReader(`[{"serial":"1","revokedAt":"2026-03-01T00:00:00Z","revocationReason":"` + aws + `"}]`))
		if err != nil || len(got) != 1 || got[0].Reason != name {
			t.Errorf("%s: %v, %v", aws, got, err)
		}
	}
	if reasonName("OF_THE_FUTURE") != "unspecified" {
		t.Error("a reason that is not known")
	}
}

func TestFromCloudTrail(t *testing.T) {
	issued := `{"eventSource":"acm-pca.amazonaws.com","eventName":"IssueCertificateDetails","eventTime":"2026-11-01T12:00:00Z","eventType":"AwsServiceEvent",
	 "serviceEventDetails":{"tbsCertificate":"MIIB","issuerAuthorityKeyIdentifier":"AB:CD:01","issuerName":"CN=ca","subject":"CN=pump-0001","serialNumber":"1A:98:EB:03",
	 "notBefore":"2026-11-01T11:00:00Z","notAfter":1793534400000,"issuedAt":1793534400.5,"status":"%s"},
	 "resources":[{"ARN":"` + caARN + `"},{"ARN":"` + caARN + `/certificate/1a98eb03"}]}`
	revoke := `{"eventSource":"acm-pca.amazonaws.com","eventName":"RevokeCertificate","eventTime":"2026-11-01T12:00:00Z","errorCode":"%s",
	 "requestParameters":{"certificateAuthorityArn":"` + caARN + `","certificateSerial":"%s","revocationReason":"SUPERSEDED"},"responseElements":null}`
	for _, tc := range []struct {
		name, message string
		want          Entry
		ok, fails     bool
	}{
		{"issued", fmt.Sprintf(issued, "ISSUED"), Entry{
			CertificateARN: caARN + "/certificate/1a98eb03", CAARN: caARN, IssuerKeyID: "abcd01", Serial: "1a98eb03", Subject: "CN=pump-0001",
			NotBefore: at("2026-11-01T11:00:00Z"), NotAfter: at("2026-11-01T12:00:00Z"), IssuedAt: at("2026-11-01T12:00:00.5Z"),
		}, true, false},
		{"not issued", fmt.Sprintf(issued, "FAILED"), Entry{}, false, false},
		{"revoked", fmt.Sprintf(revoke, "", "0A:0b"), Entry{CAARN: caARN, Serial: "a0b", RevokedAt: at("2026-11-01T12:00:00Z"), Reason: "superseded"}, true, false},
		{"not revoked", fmt.Sprintf(revoke, "RequestAlreadyProcessedException", "0A:0b"), Entry{}, false, false},
		{"revoked without a serial number", fmt.Sprintf(revoke, "", ""), Entry{}, false, true},
		{"revoked before time began", strings.Replace(fmt.Sprintf(revoke, "", "0A"), "2026-11-01T12:00:00Z", "0001-01-01T00:00:00Z", 1), Entry{}, false, true},
		{"revoked by nobody", strings.Replace(fmt.Sprintf(revoke, "", "0A"), caARN, "", 1), Entry{}, false, true},
		{"issued by nobody", strings.ReplaceAll(fmt.Sprintf(issued, "ISSUED"), caARN, "arn:aws:acm:eu-west-1:111122223333:certificate/1"), Entry{}, false, true},
		{"issued to last", strings.Replace(fmt.Sprintf(issued, "ISSUED"), "1793534400000", "999999999999999", 1), Entry{
			CertificateARN: caARN + "/certificate/1a98eb03", CAARN: caARN, IssuerKeyID: "abcd01", Serial: "1a98eb03", Subject: "CN=pump-0001",
			NotBefore: at("2026-11-01T11:00:00Z"), IssuedAt: at("2026-11-01T12:00:00.5Z"),
		}, true, false},
		{"another service", `{"eventSource":"iot.amazonaws.com","eventName":"RevokeCertificate"}`, Entry{}, false, false},
		{"another event", `{"eventSource":"acm-pca.amazonaws.com","eventName":"ListPermissions"}`, Entry{}, false, false},
		{"no event", `[]`, Entry{}, false, true},
	} {
		got, ok, err := FromCloudTrail([]byte(tc.message))
		if ok != tc.ok || (err != nil) != tc.fails {
			t.Errorf("%s: %v, %v", tc.name, ok, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
}

func TestIsAuthority(t *testing.T) {
	for arn, want := range map[string]bool{
		caARN: true, strings.Replace(caARN, "arn:aws:", "arn:aws-us-gov:", 1): true,
		"": false, "arn:": false, caARN + "/certificate/1a": false, caARN + "\n": false, caARN + "<": false, strings.Replace(caARN, "acm-pca", "acm", 1): false,
		"arn:aws:acm-pca:eu-west-1:111122223333:certificate-authority/": false, caARN + strings.Repeat("0", maxARN): false,
	} {
		if got := IsAuthority(arn); got != want {
			t.Errorf("%q: %v", arn, got)
		}
	}
}

func TestSyncReadsTheNewestReportOfEachCA(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	put := func(name, text string, age time.Duration) {
		t.Helper()
		path := filepath.Join(dir, name)
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644), os.Chtimes(path, now.Add(-age), now.Add(-age)))
		if err != nil {
			t.Fatal(err)
		}
	}
	s := &Syncer{Place: &documents.Files{Path: dir, Suffixes: Suffixes, Limit: 1 << 20}}
	states := map[string]State{}
	sync := func(ctx context.Context) (read []string) {
		t.Helper()
		var given []State
		for _, state := range states {
			given = append(given, state)
		}
		for report, err := range s.Sync(ctx, given) {
			if err != nil {
				read = append(read, "error")
				continue
			}
			n := 0
			for _, err := range report.Entries() {
				if err != nil {
					t.Error(err)
				}
				n++
			}
			read = append(read, fmt.Sprint(filepath.Base(report.State.Location), " ", n))
			states[report.State.Folder] = report.State
		}
		return read
	}
	expect := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, sync(t.Context())); diff != "" {
			t.Error(diff)
		}
	}
	expect()
	put("ca-1/b.json", jsonReport, 2*time.Hour)
	put("ca-1/a.json", "[]", 3*time.Hour)
	put("ca-2/x.csv", csvReport, time.Hour)
	put("ca-2/notes.txt", "", 0)
	expect("b.json 2", "x.csv 2")
	expect()
	put("ca-1/0.json", "[]", time.Hour)
	expect("0.json 0")
	put("ca-1/0.json", jsonReport, time.Minute) // written again
	expect("0.json 2")
	if err := os.Remove(filepath.Join(dir, "ca-1/0.json")); err != nil {
		t.Fatal(err)
	}
	expect() // what is left is older
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	states = map[string]State{}
	if got := sync(ctx); len(got) != 0 {
		t.Errorf("%q after the end", got)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	expect("error")
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(jsonReport))
	f.Add([]byte(csvReport))
	f.Add([]byte("serial,revokedAt\n1,\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, _, _ := collect(bytes.NewReader(b))
		// What was read can be written and read again, in both forms.
		var text, table bytes.Buffer
		var rows []map[string]string
		w := csv.NewWriter(&table)
		_ = w.Write([]string{"serial", "revokedAt"})
		for _, e := range entries {
			revoked := ""
			if e.Revoked() {
				if e.RevokedAt.Year() > 9999 || e.RevokedAt.Year() < 0 {
					return // RFC 3339 has no such years
				}
				revoked = e.RevokedAt.Format(time.RFC3339)
			}
			rows = append(rows, map[string]string{"serial": e.Serial, "revokedAt": revoked})
			_ = w.Write([]string{e.Serial, revoked})
		}
		w.Flush()
		if rows == nil {
			return
		}
		if err := json.NewEncoder(&text).Encode(rows); err != nil {
			t.Fatal(err)
		}
		for _, form := range []*bytes.Buffer{&text, &table} {
			again, bad, err := collect(form)
			if bad != 0 || err != nil || len(again) != len(entries) {
				t.Fatalf("%d of %d, %d bad, %v", len(again), len(entries), bad, err)
			}
			for i := range again {
				if again[i].Serial != entries[i].Serial || again[i].Revoked() != entries[i].Revoked() {
					t.Fatalf("%+v became %+v", entries[i], again[i])
				}
			}
		}
	})
}

func FuzzFromCloudTrail(f *testing.F) {
	f.Add([]byte(`{"eventSource":"acm-pca.amazonaws.com","eventName":"RevokeCertificate","eventTime":"2026-11-01T12:00:00Z","requestParameters":{"certificateSerial":"1"}}`))
	f.Add([]byte(`{"eventSource":"acm-pca.amazonaws.com","eventName":"IssueCertificateDetails","serviceEventDetails":{"serialNumber":"1","notAfter":1}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, ok, err := FromCloudTrail(b)
		if ok && (e.Serial == "" || !IsAuthority(e.CAARN) || err != nil) {
			t.Errorf("%+v, %v", e, err)
		}
		if _, err := json.Marshal(e); err != nil {
			t.Errorf("%+v has no JSON form: %v", e, err)
		}
	})
}
