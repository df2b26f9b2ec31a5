package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tocsin-io/tocsin/schemas"
)

const cert = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParsePrincipal(t *testing.T) {
	tests := []struct{ id, cert, session string }{
		{cert, cert, ""},
		{strings.ToUpper(cert), cert, ""},
		{"0x" + cert, cert, ""},
		{"0X" + strings.ToUpper(cert), cert, ""},
		{"AROAEXAMPLE:" + cert, cert, cert},
		{"AROAEXAMPLE:" + strings.ToUpper(cert), cert, strings.ToUpper(cert)},
		{"AROAEXAMPLE:CognitoIdentityCredentials", "", "CognitoIdentityCredentials"},
		{"AROAEXAMPLE:i-0abc", "", "i-0abc"},
		{"AROAEXAMPLE:", "", ""},
		{"AIDAEXAMPLE", "", ""},
		{"123456789012:federated", "", ""},
		{"N/A", "", ""},
		{"", "", ""},
		{cert[1:], "", ""},
		{cert + "0", "", ""},
		{"0x" + cert[2:], "", ""},
		{"g" + cert[1:], "", ""},
		{cert[:63] + "\xff", "", ""},
	}
	for _, test := range tests {
		var arena []byte
		in := []byte(test.id)
		p := ParsePrincipal(&arena, in)
		if string(p.CertificateID) != test.cert || string(p.RoleSession) != test.session {
			t.Errorf("ParsePrincipal(%q) = %q, %q; want %q, %q", test.id, p.CertificateID, p.RoleSession, test.cert, test.session)
		}
		if string(in) != test.id {
			t.Errorf("ParsePrincipal(%q) changed its input", test.id)
		}
	}
}

func TestARNsAndTopics(t *testing.T) {
	var arena []byte
	session := func(arn string) string {
		p := ParseSessionARN(&arena, []byte(arn))
		return string(p.RoleSession) + "|" + string(p.CertificateID)
	}
	certificate := func(arn string) string { return string(CertificateOfARN(&arena, []byte(arn))) }
	thing := func(arn string) string { return string(ThingOfARN([]byte(arn))) }
	topic := func(s string) string { return string(ThingOfTopic([]byte(s))) }
	tests := []struct {
		of       func(string) string
		in, want string
	}{
		{session, "arn:aws:sts::1:assumed-role/R/" + cert, cert + "|" + cert},
		{session, "arn:aws-cn:sts::1:assumed-role/R/ann@example.com", "ann@example.com|"},
		{session, "arn:aws:sts::1:assumed-role/R/", "|"},
		{session, "arn:aws:sts::1:assumed-role/R", "|"},
		{session, "arn:aws:iam::1:user/ann", "|"},
		{certificate, "arn:aws:iot:eu-west-1:1:cert/" + strings.ToUpper(cert), cert},
		{certificate, "arn:aws:iot:eu-west-1:1:cert/abc", ""},
		{certificate, "arn:aws:iot:eu-west-1:1:thinggroup/g", ""},
		{certificate, "x:cert/" + cert, ""},
		{thing, "arn:aws:iot:eu-west-1:1:thing/pump-1", "pump-1"},
		{thing, "arn:aws:iot:eu-west-1:1:thing/", ""},
		{thing, "pump-1", ""},
		{topic, "$aws/things/pump-1/shadow/update", "pump-1"},
		{topic, "$aws/things/pump-1", ""},
		{topic, "$aws/things//shadow", ""},
		{topic, "$aws/things/", ""},
		{topic, "fleet/things/pump-1/x", ""},
		{topic, "", ""},
	}
	for _, test := range tests {
		if got := test.of(test.in); got != test.want {
			t.Errorf("%q: got %q, want %q", test.in, got, test.want)
		}
	}
}

func TestIsIP(t *testing.T) {
	for s, want := range map[string]bool{
		"192.0.2.1": true, "2001:db8::1": true, "::1": true, "::ffff:192.0.2.1": true, "2001:DB8::A": true,
		"": false, "1": false, "192.0.2": false, "192.0.2.256": false, "192.0.2.1:80": false, "fe80::1%eth0": false,
		"iot.amazonaws.com": false, "AWS Internal": false, "abcd": false, strings.Repeat("1:", 40): false,
	} {
		if got := IsIP([]byte(s)); got != want {
			t.Errorf("IsIP(%q) = %v", s, got)
		}
	}
}

