package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"

	"github.com/tocsin-io/tocsin/correlate"
	"github.com/tocsin-io/tocsin/ingest/decode"
	"github.com/tocsin-io/tocsin/internal/config"
	"github.com/tocsin-io/tocsin/internal/simulate"
	"github.com/tocsin-io/tocsin/schemas"
)

// fleet is a simulated fleet with its attacks, and the events that it makes.
type fleet struct {
	opts   simulate.Options
	labels []simulate.Label
	events map[string]bool // IDs, in hex
	end    time.Time
}

// theFleet is played by several tests. It lies two hours back, so that later
// events can let time pass and every detection come to its end.
var theFleet = sync.OnceValues(func() (*fleet, error) {
	return newFleet(simulate.Options{
		Seed: 21, Devices: 250, Duration: 10 * time.Minute, Attacks: true,
		Start: time.Now().Add(-2 * time.Hour).Truncate(time.Second),
	})
})

// newFleet takes all that the fleet sends through the decoder, which knows
// nothing of Kafka, processes and restarts.
func newFleet(opts simulate.Options) (*fleet, error) {
	sim, err := simulate.New(opts)
	if err != nil {
		return nil, err
	}
	f := &fleet{opts: opts, labels: sim.Labels(), events: map[string]bool{}, end: sim.End()}
	decoder := decode.New(decode.Options{})
	rejected := 0
	sub, err := simulate.NewSubscription(opts.Seed, simulate.LogOptions{}, func(p simulate.Payload) error {
		decoder.Decode(p.Data, decode.Hints{}, func(ev *schemas.Event) { f.events[ev.ID.String()] = true },
			func(decode.Rejection) { rejected++ })
		return nil
	})
	if err != nil {
		return nil, err
	}
	for records := sim.Step(); records != nil; records = sim.Step() {
		for i := range records {
			if err := sub.Add(&records[i]); err != nil {
				return nil, err
			}
		}
	}
	if err := sub.Flush(); err != nil {
		return nil, err
	}
	if rejected > 0 {
		return nil, fmt.Errorf("%d records of the simulator cannot be decoded", rejected)
	}
	return f, nil
}

// undisturbed returns the detections, as detectionKey writes them, that the
// correlator's engine finds when it sees the stored events in order, without
// Kafka, partitions and restarts: detections are a function of the set of
// events, so the pipeline must have found the same whatever happened to it.
func (f *fleet) undisturbed(s store) ([]string, error) {
	set, _, err := loadRules(&config.Correlate{Builtin: true})
	if err != nil {
		return nil, err
	}
	final := map[string]*schemas.Finding{}
	replay := correlate.NewReplay(set, correlate.ReplayOptions{
		Windows: correlate.WindowOptions{Lateness: time.Hour, MaxGroups: 1 << 20, MaxEvents: 1 << 24}, Reorder: 1 << 20,
	}, func(d *schemas.Finding) { final[d.FindingInfo.UID] = d })
	rows, err := s.ask(`SELECT lower(replaceAll(toString(id), '-', '')), toUnixTimestamp64Milli(time), source, event_type, account, region, device,
		client_id, thing_name, certificate_id, source_ip, role_session, outcome, base64Encode(message) FROM events_distinct WHERE ` + f.during("time"))
	if err != nil {
		return nil, err
	}
	outcomes := map[string]schemas.Outcome{}
	for _, o := range []schemas.Outcome{schemas.OutcomeUnknown, schemas.OutcomeSuccess, schemas.OutcomeFailure} {
		outcomes[o.String()] = o
	}
	for _, r := range rows {
		ev := schemas.Event{
			Source: []byte(r[2]), Type: []byte(r[3]), Account: []byte(r[4]), Region: []byte(r[5]), Device: []byte(r[6]),
			ClientID: []byte(r[7]), ThingName: []byte(r[8]), CertificateID: []byte(r[9]), SourceIP: []byte(r[10]),
			RoleSession: []byte(r[11]), Outcome: outcomes[r[12]],
		}
		_, err := hex.Decode(ev.ID[:], []byte(r[0]))
		if err == nil {
			ev.Message, err = base64.StdEncoding.DecodeString(r[13])
		}
		if err == nil {
			ev.Time, err = strconv.ParseInt(r[1], 10, 64)
		}
		if err != nil {
			return nil, err
		}
		ev.IngestTime = ev.Time
		replay.Event(&ev)
	}
	replay.Finish()
	var found []string
	for _, d := range final {
		if d.Unmapped.MergedInto == "" {
			found = append(found, detectionKey(d.FindingInfo.Title, d.Unmapped.GroupKey, d.FindingInfo.FirstSeenTime, d.FindingInfo.LastSeenTime, d.Count))
		}
	}
	slices.Sort(found)
	return found, nil
}

