package firehose

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/tocsin-io/tocsin/ingest"
	"github.com/tocsin-io/tocsin/internal/accesskey"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	ok := func(name string, body []byte, headers []string, want ...string) {
		t.Helper()
		g := newRig(t, Options{})
		a := g.post(t, body, headers...)
		if a.status != http.StatusOK || a.RequestID != "id-1" {
			t.Errorf("%s: %+v", name, a)
		}
		if diff := cmp.Diff(want, g.data()); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
		if used := g.source.budget.used.Load(); used != 0 {
			t.Errorf("%s: %d bytes of the budget are not given back", name, used)
		}
	}
	id := []string{headerRequestID, "id-1"}
	ok("plain", request("id-1", "one", "two"), id, "one", "two")
	ok("gzip", gzipped(request("id-1", "one", "two")), append(id, "Content-Encoding", "gzip"), "one", "two")
	body := request("id-1", "one", "two")
	ok("gzip of two members", gzipped(body[:20], body[20:]), append(id, "Content-Encoding", "gzip"), "one", "two")
	ok("identity", body, append(id, "Content-Encoding", "identity"), "one", "two")
	ok("an empty record", request("id-1", "", "one", ""), id, "one")
	ok("only empty records", request("id-1", "", ""), id)
	ok("no records", []byte(`{"requestId":"id-1","records":[]}`), id)
	ok("without Firehose's headers", body, []string{headerProtocol, "", headerSourceARN, ""}, "one", "two")
	ok("common attributes", body, append(id, "X-Amz-Firehose-Common-Attributes", `{"commonAttributes":{"env":"prod"}}`), "one", "two")
	ok("the other key", body, append(id, headerAccessKey, "an older key"), "one", "two")
	big := strings.Repeat("0123456789", 100_000)
	ok("megabytes", gzipped(request("id-1", big, big, big)), append(id, "Content-Encoding", "gzip"), big, big, big)

	// note is the reason of the dead letter, if there must be one.
	bad := func(name string, body []byte, headers []string, status int, result, note string) {
		t.Helper()
		g := newRig(t, Options{MaxBodyBytes: 20_000, MaxInFlightBytes: 40_000})
		for range 3 { // Firehose repeats
			if a := g.post(t, body, headers...); a.status != status || a.RequestID != "id-1" {
				t.Errorf("%s: %+v, want status %d", name, a, status)
			}
		}
		if n := value(g.source.metrics.requests.WithLabelValues(result)); n != 3 {
			t.Errorf("%s: counted %v as %s, want 3", name, n, result)
		}
		var notes []string
		for _, d := range g.taken {
			if d.Reject == nil {
				t.Errorf("%s: published %q", name, d.Data)
				continue
			}
			notes = append(notes, d.Reject.Reason)
		}
		if (note == "") != (notes == nil) || note != "" && (len(notes) != 1 || notes[0] != note) {
			t.Errorf("%s: dead letters %q, want one %q", name, notes, note)
		}
		if used := g.source.budget.used.Load(); used != 0 {
			t.Errorf("%s: %d bytes of the budget are not given back", name, used)
		}
	}
	bad("no key", body, append(id, headerAccessKey, ""), 401, resultUnauthorized, "")
	bad("wrong key", body, append(id, headerAccessKey, testKey+"x"), 403, resultForbidden, "")
	bad("beginning of a key", body, append(id, headerAccessKey, testKey[:3]), 403, resultForbidden, "")
	bad("endless key", body, append(id, headerAccessKey, strings.Repeat("k", accesskey.MaxLength+1)), 403, resultForbidden, "")
	bad("protocol version", body, append(id, headerProtocol, "2.0"), 400, resultMalformed, "")
	bad("other id in the header", request("id-2"), id, 400, resultMalformed, "request_malformed")
	bad("not JSON", []byte("hello"), id, 400, resultMalformed, "request_malformed")
	bad("nothing", nil, id, 400, resultMalformed, "request_malformed")
	bad("cut off", body[:len(body)-1], id, 400, resultMalformed, "request_malformed")
	bad("not base64", []byte(`{"requestId":"id-1","records":[{"data":"b25l"},{"data":"***"}]}`), id, 400, resultMalformed, "request_malformed")
	bad("not gzip", body, append(id, "Content-Encoding", "gzip"), 400, resultMalformed, "request_malformed")
	cut := gzipped(body)
	bad("cut gzip", cut[:len(cut)-6], append(id, "Content-Encoding", "gzip"), 400, resultMalformed, "request_malformed")
	bad("brotli", body, append(id, "Content-Encoding", "br"), 400, resultMalformed, "request_malformed")
	bad("over-long", request("id-1", strings.Repeat("x", 20_000)), id, 400, resultTooLarge, "request_too_large")
	bad("gzip bomb", gzipped(make([]byte, 10<<20)), append(id, "Content-Encoding", "gzip"), 400, resultTooLarge, "request_too_large")
	bad("empty gzip members", bytes.Repeat(gzipped(nil), 5000), append(id, "Content-Encoding", "gzip"), 400, resultTooLarge, "request_too_large")
}

