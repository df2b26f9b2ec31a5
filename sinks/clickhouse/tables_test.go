package clickhouse

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	chcolumn "github.com/ClickHouse/clickhouse-go/v2/lib/column"
	chproto "github.com/ClickHouse/clickhouse-go/v2/lib/proto"
	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
)

// testFinding returns a detection with every promoted column filled.
func testFinding(id string, revision int64, status string) *schemas.Finding {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixMilli()
	f := &schemas.Finding{
		ActivityID: schemas.ActivityCreate, ActivityName: "Create", CategoryUID: 2, ClassUID: schemas.FindingClassUID,
		SeverityID: 4, Severity: "High", StatusID: schemas.StatusNew, Status: status, Time: at, Count: 2 + revision,
		Message: "a revoked certificate connects",
		FindingInfo: schemas.FindingInfo{
			UID: id, Title: "Revoked certificate in use", CreatedTime: at, FirstSeenTime: at, LastSeenTime: at + 5000,
			Analytic: schemas.Analytic{TypeID: 1, UID: "rule-1", Name: "Revoked certificate"},
			Attacks: []schemas.Attack{
				{Tactic: &schemas.AttackObject{UID: "TA0001"}, Technique: &schemas.AttackObject{UID: "T1078"}},
				{Technique: &schemas.AttackObject{Name: "without a number"}},
			},
			RelatedEvents: []schemas.RelatedEvent{{UID: testEvent(1).ID.String()}, {UID: testEvent(6).ID.String()}},
		},
		Cloud:  &schemas.FindingCloud{Provider: "AWS", Region: "eu-west-1", Account: &schemas.FindingAccount{UID: "123456789012"}},
		Device: &schemas.FindingDevice{TypeID: 7, UID: "device-1", IP: "192.0.2.1"},
		Unmapped: schemas.FindingExtension{
			RuleLevel: "high", RuleTags: []string{"attack.initial-access"}, CorrelationType: "event_count",
			Group: map[string]string{"certificate_id": "ab", "account": "123456789012"}, GroupKey: "ab|123456789012",
			CertificateID: fmt.Sprintf("%064x", 1), Revision: revision, EvidenceComplete: true,
		},
	}
	for n := range 3 {
		ev := testEvent(n + 1)
		f.Evidences = append(f.Evidences, schemas.Evidence{Data: schemas.EvidenceData{
			EventID: ev.ID.String(), Time: ev.Time, Source: "iot", EventType: "Connect", Device: string(ev.Device),
		}})
	}
	return f
}

func jsonRecord(t testing.TB, topic string, offset int64, v any) *sinks.Record {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return &sinks.Record{Topic: topic, Offset: offset, Value: b}
}

// row returns the single row of a query as name=value, in the server's text.
func row(t testing.TB, conn *Conn, query string) string {
	t.Helper()
	return scalar[string](t, conn, "SELECT formatRowNoNewline('JSONEachRow', *) FROM ("+query+")")
}

func TestDetectionsKeepTheLatestRevision(t *testing.T) {
	conn, db := migrated(t)
	s := startSink(t, conn, db, nil, NewDetections)
	p := open(t, s, 0, 0)
	write(t, p, jsonRecord(t, schemas.TopicDetections, 0, testFinding("d1", 1, "New")))
	write(t, p, jsonRecord(t, schemas.TopicDetections, 1, testFinding("d2", 1, "New")))
	closePartition(t, p)
	write2 := open(t, s, 0, 2)
	write(t, write2, jsonRecord(t, schemas.TopicDetections, 2, testFinding("d1", 3, "Resolved")))
	write(t, write2, jsonRecord(t, schemas.TopicDetections, 3, testFinding("d1", 2, "In Progress"))) // replayed, and late
	write(t, write2, jsonRecord(t, schemas.TopicDetections, 4, testFinding("d1", 3, "Resolved")))
	closePartition(t, write2)
	if n := scalar[uint64](t, conn, "SELECT count() FROM "+db+".detections_current"); n != 2 {
		t.Errorf("%d detections, want 2", n)
	}
	got := row(t, conn, "SELECT * EXCEPT (finding, kafka_partition, kafka_offset) FROM "+db+".detections_current WHERE detection_id = 'd1'")
	want := `{"detection_id":"d1","revision":"3","activity":"Create","status":"Resolved",` +
		`"created_time":"2026-11-23 12:00:00.000","first_seen":"2026-11-23 12:00:00.000","last_seen":"2026-11-23 12:00:05.000","count":"5",` +
		`"rule_id":"rule-1","rule_title":"Revoked certificate","rule_tags":["attack.initial-access"],"correlation_type":"event_count",` +
		`"level":"high","severity":"High","severity_id":4,"title":"Revoked certificate in use","message":"a revoked certificate connects",` +
		`"account":"123456789012","region":"eu-west-1","device":"device-1","certificate_id":"` + fmt.Sprintf("%064x", 1) + `","source_ip":"192.0.2.1",` +
		`"group_key":"ab|123456789012","group_values":{"account":"123456789012","certificate_id":"ab"},` +
		`"evidence_ids":["` + dashed(1) + `","` + dashed(2) + `","` + dashed(3) + `","` + dashed(6) + `"],"evidence_complete":true,` +
		`"attack_tactics":["TA0001"],"attack_techniques":["T1078"],"merged_into":""}`
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	unquoteNumbers(g)
	unquoteNumbers(w)
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	var whole schemas.Finding
	if err := json.Unmarshal([]byte(scalar[string](t, conn, "SELECT finding FROM "+db+".detections_current WHERE detection_id = 'd1'")), &whole); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*testFinding("d1", 3, "Resolved"), whole); diff != "" {
		t.Errorf("finding (-want +got)\n%s", diff)
	}
}

