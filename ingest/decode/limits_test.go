package decode

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/ingest/identity"
	"github.com/tocsin-io/tocsin/schemas"
)

func TestGzipFaults(t *testing.T) {
	whole := zip([]byte(subscription(publish, publish)))
	crc := bytes.Clone(whole)
	crc[len(crc)-6] ^= 1
	header := bytes.Clone(whole)
	header[3] = 0xff
	tests := map[string][]byte{
		"cut in the header":          whole[:5],
		"cut in the data":            whole[:len(whole)/2],
		"cut in the trailer":         whole[:len(whole)-1],
		"wrong checksum":             crc,
		"bad header":                 header,
		"second member cut":          append(bytes.Clone(whole), whole[:20]...),
		"something after the member": append(bytes.Clone(whole), "xyz"...),
	}
	d := New(Options{})
	for name, payload := range tests {
		got := run(d, payload, Hints{})
		if len(got.Events) != 0 || len(got.Rejections) != 1 {
			t.Errorf("%s: %d events and %v, want one rejection", name, len(got.Events), got.reasons())
			continue
		}
		if r := got.Rejections[0]; r.Reason != ReasonGzip || !bytes.Equal(r.Raw, payload) {
			t.Errorf("%s: rejected as %s (%v), with the payload: %v", name, r.Reason, r.Err, bytes.Equal(r.Raw, payload))
		}
		// And the reader works again.
		if got := run(d, whole, Hints{}); len(got.Events) != 2 {
			t.Errorf("after %s: %d events, want 2", name, len(got.Events))
		}
	}
}

func TestGzipBomb(t *testing.T) {
	spaces := bytes.Repeat([]byte{' '}, 1<<20)
	var members [][]byte
	for range 64 {
		members = append(members, spaces)
	}
	bomb := zip(members...)
	tests := map[string]struct {
		payload []byte
		limit   int64
		reason  Reason
	}{
		"one layer":          {bomb, 8 << 20, ReasonTooLarge},
		"two layers":         {zip(bomb), 8 << 20, ReasonTooLarge},
		"at the limit":       {zip(members[:8]...), 8 << 20, ""},
		"one over the limit": {zip(append(members[:8:8], []byte("x"))...), 8 << 20, ReasonTooLarge},
		"in base64":          {fmt.Appendf(nil, `{"awslogs":{"data":"%s"}}`, bytes.Repeat([]byte("AAAA"), 1000)), 2000, ReasonTooLarge},
	}
	for name, test := range tests {
		d := New(Options{MaxInflated: test.limit})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got := run(d, test.payload, Hints{})
		runtime.ReadMemStats(&after)
		var reason Reason
		if len(got.Rejections) > 0 {
			reason = got.Rejections[0].Reason
		}
		if reason != test.reason || len(got.Events) != 0 {
			t.Errorf("%s: %d events and %v, want %q", name, len(got.Events), got.reasons(), test.reason)
		}
		// Buffers double up to the limit: their sum is less than three times that.
		if used := after.TotalAlloc - before.TotalAlloc; used > 3*uint64(test.limit)+4<<20 {
			t.Errorf("%s: allocated %d bytes with a limit of %d", name, used, test.limit)
		}
	}
	layers := []byte(publish)
	for range 20 {
		layers = zip(layers)
	}
	got := run(New(Options{}), layers, Hints{})
	if len(got.Rejections) != 1 || got.Rejections[0].Reason != ReasonTooDeep {
		t.Errorf("20 layers of gzip: %d events and %v, want %s", len(got.Events), got.reasons(), ReasonTooDeep)
	}
	envelope := publish
	for range 20 {
		envelope = sns(envelope)
		if len(envelope) > 1<<20 {
			break
		}
	}
	got = run(New(Options{}), []byte(envelope), Hints{})
	if len(got.Events) != 0 || len(got.Rejections) != 1 || got.Rejections[0].Reason != ReasonTooDeep {
		t.Errorf("SNS in SNS: %d events and %v, want %s", len(got.Events), got.reasons(), ReasonTooDeep)
	}
}

func TestMessageSize(t *testing.T) {
	fits := strings.Repeat("x", DefaultMaxMessage)
	got := run(New(Options{}), []byte(subscription(fits, fits+"x", publish)), Hints{})
	if len(got.Events) != 2 || string(got.Events[0].Message) != fits || string(got.Events[1].Message) != publish {
		t.Errorf("%d events, want the message of 1 MiB and the one after it", len(got.Events))
	}
	if len(got.Rejections) != 1 || got.Rejections[0].Reason != ReasonMessageTooLarge || len(got.Rejections[0].Raw) != len(fits)+1 {
		t.Errorf("rejections %v, want one of %d bytes", got.reasons(), len(fits)+1)
	}
}

