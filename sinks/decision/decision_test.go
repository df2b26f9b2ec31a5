package decision

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/internal/registry"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func idOf(name string) string {
	id, _ := idOfPEM(pemOf(name))
	return id
}

// pemOf stands for the certificate of a device: the endpoint does not parse it.
func pemOf(name string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(name)}))
}

// fleet has a device of every kind; its name says what is decided of it.
func fleet(t *testing.T) *registry.Table {
	t.Helper()
	table := registry.New(registry.Options{ByName: true})
	serial := 0x100
	put := func(file, name string, change func(*schemas.Certificate)) {
		serial++
		c := schemas.Certificate{
			ID: idOf(file), Serial: fmt.Sprintf("%x", serial), Issuer: "CN=Fleet CA,O=Example", IssuerKeyID: "5f0a3b",
			Subject: "CN=" + name + ",O=Example", NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0), Status: schemas.CertActive,
		}
		if change != nil {
			change(&c)
		}
		if err := table.Put(&c); err != nil {
			t.Fatal(err)
		}
	}
	put("valid", "valid", nil)
	put("own-ca", "own-ca", func(c *schemas.Certificate) { c.Status = schemas.CertUnspecified })
	put("revoked", "revoked", func(c *schemas.Certificate) { c.Status = schemas.CertRevoked })
	put("revoked_by_ca", "revoked_by_ca", func(c *schemas.Certificate) { c.Revoked = &schemas.Revocation{Time: now, Reason: "keyCompromise"} })
	put("inactive", "inactive", func(c *schemas.Certificate) { c.Status = schemas.CertInactive })
	put("pending", "pending", func(c *schemas.Certificate) { c.Status = schemas.CertPendingActivation })
	put("expired", "expired", func(c *schemas.Certificate) { c.NotAfter = now.Add(-time.Second) })
	put("not_yet_valid", "not_yet_valid", func(c *schemas.Certificate) { c.NotBefore = now.Add(time.Second) })
	// It has changed its certificate.
	put("old", "rotated", func(c *schemas.Certificate) { c.Status = schemas.CertRevoked })
	put("new", "rotated", nil)
	// The same number of another CA.
	put("other-ca", "other-ca", func(c *schemas.Certificate) {
		c.Serial, c.IssuerKeyID, c.Issuer = "101", "77aa", "CN=Other CA"
	})
	for i := range 20 {
		put(fmt.Sprint("shared", i), "ambiguous", nil)
	}
	return table
}

func serve(t *testing.T, opts Options) *httptest.Server {
	t.Helper()
	opts.Now = func() time.Time { return now }
	opts.Anonymous = len(opts.AccessKeys) == 0
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return server
}

func do(t *testing.T, r *http.Request) (status int, body map[string]any) {
	t.Helper()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.Header.Get("Content-Type") == "application/json" {
		if err := json.Unmarshal(b, &body); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
	}
	return res.StatusCode, body
}

func post(t *testing.T, address, kind, body string) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	return do(t, r)
}

func get(t *testing.T, address string) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, r)
}

