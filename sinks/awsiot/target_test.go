package awsiot

import (
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/schemas"
)

func TestExpressions(t *testing.T) {
	f := finding(1)
	f.Unmapped.RuleName, f.Unmapped.RuleTags = "shared_certificate", []string{"attack.initial-access", "attack.t1078.004"}
	for text, want := range map[string]bool{
		"level>=high":                true,
		"level>=critical":            false,
		"level=high":                 true,
		"level=medium":               false,
		"tag=attack.t1078*":          true,
		"tag=attack.T1078.004":       true,
		"tag=attack.t1078":           false,
		"title=shared*":              true,
		"title = Shared certificate": true,
		"id=rule-1":                  true,
		"rule-1":                     true,
		"Shared Certificate":         true,
		"shared_certificate":         true,
		"rule-2":                     false,
		"level>=low && tag=attack.initial-access":   true,
		"level>=low && tag=attack.impact":           false,
		"tag=attack.initial-access && id=rule-2":    false,
		"title=*cert* && tag=*access && level=high": true,
	} {
		e, err := ParseExpression(text)
		if err != nil {
			t.Error(err)
		} else if got := e.Match(f); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	for _, text := range []string{"", " ", "*", "level>=huge", "level>high", "tag>=x", "tag=", "color=red", "level>=high && ", "&&"} {
		if _, err := ParseExpression(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// glob agrees with path.Match, where that has no other special characters.
func FuzzGlob(f *testing.F) {
	for _, seed := range [][2]string{{"a*b*c", "aXbXc"}, {"*", ""}, {"**", "x"}, {"a*a", "a"}, {"*ab*ab", "abab"}, {"", ""}, {"x", ""}, {"*b", "abb"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if strings.ContainsAny(pattern, `?[]\/`) || strings.Contains(s, "/") {
			return
		}
		want, err := path.Match(pattern, s)
		if err != nil {
			return
		}
		if got := glob(pattern, s); got != want {
			t.Errorf("glob(%q, %q) = %v", pattern, s, got)
		}
	})
}

func TestSubject(t *testing.T) {
	type evidence = schemas.EvidenceData
	for _, test := range []struct {
		name     string
		group    map[string]string
		complete bool
		evidence []evidence
		want     subject
	}{
		{
			"grouped by certificate",
			map[string]string{"principalId": strings.ToUpper(cert(10))},
			false,
			[]evidence{{ClientID: "a", CertificateID: cert(10)}, {ClientID: "b", CertificateID: cert(10)}},
			subject{certificate: cert(10), clients: []string{"a", "b"}},
		},
		{
			"grouped by device",
			map[string]string{"tocsin.device": "a"},
			false,
			[]evidence{{ClientID: "a", CertificateID: cert(1)}},
			subject{certificate: cert(1), clients: []string{"a"}},
		},
		{
			"two certificates of one device",
			map[string]string{"tocsin.device": "a"},
			true,
			[]evidence{{ClientID: "a", CertificateID: cert(1)}, {ClientID: "a", CertificateID: cert(2)}},
			subject{clients: []string{"a"}},
		},
		{
			"a device that is only an address",
			map[string]string{"tocsin.device": "ip:198.51.100.7"},
			false,
			[]evidence{{ClientID: "a", CertificateID: cert(1)}},
			subject{address: false},
		},
		{
			"a device that is only a certificate",
			map[string]string{"tocsin.device": "cert:" + cert(1)},
			false,
			[]evidence{{CertificateID: cert(1)}},
			subject{certificate: cert(1)},
		},
		{
			"grouped by address, all of one device",
			map[string]string{"tocsin.source_ip": "198.51.100.7"},
			true,
			[]evidence{{ClientID: "a", CertificateID: cert(1), SourceIP: "198.51.100.7"}},
			subject{certificate: cert(1), clients: []string{"a"}, address: true},
		},
		{
			"grouped by address, many devices",
			map[string]string{"tocsin.source_ip": "198.51.100.7"},
			true,
			[]evidence{{ClientID: "a", CertificateID: cert(1), SourceIP: "198.51.100.7"}, {ClientID: "b", CertificateID: cert(2)}},
			subject{address: true},
		},
		{
			"grouped by thing",
			map[string]string{"tocsin.thing_name": "t"},
			false,
			[]evidence{{ClientID: "a", Outcome: "success"}},
			subject{thing: "t", clients: []string{"a"}},
		},
		{
			"what the registry found", nil, true,
			[]evidence{{Source: schemas.SourceRegistry, CertificateID: "0x" + cert(1)}},
			subject{certificate: cert(1)},
		},
		{
			"a certificate ID that is none",
			map[string]string{"principalId": "AROAEXAMPLE:session"},
			true,
			[]evidence{{ClientID: "a", Outcome: "failure"}},
			subject{claimed: true},
		},
	} {
		f := &schemas.Finding{}
		f.Unmapped.Group, f.Unmapped.EvidenceComplete = test.group, test.complete
		for _, e := range test.evidence {
			f.Evidences = append(f.Evidences, schemas.Evidence{Data: e})
		}
		if diff := cmp.Diff(test.want, subjectOf(f), cmp.AllowUnexported(subject{})); diff != "" {
			t.Errorf("%s, -want +got:\n%s", test.name, diff)
		}
	}
}

func FuzzFinding(f *testing.F) {
	f.Add([]byte(`{"class_uid":2004,"activity_id":1,"finding_info":{"uid":"d"},"unmapped":{"rule_level":"high","group":{"tocsin.device":"a"}},"evidences":[{"data":{"client_id":"a","outcome":"success"}}]}`))
	f.Add([]byte(`{"class_uid":2004,"finding_info":{"uid":""}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		finding, err := parse(b)
		if err != nil {
			return
		}
		s := subjectOf(finding)
		for _, kind := range Kinds {
			for _, a := range s.requests(kind) {
				named := a.CertificateID != "" || a.ClientID != "" || a.Thing != ""
				if a.State == schemas.ActionRequested && !named {
					t.Errorf("%s of nothing", kind)
				}
			}
		}
	})
}