func TestMethods(t *testing.T) {
	g := newRig(t, Options{})
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		if a := g.send(t, method, DefaultPath, nil, headerAccessKey, testKey); a.status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %+v", method, a)
		}
	}
}

func TestDelivery(t *testing.T) {
	g := newRig(t, Options{MaxLanes: 1})
	g.post(t, request("id-1", "", "one"))
	g.post(t, request("id-2", "two"), headerSourceARN, "arn:aws:firehose:eu-west-1:111122223333:deliverystream/another")
	g.post(t, request("id-3", "three"), headerSourceARN, "arn:aws:firehose:eu-west-1:1:deliverystream/evil\tname")
	type seen struct{ Source, Lane, Origin, Account, Region string }
	var got []seen
	for _, d := range g.taken {
		got = append(got, seen{d.Source, d.Lane, d.Origin, d.Account, d.Region})
	}
	want := []seen{
		{"firehose", "firehose/iot-logs", "firehose/iot-logs/id-1#1", "111122223333", "eu-west-1"},
		{"firehose", "firehose/other", "firehose/another/id-2#0", "111122223333", "eu-west-1"},
		{"firehose", "firehose/other", "firehose/unknown/id-3#0", "", ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A request is answered only after the last acknowledgement, whatever their order.
func TestAnswersAfterAck(t *testing.T) {
	g := newRig(t, Options{})
	acks := make(chan func(error), 3)
	g.answer = func(d *ingest.Delivery) { acks <- d.Ack }
	answered := make(chan answer, 1)
	go func() { answered <- g.post(t, request("id-1", "a", "b", "c")) }()
	first, second, third := <-acks, <-acks, <-acks
	third(nil)
	first(nil)
	select {
	case a := <-answered:
		t.Fatalf("answered %+v before the last acknowledgement", a)
	case <-time.After(50 * time.Millisecond):
	}
	second(nil)
	if a := <-answered; a.status != http.StatusOK {
		t.Errorf("%+v", a)
	}
}

func TestNotAcknowledged(t *testing.T) {
	g := newRig(t, Options{})
	fail := true
	g.answer = func(d *ingest.Delivery) {
		if fail && string(d.Data) == "b" {
			d.Ack(errors.New("the broker is full"))
			return
		}
		d.Ack(nil)
	}
	body := request("id-1", "a", "b", "c")
	if a := g.post(t, body); a.status != http.StatusServiceUnavailable || !strings.Contains(a.Message, "the broker is full") {
		t.Errorf("%+v", a)
	}
	fail = false
	if a := g.post(t, body); a.status != http.StatusOK {
		t.Errorf("repetition: %+v", a)
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "a", "b", "c"}, g.data()); diff != "" {
		t.Error(diff)
	}
}

func TestPipelineRefuses(t *testing.T) {
	g := newRig(t, Options{})
	g.refuse = errors.New("stopping")
	if a := g.post(t, request("id-1", "a", "b")); a.status != http.StatusServiceUnavailable {
		t.Errorf("%+v", a)
	}
	if used := g.source.budget.used.Load(); used != 0 {
		t.Errorf("%d bytes of the budget are not given back", used)
	}
}

func TestRepetition(t *testing.T) {
	g := newRig(t, Options{CompletedIDs: 2})
	post := func(id, data string) {
		t.Helper()
		if a := g.post(t, request(id, data)); a.status != http.StatusOK || a.RequestID != id {
			t.Errorf("%s: %+v", id, a)
		}
	}
	post("id-1", "a")
	post("id-1", "a")
	post("id-1", "b") // the same ID for something else is not a repetition
	post("id-1", "b")
	post("id-2", "c") // forgets id-1 with a
	post("id-1", "a")
	if diff := cmp.Diff([]string{"a", "b", "c", "a"}, g.data()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if n := value(g.source.metrics.requests.WithLabelValues(resultDuplicate)); n != 2 {
		t.Errorf("counted %v duplicates, want 2", n)
	}
}

// A repetition while the first one is in flight shares its outcome.
func TestRepetitionInFlight(t *testing.T) {
	for _, outcome := range []error{nil, errors.New("no")} {
		g := newRig(t, Options{})
		acks := make(chan func(error), 1)
		g.answer = func(d *ingest.Delivery) { acks <- d.Ack }
		answered := make(chan answer, 2)
		post := func() { answered <- g.post(t, request("id-1", "a")) }
		go post()
		ack := <-acks
		go post()
		for value(g.source.metrics.records) < 2 {
			time.Sleep(time.Millisecond)
		}
		ack(outcome)
		want := http.StatusOK
		if outcome != nil {
			want = http.StatusServiceUnavailable
		}
		for range 2 {
			if a := <-answered; a.status != want {
				t.Errorf("outcome %v: %+v", outcome, a)
			}
		}
		if n := len(g.data()); n != 1 {
			t.Errorf("published %d times", n)
		}
	}
}

// What is acknowledged after the answer 503 is not published again.
func TestAckTimeout(t *testing.T) {
	g := newRig(t, Options{AckTimeout: 50 * time.Millisecond})
	acks := make(chan func(error), 1)
	g.answer = func(d *ingest.Delivery) { acks <- d.Ack }
	if a := g.post(t, request("id-1", "a")); a.status != http.StatusServiceUnavailable || !strings.Contains(a.Message, "within 50ms") {
		t.Errorf("%+v", a)
	}
	if used := g.source.budget.used.Load(); used == 0 {
		t.Error("the body is not accounted for any more while the pipeline has it")
	}
	(<-acks)(nil)
	if a := g.post(t, request("id-1", "a")); a.status != http.StatusOK {
		t.Errorf("repetition: %+v", a)
	}
	if n := len(g.data()); n != 1 {
		t.Errorf("published %d times", n)
	}
}

func TestOverload(t *testing.T) {
	refused := func(name string, opts Options, second []byte) {
		t.Helper()
		g := newRig(t, opts)
		acks := make(chan func(error), 2)
		g.answer = func(d *ingest.Delivery) { acks <- d.Ack }
		answered := make(chan answer, 1)
		go func() { answered <- g.post(t, request("id-1", strings.Repeat("x", 30_000))) }()
		ack := <-acks
		if a := g.post(t, second); a.status != http.StatusServiceUnavailable {
			t.Errorf("%s: %+v", name, a)
		}
		if n := value(g.source.metrics.requests.WithLabelValues(resultOverloaded)); n != 1 {
			t.Errorf("%s: counted %v overloads", name, n)
		}
		ack(nil)
		if a := <-answered; a.status != http.StatusOK {
			t.Errorf("%s: %+v", name, a)
		}
		g.answer = nil
		if a := g.post(t, second); a.status != http.StatusOK {
			t.Errorf("%s: afterwards %+v", name, a)
		}
	}
	refused("bytes", Options{MaxBodyBytes: 100_000, MaxInFlightBytes: 100_000}, request("id-2", strings.Repeat("y", 50_000)))
	refused("requests", Options{MaxRequests: 1}, request("id-2", "y"))
}

// The deadline for the body is not one for the acknowledgement.
func TestSlowAckAfterFastBody(t *testing.T) {
	g := newRig(t, Options{BodyTimeout: 50 * time.Millisecond})
	g.answer = func(d *ingest.Delivery) { time.AfterFunc(200*time.Millisecond, func() { d.Ack(nil) }) }
	if a := g.post(t, request("id-1", "a")); a.status != http.StatusOK {
		t.Errorf("%+v", a)
	}
}

// Neither a key nor the lack of one lets a client hold a connection open.
func TestSlowClient(t *testing.T) {
	for key, status := range map[string]string{testKey: "408", "wrong": "403"} {
		g := newRig(t, Options{BodyTimeout: 50 * time.Millisecond})
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\n%s: %s\r\nContent-Length: 1000\r\n\r\n{", DefaultPath, headerAccessKey, key)
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		reply, err := io.ReadAll(conn)
		if err != nil || !bytes.HasPrefix(reply, []byte("HTTP/1.1 "+status)) {
			t.Errorf("%v: %s", err, reply)
		}
		if used := g.source.budget.used.Load(); used != 0 {
			t.Errorf("%d bytes of the budget are not given back", used)
		}
	}
}

func TestClientGoesAway(t *testing.T) {
	g := newRig(t, Options{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\n%s: %s\r\nContent-Length: 1000\r\n\r\n{", DefaultPath, headerAccessKey, testKey)
	conn.Close()
	aborted := g.source.metrics.requests.WithLabelValues(resultAborted)
	for range 500 {
		if value(aborted) == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if value(aborted) != 1 || len(g.data()) != 0 {
		t.Errorf("counted %v, dead letters %q", value(aborted), g.data())
	}
}

func TestEvents(t *testing.T) {
	g := newRig(t, Options{})
	ok := func(body []byte, header, value string, want ...string) {
		t.Helper()
		g.taken = nil
		if a := g.send(t, http.MethodPost, DefaultEventsPath, body, header, value); a.status != http.StatusOK {
			t.Errorf("%+v", a)
		}
		if diff := cmp.Diff(want, g.data()); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		for _, d := range g.taken {
			if d.Source != "push" || d.Lane != "push" || d.Origin != "push/v1/events" {
				t.Errorf("%+v", d)
			}
		}
	}
	ok([]byte(`{"a":1}`), headerEventsKey, testKey, `{"a":1}`)
	ok([]byte("{\"a\":1}\n{\"a\":2}\n"), "Authorization", "Bearer "+testKey, "{\"a\":1}\n{\"a\":2}\n")
	zipped := gzipped([]byte("x"))
	ok(zipped, headerEventsKey, testKey, string(zipped)) // the decoder's business
	ok([]byte(" \n"), headerEventsKey, testKey)
	for header, want := range map[string]int{headerAccessKey: 401, "Authorization": 403} {
		if a := g.send(t, http.MethodPost, DefaultEventsPath, []byte("x"), header, "Bearer wrong"); a.status != want {
			t.Errorf("%s: %+v", header, a)
		}
	}
}

// AWS IoT asks without a key whether it may send; the operator finds the answer
// in the log, and only AWS's own URLs get there.
func TestConfirmation(t *testing.T) {
	core, logged := observer.New(zap.WarnLevel)
	g := newRig(t, Options{Logger: zap.New(core)})
	f := func(path, url string, status, lines int) {
		t.Helper()
		body := fmt.Sprintf(`{"arn":"arn:aws:iot:us-east-1:123456789012:ruledestination/http/x","confirmationToken":"t","enableUrl":%q,"messageType":"DestinationConfirmation"}`, url)
		if a := g.send(t, http.MethodPost, path, []byte(body), headerRulesEngine, confirmation); a.status != status {
			t.Errorf("%s, %s: %+v", path, url, a)
		}
		if n := logged.FilterField(zap.String("enable_url", url)).Len(); n != lines {
			t.Errorf("%s: %d lines in the log, want %d", url, n, lines)
		}
	}
	f(DefaultEventsPath, "https://iot.us-east-1.amazonaws.com/confirmdestination/abc", 200, 1)
	f(DefaultEventsPath+"/?confirmationToken=t", "https://iot.cn-north-1.amazonaws.com.cn/confirmdestination/abc", 200, 1)
	f(DefaultEventsPath, "https://iot.us-east-1.amazonaws.com.evil.example/confirmdestination/abc", 400, 0)
	f(DefaultEventsPath, "https://evil.example/?iot.us-east-1.amazonaws.com/confirmdestination/abc", 400, 0)
	f(DefaultEventsPath, "http://iot.us-east-1.amazonaws.com/confirmdestination/abc", 400, 0)
	f(DefaultEventsPath, "https://user@iot.us-east-1.amazonaws.com/confirmdestination/abc", 400, 0)
	f(DefaultEventsPath, "", 400, 0)
	if a := g.send(t, http.MethodPost, DefaultEventsPath, []byte("{"), headerRulesEngine, confirmation); a.status != 400 {
		t.Errorf("not JSON: %+v", a)
	}
	if len(g.taken) > 0 {
		t.Errorf("published %q", g.data())
	}
}

func TestOptions(t *testing.T) {
	bad := func(opts Options, want string) {
		t.Helper()
		if _, err := New(opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	bad(Options{}, "no access key")
	bad(Options{AccessKeys: []string{"a", " "}}, "empty")
	bad(Options{AccessKeys: []string{"a"}, Anonymous: true}, "one or the other")
	bad(Options{AccessKeys: []string{"a"}, Path: "x"}, "does not begin with /")
	bad(Options{AccessKeys: []string{"a"}, Path: "/v1/events"}, "are both")
	bad(Options{AccessKeys: []string{"a"}, MaxBodyBytes: 1 << 30}, "at least max body bytes")
	bad(Options{AccessKeys: []string{"a"}, AckTimeout: 3 * time.Minute}, "less than 3m")
}

// Run stops with ctx, and lets what is in flight finish.
func TestRun(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{AccessKeys: []string{testKey}, Listener: listener})
	if err != nil {
		t.Fatal(err)
	}
	acks := make(chan func(error), 1)
	p := &taker{answer: func(d *ingest.Delivery) { acks <- d.Ack }}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, p.hand) }()
	g := &rig{p, s, "http://" + listener.Addr().String()}
	answered := make(chan answer, 1)
	go func() { answered <- g.post(t, request("id-1", "a")) }()
	ack := <-acks
	cancel()
	select {
	case err := <-ended:
		t.Fatalf("ended with a request in flight: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	ack(nil)
	if a := <-answered; a.status != http.StatusOK {
		t.Errorf("%+v", a)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}

// The deadline of stopping holds for requests that nobody acknowledges.
func TestRunStopTimeout(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{AccessKeys: []string{testKey}, Listener: listener, StopTimeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	taken := make(chan struct{})
	p := &taker{answer: func(*ingest.Delivery) { close(taken) }}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, p.hand) }()
	client := make(chan struct{})
	go func() {
		defer close(client)
		req, _ := http.NewRequest(http.MethodPost, "http://"+listener.Addr().String()+DefaultPath, bytes.NewReader(request("id-1", "a")))
		req.Header.Set(headerAccessKey, testKey)
		if res, err := http.DefaultClient.Do(req); err == nil {
			if res.StatusCode == http.StatusOK {
				t.Error("answered 200 without an acknowledgement")
			}
			res.Body.Close()
		}
	}()
	<-taken
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	<-client
	http.DefaultClient.CloseIdleConnections()
}

// AWS's example of a request and of an answer, structure and all.
func TestExample(t *testing.T) {
	g := newRig(t, Options{})
	body := `{"requestId":"ed4acda5-034f-9f42-bba1-f29aea6d7d8f","timestamp":1578090901599,"records":[{"data":"` +
		base64.StdEncoding.EncodeToString(gzipped([]byte(`{"messageType":"CONTROL_MESSAGE"}`))) + `"},{"data":"aGVsbG8gd29ybGQ="}]}`
	a := g.post(t, []byte(body), headerRequestID, "ed4acda5-034f-9f42-bba1-f29aea6d7d8f")
	if a.status != http.StatusOK || a.RequestID != "ed4acda5-034f-9f42-bba1-f29aea6d7d8f" || a.Message != "" {
		t.Errorf("%+v", a)
	}
	if got := g.data(); len(got) != 2 || got[1] != "hello world" || !strings.HasPrefix(got[0], "\x1f\x8b") {
		t.Errorf("%q", got)
	}
}
