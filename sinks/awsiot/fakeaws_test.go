package awsiot

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// fakeAWS answers the calls of the package as AWS IoT does, with what moto lacks:
// DeleteConnection, throttling, outages. It listens on loopback.
type fakeAWS struct {
	url string

	mu     sync.Mutex
	calls  []string // operation and target of each that succeeded
	tries  int
	certs  map[string]*fakeCert
	online map[string]bool
	fail   []answer      // the next answers
	hold   chan struct{} // calls wait for it, when set
	held   chan struct{} // told of each call that waits
}

type fakeCert struct {
	status  string
	created time.Time
	things  []string
}

// answer is one that is no success.
type answer struct {
	status int
	code   string
}

func newFakeAWS(t *testing.T) *fakeAWS {
	f := &fakeAWS{certs: map[string]*fakeCert{}, online: map[string]bool{}, held: make(chan struct{}, 100)}
	mux := http.NewServeMux()
	handle := func(pattern, op string, h func(*http.Request) (target string, body any, no *answer)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.Header.Get("Authorization"), "Credential=AKIATEST/") {
				t.Errorf("%s is not signed: %v", op, r.Header)
			}
			f.mu.Lock()
			hold := f.hold
			f.mu.Unlock()
			if hold != nil {
				f.held <- struct{}{}
				<-hold
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.tries++
			var no *answer
			var body any = struct{}{}
			if len(f.fail) > 0 {
				no, f.fail = &f.fail[0], f.fail[1:]
			} else {
				var target string
				if target, body, no = h(r); no == nil {
					f.calls = append(f.calls, op+" "+target)
				}
			}
			w.Header().Set("Content-Type", "application/json")
			if no != nil {
				w.Header().Set("X-Amzn-ErrorType", no.code)
				w.WriteHeader(no.status)
				body = map[string]string{"message": "fake: " + no.code}
			}
			if err := json.NewEncoder(w).Encode(body); err != nil {
				t.Logf("%s: %v", op, err) // the caller has gone
			}
		})
	}
	gone := &answer{404, "ResourceNotFoundException"}
	handle("GET /certificates/{id}", opDescribeCertificate, func(r *http.Request) (string, any, *answer) {
		c := f.certs[r.PathValue("id")]
		if c == nil {
			return "", nil, gone
		}
		return short(r.PathValue("id")), map[string]any{"certificateDescription": map[string]any{
			"certificateId": r.PathValue("id"), "status": c.status, "creationDate": float64(c.created.UnixMilli()) / 1000,
		}}, nil
	})
	handle("PUT /certificates/{id}", opUpdateCertificate, func(r *http.Request) (string, any, *answer) {
		c := f.certs[r.PathValue("id")]
		if c == nil {
			return "", nil, gone
		}
		c.status = r.URL.Query().Get("newStatus")
		return short(r.PathValue("id")) + " " + c.status, struct{}{}, nil
	})
	handle("GET /principals/things", opListPrincipalThings, func(r *http.Request) (string, any, *answer) {
		_, id, _ := strings.Cut(r.Header.Get("X-Amzn-Principal"), ":cert/")
		c := f.certs[id]
		if c == nil {
			return "", nil, gone
		}
		return short(id), map[string]any{"things": c.things}, nil
	})
	handle("PUT /thing-groups/addThingToThingGroup", opAddThingToThingGroup, func(r *http.Request) (string, any, *answer) {
		var in struct{ ThingGroupName, ThingName string }
		decode(t, r, &in)
		return in.ThingName + " " + in.ThingGroupName, struct{}{}, nil
	})
	handle("PUT /jobs/{id}", opCreateJob, func(r *http.Request) (string, any, *answer) {
		var in struct{ Targets []string }
		decode(t, r, &in)
		return strings.Join(in.Targets, " "), struct{}{}, nil
	})
	handle("DELETE /connections/{id}", opDeleteConnection, func(r *http.Request) (string, any, *answer) {
		if !f.online[r.PathValue("id")] {
			return "", nil, gone
		}
		return r.PathValue("id") + " " + r.URL.Query().Get("preventWillMessage"), struct{}{}, nil
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

func (f *fakeAWS) clients(t *testing.T) (*iot.Client, *Connections) {
	t.Helper()
	return clientsOf(t, f.url)
}

func clientsOf(t *testing.T, url string) (*iot.Client, *Connections) {
	t.Helper()
	creds := credentials.NewStaticCredentialsProvider("AKIATEST", "secret", "")
	cfg := aws.Config{Region: "eu-west-1", Credentials: creds}
	connections, err := NewConnections(&cfg, url)
	if err != nil {
		t.Fatal(err)
	}
	return iot.NewFromConfig(cfg, func(o *iot.Options) {
		o.BaseEndpoint, o.RetryMaxAttempts = &url, 1
	}), connections
}

// made returns the calls that succeeded, but those that only look.
func (f *fakeAWS) made() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.calls), func(c string) bool {
		return strings.HasPrefix(c, opDescribeCertificate) || strings.HasPrefix(c, opListPrincipalThings)
	})
}

func (f *fakeAWS) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func decode(t *testing.T, r *http.Request, in any) {
	if err := json.NewDecoder(r.Body).Decode(in); err != nil {
		t.Error(err)
	}
}

// cert returns a certificate ID.
func cert(n int) string { return fmt.Sprintf("%064x", n) }

func short(id string) string { return strings.TrimLeft(id, "0") }