func quote(t *testing.T, fields map[string]string) string {
	t.Helper()
	b, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// reasons are those of a name's certificate, if they differ from the name.
var reasons = map[string]string{"own-ca": reasonValid}

// The verdicts by every way of naming a certificate, in every shape.
func TestVerdicts(t *testing.T) {
	table := fleet(t)
	table.SetComplete(now)
	base := serve(t, Options{Table: table}).URL
	for _, name := range []string{"valid", "own-ca", "revoked", "revoked_by_ca", "inactive", "pending", "expired", "not_yet_valid", "unknown"} {
		reason := name
		if r := reasons[name]; r != "" {
			reason = r
		}
		allow := reason == reasonValid
		emqx, authz, status := resultDeny, resultDeny, 403
		if allow {
			emqx, authz, status = resultAllow, resultIgnore, 200
		}
		subject := "CN=" + name + ",O=Example"
		id := idOf(name)
		for way, q := range map[string]map[string]string{
			"id":      {"certificate_id": id},
			"AWS id":  {"certificate_id": "0x" + strings.ToUpper(id)},
			"PEM":     {"cert_pem": pemOf(name), "cert_common_name": "valid"},
			"name":    {"cert_common_name": name, "clientid": "x", "cert_subject": "undefined"},
			"subject": {"cert_subject": subject},
			"other":   {"cert_subject": "C=DE, CN=" + name},
		} {
			code, got := post(t, base+"/v1/emqx/authn", "application/json", quote(t, q))
			if want := map[string]any{"result": emqx, "reason": reason}; code != 200 || cmp.Diff(want, got) != "" {
				t.Errorf("authn, %s by %s: %d %v", name, way, code, got)
			}
			if code, got := post(t, base+"/v1/emqx/authz", "application/json", quote(t, q)); code != 200 || got["result"] != authz {
				t.Errorf("authz, %s by %s: %d %v", name, way, code, got)
			}
		}
		for way, username := range map[string]string{"id": id, "fingerprint": colons(id), "PEM": pemOf(name), "name": name, "subject": subject} {
			for path, form := range map[string]bool{"/auth/user": true, "/auth/acl": false} {
				var code int
				var got map[string]any
				if form {
					code, got = post(t, base+path, "application/x-www-form-urlencoded", url.Values{"username": {username}, "password": {""}, "clientid": {"x"}}.Encode())
				} else {
					code, got = post(t, base+path, "application/json", quote(t, map[string]string{"username": username, "topic": "a/b", "clientid": "x"}))
				}
				if code != status || got["ok"] != allow || !allow && got["error"] != reason {
					t.Errorf("%s, %s by %s: %d %v", path, name, way, code, got)
				}
			}
		}
	}
}

func colons(id string) string {
	b, err := hex.DecodeString(id)
	if err != nil {
		panic(err)
	}
	return strings.ReplaceAll(strings.ToUpper(fmt.Sprintf("% x", b)), " ", ":")
}

func TestNamesOfSeveralCertificates(t *testing.T) {
	table := fleet(t)
	table.SetComplete(now)
	base := serve(t, Options{Table: table}).URL
	ask := func(name string) map[string]any {
		_, got := post(t, base+"/v1/emqx/authn", "application/json", quote(t, map[string]string{"cert_common_name": name}))
		return got
	}
	if diff := cmp.Diff(map[string]any{"result": "allow", "reason": "valid"}, ask("rotated")); diff != "" {
		t.Error("a device that changed its certificate", diff)
	}
	if diff := cmp.Diff(map[string]any{"result": "deny", "reason": "ambiguous"}, ask("ambiguous")); diff != "" {
		t.Error("a name of 20 certificates", diff)
	}
	if _, got := post(t, base+"/v1/emqx/authn", "application/json", quote(t, map[string]string{"cert_pem": pemOf("old")})); got["result"] != "deny" {
		t.Errorf("its old certificate itself: %v", got)
	}
}

func TestWhoHasNoCertificate(t *testing.T) {
	table := fleet(t)
	base := serve(t, Options{Table: table}).URL
	body := `{"clientid":"x","username":"valid","password":"secret","cert_subject":"undefined","cert_common_name":""}`
	for _, path := range []string{"/v1/emqx/authn", "/v1/emqx/authz"} {
		if code, got := post(t, base+path, "application/json", body); code != 200 || got["result"] != "ignore" {
			t.Errorf("%s: %d %v", path, code, got)
		}
	}
	if code, got := post(t, base+"/auth/user", "application/json", `{"username":""}`); code != 403 || got["ok"] != false {
		t.Errorf("%d %v", code, got)
	}
	if code, got := post(t, base+"/auth/superuser", "application/json", `{"username":"valid"}`); code != 403 || got["ok"] != false {
		t.Errorf("superuser: %d %v", code, got)
	}
	if code, got := post(t, base+"/v1/emqx/authn", "application/json", `{"cert_pem":"-----BEGIN NOTHING-----"}`); code != 200 || got["result"] != "deny" {
		t.Errorf("a PEM without a certificate: %d %v", code, got)
	}
}

func TestUnknownWhileTheRegistryIsNotComplete(t *testing.T) {
	for _, open := range []bool{false, true} {
		table := fleet(t)
		base := serve(t, Options{Table: table, FailOpen: open}).URL
		ask := func(name string) string {
			_, got := post(t, base+"/v1/emqx/authn", "application/json", quote(t, map[string]string{"certificate_id": idOf(name)}))
			return fmt.Sprint(got["result"], " ", got["reason"])
		}
		want := map[bool]string{true: "allow registry_incomplete", false: "deny registry_incomplete"}[open]
		if got := ask("unknown"); got != want {
			t.Errorf("fail open %v: %s", open, got)
		}
		if got := ask("revoked"); got != "deny revoked" {
			t.Errorf("fail open %v: %s", open, got)
		}
		table.SetComplete(now)
		if got := ask("unknown"); got != "deny unknown" {
			t.Errorf("fail open %v, complete: %s", open, got)
		}
	}
}

func TestCertificates(t *testing.T) {
	table := fleet(t)
	table.SetComplete(now)
	base := serve(t, Options{Table: table}).URL + "/v1/certificates/"
	for path, want := range map[string]struct {
		code                   int
		reason, status, device string
	}{
		idOf("valid"):                  {200, "valid", "ACTIVE", "valid"},
		colons(idOf("valid")):          {200, "valid", "ACTIVE", "valid"},
		idOf("expired"):                {200, "expired", "EXPIRED", "expired"},
		idOf("revoked_by_ca"):          {200, "revoked_by_ca", "REVOKED_BY_CA", "revoked_by_ca"},
		idOf("nobody"):                 {404, "unknown", "UNKNOWN", ""},
		"103":                          {200, "revoked", "REVOKED", "revoked"},
		"0x0103":                       {200, "revoked", "REVOKED", "revoked"},
		"01:03":                        {200, "revoked", "REVOKED", "revoked"},
		"103?issuer=5F:0A:3B":          {200, "revoked", "REVOKED", "revoked"},
		"103?issuer=77aa":              {404, "unknown", "UNKNOWN", ""},
		"101?issuer=77aa":              {200, "valid", "ACTIVE", "other-ca"},
		"101?issuer=CN%3DOther%20CA":   {200, "valid", "ACTIVE", "other-ca"},
		"101":                          {409, "", "", ""},
		"fff":                          {404, "unknown", "UNKNOWN", ""},
		"no-serial":                    {400, "", "", ""},
		strings.Repeat("a", 200):       {400, "", "", ""},
		url.PathEscape("../../secret"): {400, "", "", ""},
	} {
		code, got := get(t, base+path)
		var device string
		if c, ok := got["certificate"].(map[string]any); ok {
			device = strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(c["subject"]), "CN="), ",O=Example")
			device = strings.TrimPrefix(device, "CN=")
		}
		text := func(key string) string { s, _ := got[key].(string); return s }
		if code != want.code || text("reason") != want.reason || text("status") != want.status || device != want.device {
			t.Errorf("%s: %d %v", path, code, got)
		}
		if allow, _ := got["allow"].(bool); allow != (want.reason == "valid") {
			t.Errorf("%s: allow %v", path, allow)
		}
	}
	if _, got := get(t, base+idOf("expired")); got["days_to_expiry"] != -1.0 {
		t.Errorf("days to expiry: %v", got["days_to_expiry"])
	}
}