func TestDeviceKey(t *testing.T) {
	ev := schemas.Event{
		ClientID: []byte("client"), ThingName: []byte("thing"), CertificateID: []byte("c"),
		SourceIP: []byte("192.0.2.1"), Account: []byte("1"),
	}
	bound := []byte("bound")
	steps := []struct {
		want   string
		remove func()
	}{
		{"client", func() { ev.ClientID = nil }},
		{"thing", func() { ev.ThingName = nil }},
		{"bound", func() { bound = nil }},
		{"cert:c", func() { ev.CertificateID = nil }},
		{"ip:192.0.2.1", func() { ev.SourceIP = nil }},
		{"account:1", func() { ev.Account = nil }},
		{UnknownDevice, func() {}},
	}
	for _, step := range steps {
		arena := []byte("kept")
		if got := DeviceKey(&arena, &ev, bound); string(got) != step.want || !bytes.HasPrefix(arena, []byte("kept")) {
			t.Errorf("device key %q, want %q", got, step.want)
		}
		step.remove()
	}
}

func certificate(n int) []byte {
	sum := sha256.Sum256(fmt.Append(nil, n))
	return hex.AppendEncode(nil, sum[:])
}

func TestBindings(t *testing.T) {
	b := NewBindings(0)
	one, client := certificate(1), []byte("pump-1")
	check := func(want string) {
		t.Helper()
		if got := string(b.DeviceOf(one)); got != want {
			t.Errorf("bound to %q, want %q", got, want)
		}
	}
	check("")
	b.Learn(one, client, false)
	copy(client, "XXXXXX") // it keeps its own copy
	check("pump-1")
	b.Learn(one, []byte("pump-2"), false)
	check("pump-1")
	b.Learn(one, []byte("pump-2"), true)
	check("pump-2")
	b.Learn(one, nil, true)
	check("pump-2")
	b.Learn([]byte("short"), []byte("x"), true)
	if b.DeviceOf([]byte("short")) != nil || b.Len() != 1 {
		t.Errorf("took a certificate ID of another length; holds %d", b.Len())
	}
}

func TestBindingsAreBounded(t *testing.T) {
	const n = 1600
	b := NewBindings(n)
	kept := certificate(-1)
	b.Learn(kept, []byte("kept"), true)
	for i := range 20 * n {
		b.Learn(certificate(i), []byte("d"), true)
		if i%100 == 0 && b.DeviceOf(kept) == nil {
			t.Fatalf("what is asked for every 100 certificates was forgotten after %d", i)
		}
	}
	if b.Len() < n || b.Len() > 2*n+shards {
		t.Errorf("holds %d, want between %d and twice that", b.Len(), n)
	}
	if b.DeviceOf(certificate(0)) != nil {
		t.Error("the first of many is still held")
	}
	if b.DeviceOf(certificate(20*n-1)) == nil {
		t.Error("the last is not held")
	}
}

func TestBindingsConcurrently(t *testing.T) {
	b := NewBindings(64)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 5000 {
				id := certificate(i % 200)
				b.Learn(id, fmt.Appendf(nil, "device-%d", i%200), g == 0)
				if got := b.DeviceOf(id); got != nil && string(got) != fmt.Sprintf("device-%d", i%200) {
					t.Errorf("certificate %d is bound to %q", i%200, got)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzParsePrincipal(f *testing.F) {
	for _, seed := range []string{cert, "0x" + cert, "AROAX:" + cert, "AROAX:a", "N/A", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, id []byte) {
		var arena []byte
		p := ParsePrincipal(&arena, id)
		if p.CertificateID != nil {
			if _, err := hex.DecodeString(string(p.CertificateID)); err != nil || len(p.CertificateID) != CertificateIDLen || !bytes.Equal(bytes.ToLower(p.CertificateID), p.CertificateID) {
				t.Fatalf("%q: certificate ID %q", id, p.CertificateID)
			}
			if !bytes.Contains(bytes.ToLower(id), p.CertificateID) {
				t.Fatalf("%q does not contain %q", id, p.CertificateID)
			}
		}
		IsIP(id)
		ThingOfTopic(id)
		ThingOfARN(id)
		CertificateOfARN(&arena, id)
		ParseSessionARN(&arena, id)
	})
}
