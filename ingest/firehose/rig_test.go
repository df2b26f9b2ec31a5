package firehose

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tocsin-io/tocsin/ingest"
)

const (
	testKey = "an access key"
	testARN = "arn:aws:firehose:eu-west-1:111122223333:deliverystream/iot-logs"
)

// taker stands for the pipeline. The zero value acknowledges everything at once.
type taker struct {
	mu     sync.Mutex
	taken  []*ingest.Delivery
	refuse error                  // of hand
	answer func(*ingest.Delivery) // instead of Ack(nil)
}

func (p *taker) hand(ctx context.Context, d *ingest.Delivery) error {
	p.mu.Lock()
	if p.refuse != nil {
		defer p.mu.Unlock()
		return p.refuse
	}
	p.taken = append(p.taken, d)
	answer := p.answer
	p.mu.Unlock()
	if answer != nil {
		answer(d)
	} else {
		d.Ack(nil)
	}
	return ctx.Err()
}

func (p *taker) data() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, d := range p.taken {
		all = append(all, string(d.Data))
	}
	return all
}

// value reads a counter.
func value(c prometheus.Collector) float64 {
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil || len(families) != 1 {
		panic(fmt.Sprint("cannot gather: ", err))
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

// rig is a source behind a real HTTP server.
type rig struct {
	*taker
	source *Source
	url    string
}

func newRig(t *testing.T, opts Options) *rig {
	t.Helper()
	if len(opts.AccessKeys) == 0 && !opts.Anonymous {
		opts.AccessKeys = []string{"an older key", testKey}
	}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	p := &taker{}
	server := httptest.NewServer(s.Handler(p.hand))
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		server.Close()
	})
	return &rig{p, s, server.URL}
}

type answer struct {
	status    int
	RequestID string `json:"requestId"`
	Timestamp int64  `json:"timestamp"`
	Message   string `json:"errorMessage"`
}

// post sends a Firehose request and holds every answer against the contract.
func (g *rig) post(t *testing.T, body []byte, headers ...string) answer {
	t.Helper()
	return g.send(t, http.MethodPost, DefaultPath, body, append([]string{
		headerAccessKey, testKey, headerProtocol, "1.0", headerSourceARN, testARN, "Content-Type", "application/json",
	}, headers...)...)
}

func (g *rig) send(t *testing.T, method, path string, body []byte, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, g.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Del(headers[i])
		if headers[i+1] != "" {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	before := time.Now().UnixMilli()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
		return answer{}
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	a := answer{status: res.StatusCode}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil {
		t.Errorf("answer %s: %v", raw, err)
	}
	if a.status == http.StatusRequestEntityTooLarge {
		t.Error("answered 413")
	}
	if got := res.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	if got := res.Header.Get("Content-Length"); got != strconv.Itoa(len(raw)) {
		t.Errorf("content length %q of %d bytes", got, len(raw))
	}
	if got := res.Header.Get("Content-Encoding"); got != "" {
		t.Errorf("content encoding %q", got)
	}
	if a.Timestamp < before || a.Timestamp > time.Now().UnixMilli() {
		t.Errorf("timestamp %d is not now in milliseconds", a.Timestamp)
	}
	if (a.Message == "") != (a.status == http.StatusOK) || len(a.Message) > maxErrorMessage {
		t.Errorf("status %d with error message %q", a.status, a.Message)
	}
	return a
}

func request(id string, records ...string) []byte {
	type record struct {
		Data []byte `json:"data"`
	}
	all := make([]record, len(records))
	for i, r := range records {
		all[i].Data = []byte(r)
	}
	b, err := json.Marshal(map[string]any{"requestId": id, "timestamp": 1578090901599, "records": all})
	if err != nil {
		panic(err)
	}
	return b
}

func gzipped(parts ...[]byte) []byte {
	var out bytes.Buffer
	for _, p := range parts {
		w := gzip.NewWriter(&out)
		_, _ = w.Write(p)
		_ = w.Close()
	}
	return out.Bytes()
}
