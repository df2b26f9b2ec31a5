package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// badCase is something that somebody sends and that is not as it should be.
type badCase struct {
	name string
	send func() (int, string)
	code int
	// says is in the answer.
	says string
	// counted are samples of /metrics and by how much they must grow at least.
	counted []string
	// reason is that of its dead letter, whose source and text are given; "" for
	// none.
	reason, source string
	raw            string
	// asks is a query about what was stored, and stored its answer.
	asks   string
	stored []string
}

// badInput: whatever comes in gets its answer, is counted, is not lost, and
// stops nothing: a valid event right after it is processed.
func (r *embeddedRun) badInput(t *testing.T) {
	now := time.Now().Truncate(time.Millisecond)
	push := func(body []byte, header ...string) func() (int, string) {
		return func() (int, string) { return r.post(t, r.target.EventsURL, r.key, bytes.NewReader(body), header...) }
	}
	firehose := func(body []byte, header ...string) func() (int, string) {
		return func() (int, string) { return r.post(t, r.target.FirehoseURL, r.key, bytes.NewReader(body), header...) }
	}
	record := func(id string, data []byte) func() (int, string) { return firehose(firehoseRecords(t, id, data)) }
	dead := func(source, reason string) string {
		return fmt.Sprintf("tocsin_ingest_dead_letters_total{reason=%q,source=%q}", reason, source)
	}
	result := func(what string) string { return fmt.Sprintf("tocsin_firehose_requests_total{result=%q}", what) }
	device := func(columns, device string) string {
		return "SELECT " + columns + " FROM events_distinct WHERE device = '" + device + "'"
	}
	line := func(client string, more map[string]any) []byte { return logLine(t, now, "Connect", client, more) }
	whole := subscription(t, "1", now, line("bad-truncated", nil))
	bomb := gzipped(t, bytes.Repeat([]byte("x"), maxInflated+1))
	outerBomb := gzipped(t, bytes.Repeat([]byte(" "), maxBody+1))
	large := func(client string, size int) []byte {
		empty := len(line(client, map[string]any{"details": ""}))
		return line(client, map[string]any{"details": letters(size - empty)})
	}
	twice := firehoseRecords(t, "bad-request-twice", subscription(t, "2", now, line("bad-duplicate", nil)))

	cases := []badCase{
		{
			name: "truncated gzip", send: push(whole[:len(whole)-9]), code: http.StatusOK,
			counted: []string{dead("push", "gzip"), result("ok")}, reason: "gzip", source: "push",
		},
		{
			name: "truncated gzip in a Firehose record", send: record("bad-gzip", whole[:len(whole)/2]), code: http.StatusOK,
			counted: []string{dead("firehose", "gzip"), result("ok")}, reason: "gzip", source: "firehose",
		},
		{
			name: "gzip bomb", send: record("bad-bomb", bomb), code: http.StatusOK,
			counted: []string{dead("firehose", "too_large")}, reason: "too_large", source: "firehose",
		},
		{
			name: "gzip bomb as content encoding", send: firehose(outerBomb, "Content-Encoding", "gzip"), code: http.StatusBadRequest, says: "body is too large",
			counted: []string{result("too_large"), dead("firehose", "request_too_large")}, reason: "request_too_large", source: "firehose",
		},
		{
			name: "not JSON", send: push([]byte(`{"eventType":"Connect","clientId":"bad-json`)), code: http.StatusOK,
			counted: []string{dead("push", "not_json")}, reason: "not_json", source: "push", raw: "bad-json",
		},
		{
			name: "not JSON to Firehose", send: firehose([]byte("bad-not-a-request")), code: http.StatusBadRequest, says: "errorMessage",
			counted: []string{result("malformed"), dead("firehose", "request_malformed")}, reason: "request_malformed", source: "firehose", raw: "bad-not-a-request",
		},
		{
			name: "Firehose request of the wrong shape", send: firehose([]byte(`{"requestId":"bad-shape","records":{"data":"aGk="}}`)), code: http.StatusBadRequest,
			counted: []string{result("malformed")}, reason: "request_malformed", source: "firehose", raw: "bad-shape",
		},
		{
			name: "Firehose record that is not base64", send: firehose([]byte(`{"requestId":"bad-base64","records":[{"data":"***"}]}`)), code: http.StatusBadRequest, says: "base64",
			counted: []string{result("malformed")}, reason: "request_malformed", source: "firehose", raw: "bad-base64",
		},
		{
			name: "subscription payload of the wrong shape", code: http.StatusOK,
			send:    push([]byte(`{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"g","logStream":"s","logEvents":"bad-log-events"}`)),
			counted: []string{dead("push", "shape")}, reason: "shape", source: "push", raw: "bad-log-events",
		},
		{
			name: "log event of the wrong shape among others", code: http.StatusOK,
			send: push(fmt.Appendf(nil, `{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"g","logStream":"s","logEvents":[{"id":"77","timestamp":%d,"message":%q},"bad-message"]}`,
				now.UnixMilli(), line("bad-neighbour", nil))),
			counted: []string{dead("push", "shape")}, reason: "shape", source: "push", raw: "bad-message",
			asks: device("count()", "bad-neighbour"), stored: []string{"1"},
		},
		{
			name: "not text", send: push([]byte{0, 1, 2, 3, 0xfe, 0xff, 0x80, 0x81}), code: http.StatusOK,
			counted: []string{dead("push", "binary")}, reason: "binary", source: "push",
		},
		{
			name: "invalid UTF-8", send: push(bytes.Replace(line("bad-utf8-X", nil), []byte("X"), []byte{0xff}, 1)), code: http.StatusOK,
			counted: []string{`tocsin_ingest_events_total{source="push"}`},
			asks:    device("count()", "bad-utf8-\ufffd"), stored: []string{"1"},
		},
		{
			name: "JSON nested too deep", send: push([]byte(strings.Repeat(`{"bad-deep":`, 5000) + "1" + strings.Repeat("}", 5000))), code: http.StatusOK,
			counted: []string{dead("push", "too_deep")}, reason: "too_deep", source: "push", raw: "bad-deep",
		},
		{
			name: "message of 1 MiB", send: push(gzipped(t, large("bad-mebibyte", 1<<20))), code: http.StatusOK,
			counted: []string{`tocsin_ingest_events_total{source="push"}`},
			asks:    device("length(message)", "bad-mebibyte"), stored: []string{fmt.Sprint(1 << 20)},
		},
		{
			name: "message of more than 1 MiB", send: push(large("bad-more", 1<<20+1)), code: http.StatusOK,
			counted: []string{dead("push", "message_too_large")}, reason: "message_too_large", source: "push", raw: "bad-more",
		},
		{
			name: "missing fields", send: push([]byte(`{"eventType":"Bad-Missing","logLevel":"INFO"}`)), code: http.StatusOK,
			counted: []string{`tocsin_ingest_event_time_fallbacks_total{source="push"}`},
			asks:    "SELECT source, device, client_id, certificate_id, source_ip FROM events_distinct WHERE event_type = 'Bad-Missing'", stored: []string{"iot", "unknown", "", "", ""},
		},
		{
			name: "N/A for identities", code: http.StatusOK,
			send:    push(logLine(t, now, "Connect", "N/A", map[string]any{"principalId": "N/A", "thingName": "N/A", "sourceIp": "203.0.113.200", "status": "Failure"})),
			counted: []string{`tocsin_ingest_events_total{source="push"}`},
			asks:    device("client_id, thing_name, certificate_id, source_ip, outcome", "ip:203.0.113.200"), stored: []string{"", "", "", "203.0.113.200", "failure"},
		},
		{
			name: "unknown event type", send: push(logLine(t, now, "Teleport", "bad-unknown", nil)), code: http.StatusOK,
			counted: []string{`tocsin_ingest_events_total{source="push"}`},
			asks:    device("source, event_type", "bad-unknown"), stored: []string{"iot", "Teleport"},
		},
		{
			name: "unknown format", send: push([]byte(`{"hello":"bad-generic"}` + "\nbad-generic as text\n")), code: http.StatusOK,
			counted: []string{`tocsin_ingest_events_total{source="push"}`},
			asks:    "SELECT count(), any(source) FROM events_distinct WHERE position(message, 'bad-generic') > 0", stored: []string{"2", "generic"},
		},
		{
			name: "far future", send: push(logLine(t, now.AddDate(10, 0, 0), "Connect", "bad-future", nil)), code: http.StatusOK,
			counted: []string{`tocsin_ingest_event_time_fallbacks_total{source="push"}`},
			asks:    device("time = ingest_time, late", "bad-future"), stored: []string{"1", "false"},
		},
		{
			// Matched by a correlation's rule, whose windows it comes too late for.
			name: "24 hours late", code: http.StatusOK,
			send:    push(logLine(t, now.Add(-24*time.Hour), "Publish-In", "bad-late", map[string]any{"status": "Failure", "reason": "AUTHORIZATION_FAILURE"})),
			counted: []string{"tocsin_correlate_late_events_total"},
			asks:    device("late, dateDiff('hour', time, ingest_time)", "bad-late"), stored: []string{"true", "24"},
		},
		{
			name: "the same request twice", code: http.StatusOK,
			send: func() (int, string) {
				firehose(twice)()
				return firehose(twice)()
			},
			counted: []string{result("ok"), result("duplicate")},
			asks:    device("count()", "bad-duplicate"), stored: []string{"1"},
		},
		{
			name: "the same record in another request", send: record("bad-request-thrice", subscription(t, "2", now, line("bad-duplicate", nil))), code: http.StatusOK,
			counted: []string{result("ok")},
			asks:    device("count()", "bad-duplicate"), stored: []string{"1"},
		},
		{
			name: "no key", send: func() (int, string) { return r.post(t, r.target.EventsURL, "", strings.NewReader(`{"x":"bad-nokey"}`)) },
			code: http.StatusUnauthorized, says: "access key is missing", counted: []string{result("unauthorized")},
			asks: "SELECT count() FROM events_distinct WHERE position(message, 'bad-nokey') > 0", stored: []string{"0"},
		},
		{
			name: "wrong key to Firehose", code: http.StatusForbidden, says: "access key is wrong", counted: []string{result("forbidden")},
			send: func() (int, string) {
				return r.post(t, r.target.FirehoseURL, r.key+"x", bytes.NewReader(firehoseRecords(t, "bad-key", []byte(`{"x":"bad-wrongkey"}`))))
			},
			asks: "SELECT count() FROM events_distinct WHERE position(message, 'bad-wrongkey') > 0", stored: []string{"0"},
		},
		{
			// Never 413: Firehose would throw the data away.
			name: "body that is too long", send: push(append([]byte("bad-long "), letters(maxBody)...)), code: http.StatusBadRequest, says: "body is too large",
			counted: []string{result("too_large"), dead("push", "request_too_large")}, reason: "request_too_large", source: "push", raw: "bad-long",
		},
		{
			name: "slow client", send: func() (int, string) { return r.sendSlowly(t) }, code: http.StatusRequestTimeout, says: "did not arrive within 1s",
			counted: []string{result("slow")},
		},
		{
			name: "not POST", code: http.StatusMethodNotAllowed, says: "is not POST", counted: []string{result("method")},
			send: func() (int, string) {
				res, err := http.Get(r.target.EventsURL)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				b, _ := io.ReadAll(res.Body)
				return res.StatusCode, string(b)
			},
		},
	}

	// Something on time first, or nothing could be late.
	letTimePass(t, r.target, "before-bad-input")
	before := r.p.metrics()
	want := maps.Clone(before)
	for i, c := range cases {
		code, answer := c.send()
		if code != c.code || !strings.Contains(answer, c.says) {
			t.Errorf("%s: %d %.300s; want %d, %q", c.name, code, answer, c.code, c.says)
		}
		for _, sample := range c.counted {
			want[sample]++
		}
		r.push(t, logLine(t, now, "Connect", fmt.Sprintf("valid-%02d", i), nil))
	}

	s := r.store(t)
	s.becomes("SELECT uniqExact(device) FROM events_distinct WHERE startsWith(device, 'valid-')", fmt.Sprint(len(cases)))
	for _, c := range cases {
		if c.asks != "" {
			s.becomes(c.asks, c.stored...)
		}
	}
	eventually(t, "not all is counted", func() error {
		after := r.p.metrics()
		for name, value := range want {
			if value > before[name] && after[name] < value {
				return fmt.Errorf("%s grew by %g, want %g", name, after[name]-before[name], value-before[name])
			}
		}
		return nil
	})
	r.checkDeadLetters(t, cases)
	if metrics := r.p.metrics(); metrics["tocsin_firehose_in_flight_bytes"] != 0 {
		t.Errorf("%g bytes are still held", metrics["tocsin_firehose_in_flight_bytes"])
	}
}