func TestTexts(t *testing.T) {
	long := strings.Repeat("é", MaxText)
	tests := []struct {
		clientID, want string
		cut            int
	}{
		{`"` + strings.Repeat("x", MaxText) + `"`, strings.Repeat("x", MaxText), 0},
		{`"` + strings.Repeat("x", MaxText+1) + `"`, strings.Repeat("x", MaxText), 1},
		{`"x` + long + `"`, "x" + long[:MaxText-2], 1}, // never through a rune
		{`"` + strings.Repeat(`\u00e9`, MaxText) + `"`, long[:MaxText], 1},
		{`"` + strings.Repeat(`\ud83d\ude00`, 200000) + `"`, strings.Repeat("😀", MaxText/4), 1},
		{"\"a\xffb\xc3\"", "a\ufffdb\ufffd", 0},
		{"\"" + strings.Repeat("\xff", 5000) + "\"", strings.Repeat("\ufffd", MaxText/3), 1},
		{"\"\\n\xff\"", "\n\ufffd", 0},
		{`"N\/A"`, "", 0},
		{`123.50`, "123.50", 0},
		{`true`, "", 0},
	}
	for _, test := range tests {
		line := `{"logLevel":"INFO","eventType":"Connect","clientId":` + test.clientID + `}`
		got := run(New(Options{MaxMessage: 4 << 20}), []byte(line), Hints{})
		if len(got.Events) != 1 {
			t.Fatalf("%.60s: %v", line, got.reasons())
		}
		ev := got.Events[0]
		if string(ev.ClientID) != test.want || got.Stats.CutTexts != test.cut {
			t.Errorf("%.60s: client ID %.60q of %d bytes, %d cut; want %d bytes, %d cut", test.clientID, ev.ClientID, len(ev.ClientID), got.Stats.CutTexts, len(test.want), test.cut)
		}
		if string(ev.Message) != line {
			t.Errorf("%.60s: the message was changed", test.clientID)
		}
	}
}