// during is the condition that a column lies in the fleet's time; the lines of
// its last actions come a little after the end.
func (f *fleet) during(column string) string {
	return fmt.Sprintf("%[1]s >= fromUnixTimestamp64Milli(%[2]d) AND %[1]s < fromUnixTimestamp64Milli(%[3]d)",
		column, f.opts.Start.UnixMilli(), f.end.Add(5*time.Second).UnixMilli())
}

// detectionKey is what of a detection does not depend on the order in which
// the events came.
func detectionKey(title, group string, first, last, count any) string {
	return fmt.Sprintf("%v %q %v..%v %v", title, group, first, last, count)
}

// play is a fleet on its way to the program.
type play struct {
	reached atomic.Int64 // event time, Unix milliseconds
	ledger  simulate.Ledger
	done    chan error
	fleet   *fleet
}

// start begins to send the fleet; what is not accepted is repeated, as Firehose
// does.
func (f *fleet) start(ctx context.Context, t testing.TB, target simulate.Target, within time.Duration) *play {
	t.Helper()
	sim, err := simulate.New(f.opts)
	if err != nil {
		t.Fatal(err)
	}
	p := &play{done: make(chan error, 1), fleet: f}
	go func() {
		p.done <- simulate.Play(ctx, sim, simulate.PlayOptions{
			Target: target, Speed: f.opts.Duration.Seconds() / within.Seconds(), RequestBytes: 64 << 10, Repeat: 0.02,
			Progress: func(at time.Time) { p.reached.Store(at.UnixMilli()) },
		}, &p.ledger)
	}()
	return p
}

// reaches waits until a share of the fleet's time has been sent.
func (p *play) reaches(t testing.TB, share float64) {
	t.Helper()
	at := p.fleet.opts.Start.UnixMilli() + int64(share*float64(p.fleet.opts.Duration.Milliseconds()))
	eventually(t, "the fleet stands still", func() error {
		if r := p.reached.Load(); r < at {
			return fmt.Errorf("at %s", time.UnixMilli(r))
		}
		return nil
	})
}

// finish waits until everything has been acknowledged.
func (p *play) finish(t testing.TB) {
	t.Helper()
	if err := <-p.done; err != nil {
		t.Fatal(err)
	}
	totals := p.ledger.Totals()
	t.Logf("%d events acknowledged, %d of them distinct, %d requests, %d retries", totals.Events, totals.Distinct, totals.Requests, totals.Retries)
	if totals.Lost != 0 || totals.Distinct != int64(len(p.fleet.events)) {
		t.Errorf("%d events lost, %d acknowledged of %d", totals.Lost, totals.Distinct, len(p.fleet.events))
	}
}

// sentIn tells the events that came in from those that were derived from them: how many
// intervals of a device's behaviour are complete depends on how far time has come.
const sentIn = "source NOT IN ('behavior', 'registry')"

// ofTheLog leaves out the detections that rest on the state of a certificate when its
// events came in: that is a matter of when, not of the events.
const ofTheLog = "NOT endsWith(title, 'ertificate is in use')"