// checkDeadLetters: tap shows every dead letter of the cases, and no other.
func (r *embeddedRun) checkDeadLetters(t *testing.T, cases []badCase) {
	type letter struct {
		Source, Origin, Reason, Error, Text string
		RawSize                             int `json:"raw_size"`
		used                                bool
	}
	var letters []*letter
	for _, l := range tapLines(t, r.p.says("embedded broker", "addresses"), "deadletter") {
		b, err := json.Marshal(l["dead_letter"])
		one := &letter{}
		if err == nil {
			err = json.Unmarshal(b, one)
		}
		if err != nil {
			t.Fatal(err)
		}
		letters = append(letters, one)
	}
	expected := 0
	for _, c := range cases {
		if c.reason == "" {
			continue
		}
		expected++
		found := false
		for _, l := range letters {
			if !l.used && !found && l.Reason == c.reason && l.Source == c.source && strings.Contains(l.Text, c.raw) {
				l.used, found = true, true
				if l.Error == "" || l.Origin == "" || l.RawSize == 0 {
					t.Errorf("%s: incomplete: %+v", c.name, l)
				}
			}
		}
		if !found {
			t.Errorf("%s: tap shows no dead letter of %s with reason %s and %q", c.name, c.source, c.reason, c.raw)
		}
	}
	for _, l := range letters {
		if !l.used {
			t.Errorf("a dead letter that nobody expected: %s %s %s %.100s", l.Source, l.Reason, l.Error, l.Text)
		}
	}
	r.store(t).becomes("SELECT count() FROM dead_letters FINAL", fmt.Sprint(expected))
}

// sendSlowly announces a body that it does not send.
func (r *embeddedRun) sendSlowly(t *testing.T) (int, string) {
	t.Helper()
	u, err := url.Parse(r.target.EventsURL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nX-Tocsin-Key: %s\r\nContent-Length: 1000\r\n\r\n{", u.Path, u.Host, r.key)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// letters is text that compression makes little of.
func letters(n int) string {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"[rng.IntN(64)]
	}
	return string(b)
}
