package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/internal/simulate"
	"github.com/tocsin-io/tocsin/schemas"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files in testdata")

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

func testReport() *demoReport {
	start := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	finding := func(uid, title, device string, minutes, count int) simulate.Detection {
		at := start.Add(time.Duration(minutes) * time.Minute)
		return simulate.Detection{
			Finding: &schemas.Finding{
				EndTime: at.UnixMilli(), Count: int64(count), SeverityID: 4, Severity: "High", Message: title + ", " + device,
				FindingInfo: schemas.FindingInfo{UID: uid, Title: title}, Device: &schemas.FindingDevice{UID: device},
				Evidences: []schemas.Evidence{{Data: schemas.EvidenceData{EventType: "Publish-In"}}, {Data: schemas.EvidenceData{EventType: "Publish-In"}}},
			},
			Received: at.Add(time.Hour),
		}
	}
	labels := []simulate.Label{
		{Attack: "publish flood", Devices: []string{"pump-00001"}, Start: start, End: start.Add(10 * time.Minute)},
		{Attack: "logging off", Accounts: []string{"111122223333"}, Start: start, End: start.Add(10 * time.Minute)},
	}
	return &demoReport{
		score: simulate.NewScore(labels, []simulate.Detection{
			finding("a", "Device publishes far above a normal rate", "pump-00001", 1, 600),
			finding("b", "Something else", "pump-00001", 2, 1),
			finding("c", "Device flaps", "sensor-00007", 3, 12),
		}, nil),
		totals:  simulate.Totals{Events: 1_234_600, Distinct: 1_234_567},
		devices: 2000, span: 30 * time.Minute, playing: 25 * time.Second, stored: 1_234_567,
		answers: []demoAnswer{{
			demoQuery: demoQuery{Question: "Which devices?", SQL: "SELECT device, times\nFROM t"},
			Columns:   []string{"device", "times"}, Rows: [][]string{{"pump-00001", "900"}, {"sensor-00007", "3"}},
			Millis: 12, numeric: []bool{false, true},
		}},
	}
}

func TestDemoReport(t *testing.T) {
	r := testReport()
	if r.ok() {
		t.Error("an attack was missed and a benign device accused, and all is well?")
	}
	var b bytes.Buffer
	if err := r.write(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/demo.txt", b.String())
	b.Reset()
	if err := r.writeJSON(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/demo.json", b.String())

	r.score = simulate.NewScore(nil, nil, nil)
	if !r.ok() {
		t.Error("nothing missed, nobody accused, and not ok")
	}
}

func TestTable(t *testing.T) {
	tab := table{head: []string{"a", "number", "c"}, right: []bool{false, true, false}}
	tab.add("x", "1", strings.Repeat("y", 100))
	tab.add("longer", "12345", "é")
	var b bytes.Buffer
	if err := tab.write(&b); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"  a       number  c\n" +
		"  ------  ------  " + strings.Repeat("-", maxCell) + "\n" +
		"  x            1  " + strings.Repeat("y", maxCell-3) + "...\n" +
		"  longer   12345  é\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 12: "12", 999: "999", 1000: "1,000", 12345: "12,345", 123456: "123,456", 1234567: "1,234,567", -1: "-1", -1234: "-1,234"} {
		if got := grouped(n); got != want {
			t.Errorf("%d: got %s", n, got)
		}
	}
}

func TestReceiver(t *testing.T) {
	r, err := newReceiver()
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	post := func(id, body, signature string) int {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, r.url(), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("webhook-id", id)
		req.Header.Set("webhook-timestamp", "1614265330")
		req.Header.Set("webhook-signature", signature)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	// The vector of the Standard Webhooks reference libraries.
	r.key, err = base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	if code := post("msg_p5jXN8AQM9LWM0D4loKWxJek", `{"test": 2432232314}`, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="); code != http.StatusBadRequest {
		t.Errorf("signed, but no finding: got %d", code)
	}
	if r.rejected != 1 {
		t.Errorf("%d rejected", r.rejected)
	}
	body := func(kind, uid string) string {
		b, err := json.Marshal(map[string]any{"type": kind, "data": schemas.Finding{FindingInfo: schemas.FindingInfo{UID: uid}}})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	created := body(schemas.WebhookDetectionCreated, "d1")
	if code := post("1", created, "v1,bm90IHRoZSBzaWduYXR1cmU="); code != http.StatusBadRequest || len(r.received()) != 0 {
		t.Errorf("a wrong signature: got %d", code)
	}
	sign := func(id, body string) string {
		mac := hmac.New(sha256.New, r.key)
		mac.Write([]byte(id + ".1614265330." + body))
		return "v1,AAAA v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	for range 2 { // the second one is a retry
		if code := post("1", created, sign("1", created)); code != http.StatusNoContent {
			t.Errorf("got %d", code)
		}
	}
	closed := body(schemas.WebhookDetectionClosed, "d1")
	if code := post("2", closed, sign("2", closed)); code != http.StatusNoContent {
		t.Errorf("got %d", code)
	}
	if got := r.received(); len(got) != 1 || got[0].Finding.FindingInfo.UID != "d1" {
		t.Errorf("got %v", got)
	}
}

func TestProgressWithoutTerminal(t *testing.T) {
	var b bytes.Buffer
	p := newProgress(&b)
	for i := range 100 {
		p.show(fmt.Sprint("step ", i))
	}
	p.end("done")
	if b.String() != "step 0\ndone\n" {
		t.Errorf("got %q", b.String())
	}
}

func TestProgressOnTerminal(t *testing.T) {
	var b bytes.Buffer
	p := &progress{w: &b, tty: true}
	p.show("a long line")
	p.show("short")
	p.end("end")
	if want := "\ra long line\rshort      \rend  \n"; b.String() != want {
		t.Errorf("got %q", b.String())
	}
}