// check compares what is in the store with what must be there. Time must have
// passed the fleet's end.
func (f *fleet) check(t testing.TB, s store) {
	t.Helper()
	from := " FROM events_distinct WHERE " + sentIn + " AND " + f.during("time")
	s.becomes("SELECT uniqExact(id)"+from, fmt.Sprint(len(f.events)))
	times := map[string]int{}
	for _, row := range s.rows("SELECT lower(replaceAll(toString(id), '-', ''))" + from) {
		times[row[0]]++
	}
	for id, n := range times {
		if n != 1 || !f.events[id] {
			t.Errorf("event %s is %d times in events_distinct; sent: %v; %v", id, n, f.events[id],
				s.rows("SELECT source, event_type, device, time, kafka_partition, kafka_offset FROM events WHERE id = '"+id+"'"))
		}
	}
	want, err := f.undisturbed(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(want) < len(f.labels) {
		t.Errorf("%d attacks and only %d detections: %s", len(f.labels), len(want), want)
	}
	eventually(t, "not the detections of an undisturbed run", func() error {
		rows, err := s.ask(`SELECT title, group_key, toUnixTimestamp64Milli(first_seen), toUnixTimestamp64Milli(last_seen), count
			FROM detections_current WHERE merged_into = '' AND ` + ofTheLog + " AND " + f.during("last_seen"))
		if err != nil {
			return err
		}
		var got []string
		for _, r := range rows {
			got = append(got, detectionKey(r[0], r[1], r[2], r[3], r[4]))
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("(-undisturbed +this)\n%s", diff)
		}
		return nil
	})
}

// firehoseRecords is the body of a Firehose request.
func firehoseRecords(t testing.TB, id string, records ...[]byte) []byte {
	t.Helper()
	type record struct {
		Data []byte `json:"data"` // base64 in JSON
	}
	body := struct {
		RequestID string   `json:"requestId"`
		Timestamp int64    `json:"timestamp"`
		Records   []record `json:"records"`
	}{RequestID: id, Timestamp: time.Now().UnixMilli()}
	for _, r := range records {
		body.Records = append(body.Records, record{r})
	}
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// logLine is an entry of the log group AWSIotLogsV2; more replaces and adds
// members, nil takes one away.
func logLine(t testing.TB, at time.Time, eventType, client string, more map[string]any) []byte {
	t.Helper()
	line := map[string]any{
		"timestamp": at.UTC().Format("2006-01-02 15:04:05.000"), "logLevel": "INFO", "traceId": "7b9f8a1c-0000-4000-8000-00000000e2e0",
		"accountId": simulate.Account, "status": "Success", "eventType": eventType, "protocol": "MQTT", "clientId": client,
		"sourceIp": "198.51.100.77", "sourcePort": 50123,
	}
	maps.Copy(line, more)
	maps.DeleteFunc(line, func(_ string, v any) bool { return v == nil })
	b, err := json.Marshal(line)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// subscription is what CloudWatch Logs makes of lines: the payload, gzipped.
func subscription(t testing.TB, id string, at time.Time, lines ...[]byte) []byte {
	t.Helper()
	var events []map[string]any
	for i, line := range lines {
		events = append(events, map[string]any{"id": fmt.Sprintf("%s%04d", id, i), "timestamp": at.UnixMilli(), "message": string(line)})
	}
	b, err := json.Marshal(map[string]any{
		"messageType": "DATA_MESSAGE", "owner": simulate.Account, "logGroup": "AWSIotLogsV2", "logStream": "e2e",
		"subscriptionFilters": []string{"tocsin"}, "logEvents": events,
	})
	if err != nil {
		t.Fatal(err)
	}
	return gzipped(t, b)
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// letTimePass sends an event of now to every partition.
func letTimePass(t testing.TB, target simulate.Target, id string) {
	t.Helper()
	var lines [][]byte
	now := time.Now()
	for i := range 100 {
		lines = append(lines, logLine(t, now, "Ping", fmt.Sprintf("%s-%d", id, i), nil))
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target.FirehoseURL,
		bytes.NewReader(firehoseRecords(t, id, subscription(t, id, now, lines...))))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Amz-Firehose-Access-Key", target.AccessKey)
	req.Header.Set("X-Amz-Firehose-Source-Arn", "arn:aws:firehose:eu-west-1:"+simulate.Account+":deliverystream/iot-logs")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("status %d", res.StatusCode)
	}
}