// unquoteNumbers makes "5" and 5 equal: whether 64-bit numbers are quoted is a
// setting of the server.
func unquoteNumbers(v any) {
	m := v.(map[string]any)
	for _, key := range []string{"revision", "count"} {
		m[key] = fmt.Sprint(m[key])
	}
}

func dashed(n int) string {
	id := testEvent(n).ID.String()
	return id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
}

func TestDetectionOfNothingButWhatIsRequired(t *testing.T) {
	conn, db := migrated(t)
	s := startSink(t, conn, db, nil, NewDetections)
	p := open(t, s, 0, 0)
	for _, bad := range []string{"", "x", "{}", `{"class_uid":2004}`, `{"class_uid":2001,"finding_info":{"uid":"a"}}`} {
		if err := p.Write(t.Context(), &sinks.Record{Value: []byte(bad)}); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	write(t, p, &sinks.Record{Value: []byte(`{"class_uid":2004,"finding_info":{"uid":"a"},"count":-1,"severity_id":999,"unmapped":{"revision":-5},"evidences":[{"data":{"event_id":"no id"}}]}`)})
	closePartition(t, p)
	if n := scalar[uint64](t, conn, "SELECT count() FROM "+db+".detections WHERE count = 0 AND severity_id = 255 AND empty(evidence_ids) AND empty(group_values)"); n != 1 {
		t.Errorf("%d rows", n)
	}
}

func TestDeadLetters(t *testing.T) {
	conn, db := migrated(t)
	s := startSink(t, conn, db, nil, NewDeadLetters)
	p := open(t, s, 0, 0)
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	write(t, p, jsonRecord(t, schemas.TopicDeadLetter, 0, schemas.DeadLetter{
		Time: now, Source: "firehose", Origin: "req-1", Reason: "gzip", Error: "unexpected EOF", Raw: []byte("\x1f\x8b\x00"), RawSize: 99, Truncated: true,
	}))
	write(t, p, &sinks.Record{Topic: schemas.TopicDeadLetter, Offset: 1, Time: now, Value: []byte("not a dead letter")})
	closePartition(t, p)
	if got := row(t, conn, "SELECT hex(raw) AS raw, toUInt32(raw_size) AS size, truncated, source, reason FROM "+db+".dead_letters WHERE source = 'firehose'"); got != `{"raw":"1F8B00","size":99,"truncated":true,"source":"firehose","reason":"gzip"}` {
		t.Error(got)
	}
	if n := scalar[uint64](t, conn, "SELECT count() FROM "+db+".dead_letters WHERE raw = 'not a dead letter' AND reason = 'malformed'"); n != 1 {
		t.Errorf("%d rows", n)
	}
	if n := scalar[uint64](t, conn, "SELECT sum(inputs) FROM "+db+".dead_letters_by_reason"); n != 2 {
		t.Errorf("%d inputs by reason", n)
	}
}

func TestViewsAnswerWhatAnOperatorAsks(t *testing.T) {
	conn, db := migrated(t)
	events := startSink(t, conn, db, nil, NewEvents)
	p := open(t, events, 0, 0)
	write(t, p, eventRecord(0, 0, 0, 1000))
	closePartition(t, p)
	p = open(t, events, 1, 0)
	write(t, p, eventRecord(1, 0, 0, 500)) // delivered again, by another way
	closePartition(t, p)
	detections := startSink(t, conn, db, nil, NewDetections)
	d := open(t, detections, 0, 0)
	write(t, d, jsonRecord(t, schemas.TopicDetections, 0, testFinding("d1", 1, "New")))
	write(t, d, jsonRecord(t, schemas.TopicDetections, 1, testFinding("d2", 1, "Resolved")))
	merged := testFinding("d3", 1, "New")
	merged.Unmapped.MergedInto = "d1"
	write(t, d, jsonRecord(t, schemas.TopicDetections, 2, merged))
	closePartition(t, d)
	for _, tc := range []struct{ name, query, want string }{
		{"device", "SELECT countIf(kind = 'event') AS e, countIf(kind = 'detection') AS d FROM {}.device_timeline WHERE device = 'device-1' AND time >= '2026-11-23'", `{"e":10,"d":3}`},
		{"open", "SELECT count() AS n, any(detection_id) AS id FROM {}.detections_open", `{"n":1,"id":"d1"}`},
		{"evidence", "SELECT count() AS n, any(event_id) AS id, toString(min(time)) AS t FROM {}.detection_evidence WHERE detection_id = 'd1' AND event_id = '" + testEvent(1).ID.String() + "'", `{"n":1,"id":"` + testEvent(1).ID.String() + `","t":"2026-11-23 12:00:00.010"}`},
		{"evidence joins events", "SELECT count() AS n FROM {}.events_distinct WHERE id IN (SELECT arrayJoin(evidence_ids) FROM {}.detections_current WHERE detection_id = 'd1')", `{"n":4}`},
		{"certificate", "SELECT events, failures, client_ids, source_ips FROM {}.certificate_activity WHERE day = '2026-11-23' AND certificate_id = '" + fmt.Sprintf("%064x", 5) + "'", `{"events":10,"failures":10,"client_ids":1,"source_ips":7}`},
		{"noisy", "SELECT count() AS devices, max(events) AS most FROM {}.noisy_devices WHERE hour = '2026-11-23 12:00:00'", `{"devices":100,"most":10}`},
		{"failing", "SELECT sum(failures) AS n, max(client_ids) AS clients FROM {}.failing_addresses", `{"n":200,"clients":20}`},
		{"delay", "SELECT any(p50_seconds) AS p, sum(late_events) AS late FROM {}.ingest_delay", `{"p":1.5,"late":0}`},
		{"per minute counts what arrived", "SELECT sum(events) AS n FROM {}.events_per_minute WHERE outcome = 'failure'", `{"n":300}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := row(t, conn, strings.ReplaceAll(tc.query, "{}", db))
			if got = strings.NewReplacer(`:"`, `:`, `",`, `,`, `"}`, `}`).Replace(got); got != strings.NewReplacer(`:"`, `:`, `",`, `,`, `"}`, `}`).Replace(tc.want) {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
	// Every view answers, whatever it is.
	for _, v := range strings.Split(scalar[string](t, conn, "SELECT arrayStringConcat(groupArray(name), ',') FROM system.tables WHERE database = ? AND engine = 'View'", db), ",") {
		scalar[uint64](t, conn, "SELECT count() FROM (SELECT * FROM "+db+"."+v+")")
	}
}

func TestTimeRangesAndCertificatesReadLittle(t *testing.T) {
	conn, db := migrated(t)
	s := startSink(t, conn, db, nil, NewEvents)
	p := open(t, s, 0, 0)
	for d := range 10 {
		var e schemas.BatchEncoder
		for n := range 100 {
			ev := testEvent(d*100 + n)
			ev.Time -= int64(d) * day
			e.Append(ev, "l")
		}
		write(t, p, &sinks.Record{Offset: int64(d), Value: e.Bytes()})
	}
	closePartition(t, p)
	for _, tc := range []struct {
		name, where string
		parts       string
	}{
		{"time", "time >= '2026-11-23 00:00:00'", "Parts: 1/10"},
		{"certificate", "certificate_id = 'ffff'", "Parts: 0/10"},
		{"id", "id = '" + testEvent(350).ID.String() + "'", "Parts: 1/10"},
		{"offset", "kafka_offset >= 9", "Parts: 1/10"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rows, err := conn.Query(t.Context(), "EXPLAIN indexes = 1 SELECT * FROM "+db+".events_distinct WHERE "+tc.where)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			var plan strings.Builder
			for rows.Next() {
				var line string
				if err := rows.Scan(&line); err != nil {
					t.Fatal(err)
				}
				plan.WriteString(line + "\n")
			}
			if !strings.Contains(plan.String(), tc.parts) {
				t.Errorf("%s is not in the plan:\n%s", tc.parts, plan.String())
			}
		})
	}
}

func TestCompressedInserts(t *testing.T) {
	for _, method := range []string{"lz4", "zstd"} {
		t.Run(method, func(t *testing.T) {
			direct, db := migrated(t)
			conn, err := Open(Options{URL: engine.URL(), Compression: method})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			s := startSink(t, conn, db, nil, NewEvents)
			p := open(t, s, 0, 0)
			for offset := range int64(4) {
				write(t, p, eventRecord(0, offset, int(offset)*2000, 2000))
			}
			closePartition(t, p)
			expectEvents(t, direct, db, 8000)
		})
	}
}

// The native protocol has no server here. Both ways to insert begin with the
// same columns: what the driver's own encoder makes of them must be what
// native.go writes.
func TestBothWaysToInsertSendTheSame(t *testing.T) {
	for _, tbl := range []table{newEventTable(time.Minute), newDetectionTable(), newDeadLetterTable()} {
		t.Run(tbl.name(), func(t *testing.T) {
			b := newBlock(tbl)
			p := &partition{}
			for offset := range int64(700) { // more than one chunk of rows
				var rec *sinks.Record
				switch tbl.name() {
				case "events":
					rec = eventRecord(1, offset, int(offset)*3, 3)
				case "detections":
					f := testFinding(fmt.Sprint(offset), offset, "New")
					if offset%3 == 0 {
						f.Unmapped.Group, f.FindingInfo.Attacks, f.Evidences = map[string]string{"one": "1"}, nil, nil
					} else {
						f.Unmapped.Group = nil // the driver's order of more than one key is random
					}
					rec = jsonRecord(t, schemas.TopicDetections, offset, f)
				default:
					rec = jsonRecord(t, schemas.TopicDeadLetter, offset, schemas.DeadLetter{Time: time.Unix(offset, 0), Raw: []byte{1, 2}, Truncated: offset%2 == 0})
				}
				if err := b.add(p, rec); err != nil {
					t.Fatal(err)
				}
			}
			var want chproto.Block
			want.ServerContext = &chcolumn.ServerContext{Timezone: time.UTC}
			for _, c := range tbl.columns() {
				name, chType := c.meta()
				if err := want.AddColumn(name, chcolumn.Type(chType)); err != nil {
					t.Fatal(err)
				}
			}
			for i, c := range tbl.columns() {
				if err := c.appendTo(want.Columns[i]); err != nil {
					t.Fatal(err)
				}
			}
			var buf proto.Buffer
			if err := want.Encode(&buf, 0); err != nil {
				t.Fatal(err)
			}
			r := &nativeReader{block: b}
			var got []byte
			for chunk := r.encode(nil); len(chunk) > 0; chunk = r.encode(nil) {
				got = append(got, chunk...)
			}
			if string(got) != string(buf.Buf) {
				at := 0
				for at < min(len(got), len(buf.Buf)) && got[at] == buf.Buf[at] {
					at++
				}
				t.Errorf("%d bytes, want %d; they part at byte %d, near %q", len(got), len(buf.Buf), at, got[max(0, at-60):min(len(got), at+20)])
			}
		})
	}
}

func TestLowCardinalityOfTheNativeProtocol(t *testing.T) {
	for _, chType := range []string{"LowCardinality(String)", "String"} {
		c, err := chcolumn.Type(chType).Column("x", &chcolumn.ServerContext{})
		if err != nil {
			t.Fatal(err)
		}
		words := stringColumn("x")
		for n := range 1000 {
			words.add([]string{"", "a", "b"}[n/7%3])
		}
		if err := words.appendTo(c); err != nil {
			t.Fatal(err)
		}
		var buf proto.Buffer
		block := chproto.Block{Columns: []chcolumn.Interface{c}}
		if err := block.Encode(&buf, 0); err != nil {
			t.Fatal(err)
		}
		back := chproto.Block{ServerContext: &chcolumn.ServerContext{}}
		if err := back.Decode(proto.NewReader(&buf), 0); err != nil {
			t.Fatal(err)
		}
		for n := range 1000 {
			if got := back.Columns[0].Row(n, false); got != words.v[n] {
				t.Fatalf("%s: row %d is %v, want %q", chType, n, got, words.v[n])
			}
		}
	}
}