func TestAccessKeys(t *testing.T) {
	base := serve(t, Options{Table: fleet(t), AccessKeys: []string{"key-of-the-broker", "another-one"}}).URL
	for name, c := range map[string]struct {
		set  func(*http.Request)
		want int
	}{
		"none":     {func(*http.Request) {}, 401},
		"wrong":    {func(r *http.Request) { r.Header.Set("X-Tocsin-Key", "key-of-the-broke") }, 401},
		"header":   {func(r *http.Request) { r.Header.Set("X-Tocsin-Key", "key-of-the-broker") }, 200},
		"bearer":   {func(r *http.Request) { r.Header.Set("Authorization", "Bearer another-one") }, 200},
		"password": {func(r *http.Request) { r.SetBasicAuth("broker", "key-of-the-broker") }, 200},
		"as user":  {func(r *http.Request) { r.SetBasicAuth("key-of-the-broker", "") }, 401},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v1/emqx/authn", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		c.set(r)
		if code, got := do(t, r); code != c.want {
			t.Errorf("%s: %d %v", name, code, got)
		}
	}
	for name, opts := range map[string]Options{
		"neither": {}, "both": {AccessKeys: []string{"key"}, Anonymous: true}, "empty": {AccessKeys: []string{" "}},
	} {
		if _, err := New(opts); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestBadRequests(t *testing.T) {
	base := serve(t, Options{Table: fleet(t)}).URL
	for name, c := range map[string]struct {
		kind, body string
		want       int
	}{
		"no JSON":     {"application/json", "{", 400},
		"wrong types": {"application/json", `{"cert_common_name":7}`, 400},
		"empty":       {"application/json", "", 400},
		"bad form":    {"application/x-www-form-urlencoded", "a=%zz", 400},
		"too large":   {"application/json", `{"x":"` + strings.Repeat("x", maxBody) + `"}`, 413},
		"large form":  {"application/x-www-form-urlencoded", "username=" + strings.Repeat("x", maxBody), 413},
	} {
		for _, path := range []string{"/v1/emqx/authn", "/v1/emqx/authz", "/auth/user", "/auth/acl", "/auth/superuser"} {
			if code, got := post(t, base+path, c.kind, c.body); code != c.want {
				t.Errorf("%s to %s: %d %v", name, path, code, got)
			}
		}
	}
	if code, _ := get(t, base+"/v1/emqx/authn"); code != 405 {
		t.Errorf("GET: %d", code)
	}
	if code, _ := get(t, base+"/secret"); code != 404 {
		t.Errorf("another path: %d", code)
	}
}

// FuzzAsk: whatever is sent, there is an answer.
func FuzzAsk(f *testing.F) {
	f.Add("application/json", `{"cert_common_name":"valid","certificate_id":"00"}`, "103")
	f.Add("application/x-www-form-urlencoded", "username=CN%3Dvalid%2CO%3DExample", "0x:")
	f.Add("", `{"username":"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"}`, `a\`)
	table := registry.New(registry.Options{ByName: true})
	if err := table.Put(&schemas.Certificate{ID: strings.Repeat("ab", 32), Subject: `CN=valid`, Serial: "103"}); err != nil {
		f.Fatal(err)
	}
	s, err := New(Options{Table: table, Anonymous: true})
	if err != nil {
		f.Fatal(err)
	}
	handler := s.Handler()
	f.Fuzz(func(t *testing.T, kind, body, id string) {
		for _, path := range []string{"/v1/emqx/authn", "/auth/user", "/v1/certificates/" + url.PathEscape(id)} {
			method := http.MethodPost
			if strings.HasPrefix(path, "/v1/certificates/") {
				method = http.MethodGet
			}
			r := httptest.NewRequest(method, path, strings.NewReader(body))
			r.Header.Set("Content-Type", kind)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code >= 500 {
				t.Fatalf("%s: %d %s", path, w.Code, w.Body)
			}
		}
	})
}

func TestRunSpeaksTLSAndStops(t *testing.T) {
	ca := testkit.NewCA(t, "endpoint")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := ca.Issue(t, &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key.Public())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{
		Table: fleet(t), Listener: listener, Anonymous: true, Logger: zaptest.NewLogger(t), Registerer: prometheus.NewRegistry(),
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	res, err := client.Get("https://" + listener.Addr().String() + "/v1/certificates/" + idOf("valid"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("%d", res.StatusCode)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