func TestHints(t *testing.T) {
	clock := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	d := New(Options{Account: "default-account", Region: "default-region", Now: func() time.Time { return clock }})
	var got []string
	for _, hints := range []Hints{{}, {Account: "a"}, {Region: "r"}, {Account: "a", Region: "r", Received: received}} {
		d.Decode([]byte("text"), hints, func(ev *schemas.Event) {
			got = append(got, fmt.Sprintf("%s %s %v %v", ev.Account, ev.Region, ev.IngestTime == clock.UnixMilli(), ev.Time == ev.IngestTime))
		}, func(Rejection) {})
	}
	want := []string{"default-account default-region true true", "a default-region true true", "default-account r true true", "a r false true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Each broken value costs a scan: nested to the limit on many lines, they would
// cost a thousand times their length.
func TestManyBrokenValues(t *testing.T) {
	payload := bytes.Repeat([]byte("{\"a\":\n"), 200000)
	start := time.Now()
	got := run(New(Options{}), payload, Hints{})
	if len(got.Rejections) != maxBroken {
		t.Errorf("%d rejections, want %d", len(got.Rejections), maxBroken)
	}
	size := 0
	for _, r := range got.Rejections {
		size += len(r.Raw)
	}
	if size != len(payload) {
		t.Errorf("%d bytes were rejected of %d", size, len(payload))
	}
	t.Logf("took %v", time.Since(start))
}

// What the decoder keeps between payloads must not grow with the largest of them.
func TestBuffersAreReleased(t *testing.T) {
	d := New(Options{MaxMessage: 64 << 20})
	huge := strings.Repeat("y", maxKept+1)
	run(d, zip([]byte(subscription(huge))), Hints{})
	for i := range d.levels {
		if n := max(cap(d.levels[i].buf), cap(d.levels[i].message)); n > maxKept {
			t.Errorf("level %d keeps %d bytes", i, n)
		}
	}
}

func TestNoAllocationPerEvent(t *testing.T) {
	refused := strings.Replace(publish, "pump-1", `pump \"1\"`, 1)
	mixed := subscription(publish, refused, connected, finding, trail, strings.Replace(trail, "192.0.2.44", "iot.amazonaws.com", 1), eventBridge("x", "y", finding), orderEvent, violation, audit, "text")
	for name, payload := range map[string][]byte{
		"subscription":  []byte(mixed),
		"gzip":          zip([]byte(mixed)),
		"SNS":           []byte(sns(finding)),
		"lines":         []byte(publish + "\n" + trail + "\ntext\n" + finding),
		"CloudTrail":    []byte(`{"Records":[` + trail + `,` + trail + `]}`),
		"other members": []byte(strings.Replace(mixed, `"messageType":"DATA_MESSAGE",`, "", 1)[:len(mixed)-len(`"messageType":"DATA_MESSAGE",`)-1] + `,"messageType":"DATA_MESSAGE"}`),
	} {
		d := New(Options{Bindings: identity.NewBindings(0)})
		var batch schemas.BatchEncoder
		emit := func(ev *schemas.Event) { batch.Append(ev, "lane") }
		reject := func(r Rejection) { t.Errorf("%s: %v", name, r.Err) }
		n := testing.AllocsPerRun(50, func() {
			batch.Reset()
			d.Decode(payload, Hints{Received: received}, emit, reject)
		})
		if n != 0 || batch.Len() == 0 {
			t.Errorf("%s: %v allocations for %d events", name, n, batch.Len())
		}
	}
}

// FuzzDecode: nothing panics, everything is emitted or rejected, and what is
// emitted can be relied on.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"", publish, finding, trail, connected, violation, audit, control, orderEvent, subscription(publish, finding, trail, "text"),
		sns(finding), sns(subscription(publish)), eventBridge("x", "y", trail), `{"Records":[` + trail + `,1]}`, `{"awslogs":{"data":"H4sIAAAAAAAAAwMAAAAAAAAAAAA="}}`,
		"[" + publish + ",1]", "text\n{\"a\":\n{}", "\x00\x01", `{"logEvents":[{"id":1,"message":"x"}],"messageType":"DATA_MESSAGE","logGroup":"g"}`,
	} {
		f.Add([]byte(seed))
		f.Add(zip([]byte(seed)))
	}
	bindings := identity.NewBindings(16)
	d := New(Options{MaxInflated: 1 << 20, MaxMessage: 1 << 16, Bindings: bindings})
	f.Fuzz(func(t *testing.T, data []byte) {
		first := check(t, d, data)
		// A fresh decoder says the same, but for devices that d has learnt.
		second := check(t, New(Options{MaxInflated: 1 << 20, MaxMessage: 1 << 16}), data)
		if len(first.Events) != len(second.Events) || first.Stats != second.Stats {
			t.Fatalf("a used decoder says %+v, a fresh one %+v", first.Stats, second.Stats)
		}
		for i := range first.Events {
			if first.Events[i].ID != second.Events[i].ID || !bytes.Equal(first.Events[i].Message, second.Events[i].Message) {
				t.Fatalf("event %d is %v or %v", i, first.Events[i].ID, second.Events[i].ID)
			}
		}
	})
}

func check(t *testing.T, d *Decoder, data []byte) result {
	t.Helper()
	r := run(d, data, Hints{})
	s := r.Stats
	if s.Events != len(r.Events) || s.Rejected != len(r.Rejections) {
		t.Fatalf("stats %+v for %d events and %d rejections", s, len(r.Events), len(r.Rejections))
	}
	if s.Events+s.Rejected+s.Control+s.Empty == 0 {
		t.Fatal("nothing came of it")
	}
	if !isGzip(data) && s.Events+s.Rejected+s.Control == 0 && len(bytes.Trim(data, " \r\n\t")) > 0 && !bytes.ContainsAny(data, "[{\xbf") {
		t.Fatal("what is not white space was taken as empty")
	}
	for _, ev := range r.Events {
		if ev.ID == (schemas.EventID{}) || len(ev.Device) == 0 || len(ev.Source) == 0 || ev.IngestTime != received.UnixMilli() ||
			ev.Time < earliest || ev.Time > received.Add(DefaultMaxFuture).UnixMilli() || len(ev.Message) > d.opts.MaxMessage {
			t.Fatalf("bad event %+v", viewOf(ev))
		}
		for _, text := range [][]byte{ev.Source, ev.Type, ev.Account, ev.Region, ev.Device, ev.ClientID, ev.ThingName, ev.CertificateID, ev.SourceIP, ev.RoleSession} {
			if !utf8.Valid(text) || len(text) > MaxText+len("account:") {
				t.Fatalf("bad text %q in %+v", text, viewOf(ev))
			}
		}
		if n := len(ev.CertificateID); n != 0 && n != identity.CertificateIDLen {
			t.Fatalf("bad certificate ID %q", ev.CertificateID)
		}
	}
	for _, rej := range r.Rejections {
		if rej.Err == nil || !knownReason(rej.Reason) {
			t.Fatalf("bad rejection %+v", rej)
		}
	}
	return r
}

