package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

// someIdentities writes three certificates into tocsin.identities, one of them
// twice, and returns them.
func someIdentities(t *testing.T) (active, revoked, weak schemas.Certificate) {
	t.Helper()
	write := topics(t)
	now := time.Now().UTC().Truncate(time.Second)
	cert := func(digit string) schemas.Certificate {
		return schemas.Certificate{
			ID: strings.Repeat(digit, 64), Serial: "1a98eb0" + digit, Issuer: "CN=Fleet CA", IssuerKeyID: "0a0b", Subject: "CN=pump-" + digit,
			NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0), Status: schemas.CertActive, StatusSince: now, StatusReason: "inventory",
			Things: []string{"pump-" + digit}, Updated: now,
		}
	}
	active, revoked, weak = cert("a"), cert("b"), cert("c")
	weak.NotAfter = now.Add(10*24*time.Hour + time.Hour)
	weak.Key = schemas.KeyInfo{Type: "RSA", Bits: 1024, Weak: "RSA of 1024 bits"}
	put := func(c schemas.Certificate) {
		value, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		write(schemas.TopicIdentities, schemas.Partition([]byte(c.ID), 2), []byte(schemas.KeyCertificate+c.ID), value)
	}
	put(active)
	put(revoked) // still active here: the newer record counts
	revoked.Revoked = &schemas.Revocation{Time: now, Reason: "keyCompromise", Source: "fleet.crl"}
	put(revoked)
	put(weak)
	write(schemas.TopicIdentities, 0, []byte(schemas.KeyCertificate+"nonsense"), []byte("{"))
	return active, revoked, weak
}

func identitiesOutput(t *testing.T, args ...string) string {
	t.Helper()
	code, out, stderr := tocsin(append([]string{"identities"}, args...)...)
	if code != exitOK {
		t.Fatalf("identities %s: exit %d: %s", strings.Join(args, " "), code, stderr)
	}
	return out
}

func TestIdentitiesList(t *testing.T) {
	active, revoked, weak := someIdentities(t)
	for _, test := range []struct {
		args []string
		want []schemas.Certificate
	}{
		{nil, []schemas.Certificate{weak, active, revoked}},
		{[]string{"--limit", "1"}, []schemas.Certificate{weak}},
		{[]string{"--invalid"}, []schemas.Certificate{revoked}},
		{[]string{"--status", "revoked_by_ca", "--status", "INACTIVE"}, []schemas.Certificate{revoked}},
		{[]string{"--expiring", "30d"}, []schemas.Certificate{weak}},
		{[]string{"--expiring", "9d"}, nil},
		{[]string{"--weak"}, []schemas.Certificate{weak}},
		{[]string{"--thing", "pump-a"}, []schemas.Certificate{active}},
	} {
		var got []schemas.Certificate
		for line := range strings.Lines(identitiesOutput(t, append([]string{"list", "--json"}, test.args...)...)) {
			var c identityJSON
			if err := json.Unmarshal([]byte(line), &c); err != nil {
				t.Fatal(err)
			}
			got = append(got, c.Certificate)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("list %v:\n%s", test.args, diff)
		}
	}
	out := identitiesOutput(t, "list", "--limit", "2")
	if !strings.Contains(out, "cccccccccccccccc  ACTIVE") || !strings.Contains(out, "3 of 3 certificates, 2 of them above") {
		t.Errorf("got\n%s", out)
	}
}

func TestIdentitiesShow(t *testing.T) {
	_, revoked, weak := someIdentities(t)
	for _, what := range []string{revoked.ID, strings.ToUpper(revoked.ID), "bbbbbbbb", "00:1A:98:EB:0B", "0x1A98EB0b", "pump-b"} {
		out := identitiesOutput(t, "show", what)
		if !strings.Contains(out, revoked.ID) || !strings.Contains(out, "REVOKED_BY_CA") || !strings.Contains(out, "(keyCompromise) in fleet.crl") {
			t.Errorf("show %s:\n%s", what, out)
		}
	}
	out := identitiesOutput(t, "show", weak.ID, "--json")
	var got identityJSON
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.DaysToExpiry == nil || *got.DaysToExpiry != 10 || got.Effective != "ACTIVE" {
		t.Errorf("got %s (%v)", out, err)
	}
	if code, _, stderr := tocsin("identities", "show", "nobody"); code != exitFailed || !strings.Contains(stderr, "Try: tocsin identities list") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestIdentitiesExportAndImport(t *testing.T) {
	active, revoked, weak := someIdentities(t)
	file := filepath.Join(t.TempDir(), "certificates.jsonl")
	if err := os.WriteFile(file, []byte(identitiesOutput(t, "export")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := identitiesOutput(t, "import", "--complete", file); out != "3 certificates handed to the registry\n" {
		t.Errorf("got %s", out)
	}
	imported := map[string]schemas.Certificate{}
	complete := false
	for _, line := range tapped(t, "tocsin.identities") {
		record, _ := line["record"].(map[string]any)
		complete = complete || record["key"] == schemas.KeySync+"import"
		if key, _ := record["key"].(string); strings.HasPrefix(key, schemas.KeyImport) {
			value, err := json.Marshal(record["value"])
			if err != nil {
				t.Fatal(err)
			}
			var c schemas.Certificate
			if err := json.Unmarshal(value, &c); err != nil {
				t.Fatal(err)
			}
			imported[strings.TrimPrefix(key, schemas.KeyImport)] = c
		}
	}
	if !complete {
		t.Error("nothing says that this is all")
	}
	want := map[string]schemas.Certificate{active.ID: active, revoked.ID: revoked, weak.ID: weak}
	if diff := cmp.Diff(want, imported); diff != "" {
		t.Error(diff)
	}
}

func TestIdentitiesImportOfPEM(t *testing.T) {
	ca := testkit.NewCA(t, "Fleet CA")
	device := ca.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "pump-1"}}, nil)
	dir := t.TempDir()
	chain := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: device.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw})...)
	good, bad := filepath.Join(dir, "good.pem"), filepath.Join(dir, "bad.jsonl")
	for name, data := range map[string][]byte{good: chain, bad: []byte("\n{\"certificate_id\":\"12\"}\n")} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out := identitiesOutput(t, "import", "--dry-run", "--status", "ACTIVE", good); out != "1 certificates would be imported\n" {
		t.Errorf("got %s", out)
	}
	read, err := readIdentityFile(good, schemas.Certificate{Status: schemas.CertActive})
	if err != nil || len(read) != 1 || read[0].Subject != "CN=pump-1" || read[0].Status != schemas.CertActive || !read[0].NotAfter.Equal(device.NotAfter) {
		t.Errorf("got %+v (%v)", read, err)
	}
	code, _, stderr := tocsin("identities", "import", bad)
	if code != exitFailed || !strings.Contains(stderr, `bad.jsonl:2: certificate_id "12" is not 64 hex digits`) {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