func knownReason(r Reason) bool {
	for _, known := range Reasons {
		if r == known {
			return true
		}
	}
	return false
}

// FuzzLogMessage: whatever a log line holds, it becomes one event, with all of it
// or with the record in it.
func FuzzLogMessage(f *testing.F) {
	for _, seed := range []string{"", " ", "text", publish, finding, trail, eventBridge("x", "y", trail), "{", "{}", "\x00", "\"", "\\u0041"} {
		f.Add(seed)
	}
	d := New(Options{})
	f.Fuzz(func(t *testing.T, line string) {
		line = strings.ToValidUTF8(line, "?") // JSON has no other strings
		if len(line) > 1<<16 {
			return
		}
		r := check(t, d, []byte(subscription(line, publish)))
		if len(r.Events) != 2 || len(r.Rejections) != 0 {
			t.Fatalf("%d events, rejections %v", len(r.Events), r.reasons())
		}
		if message := string(r.Events[0].Message); message != line && (message == "" || !strings.Contains(line, message)) {
			t.Fatalf("message %q of line %q", message, line)
		}
		if string(r.Events[1].Message) != publish {
			t.Fatal("the line after it was changed")
		}
	})
}

func TestParseTime(t *testing.T) {
	want := time.Date(2024, 2, 29, 23, 59, 58, 476e6, time.UTC)
	whole := want.Truncate(time.Second)
	tests := []struct {
		json string
		want time.Time
	}{
		{`"2024-02-29 23:59:58.476"`, want},
		{`"2024-02-29T23:59:58.476Z"`, want},
		{`"2024-02-29T23:59:58.476999999Z"`, want},
		{`"2024-02-29T23:59:58Z"`, whole},
		{`"2024-02-29T23:59:58"`, whole},
		{`"2024-02-29T23:59:58.4Z"`, whole.Add(400 * time.Millisecond)},
		{`"2024-03-01T01:29:58+01:30"`, whole},
		{`"2024-02-29T22:59:58-0100"`, whole},
		{`"2024-02-29T22:59:58-01"`, whole},
		{`1709251198`, whole},
		{`1709251198.476`, want},
		{`1709251198.4769`, want},
		{`1709251198476`, want},
		{`1709251198476000`, want},
		{`1709251198476000000`, want},
		{`"1709251198476"`, want},
		{`"2024-02-29"`, time.Time{}},
		{`"2024-13-01 00:00:00"`, time.Time{}},
		{`"2024-01-01 25:00:00"`, time.Time{}},
		{`"2024-01-01 00:00:00 UTC"`, time.Time{}},
		{`"2024-01-01 00:00:00+1"`, time.Time{}},
		{`"2024-01-01 00:00:00+01:0"`, time.Time{}},
		{`"2024-0x-01 00:00:00"`, time.Time{}},
		{`""`, time.Time{}},
		{`-5`, time.Time{}},
		{`1e9`, time.Time{}},
		{`99999999999999999999999`, time.Time{}},
		{`true`, time.Time{}},
		{`{}`, time.Time{}},
	}
	parse := func(json string) (int64, bool) {
		var rec record
		d := New(Options{})
		s := &d.levels[0].scan
		text := []byte(`{"time":` + json + `}`)
		s.Reset(text)
		if !rec.scan(s, text) {
			t.Fatal(s.Err())
		}
		return ParseTime(rec.get(fTime))
	}
	for _, test := range tests {
		ms, ok := parse(test.json)
		if ok != !test.want.IsZero() || ok && ms != test.want.UnixMilli() {
			t.Errorf("ParseTime(%s) = %v, %v; want %v", test.json, time.UnixMilli(ms).UTC(), ok, test.want)
		}
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		at := time.UnixMilli(rng.Int64N(7_258_118_400_000)).UTC() // to the year 2200
		for _, layout := range []string{"2006-01-02 15:04:05.000", time.RFC3339Nano} {
			if ms, ok := parse(`"` + at.Format(layout) + `"`); !ok || ms != at.UnixMilli() {
				t.Fatalf("%v parsed as %d, %v", at, ms, ok)
			}
		}
	}
}
