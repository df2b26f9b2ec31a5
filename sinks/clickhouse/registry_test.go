package clickhouse

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
)

func certificateID(n int) string { return fmt.Sprintf("%064x", n) }

// certificateRecord returns the record of a certificate; nil is one that was
// deleted.
func certificateRecord(t testing.TB, offset int64, id string, c *schemas.Certificate, at time.Time) *sinks.Record {
	t.Helper()
	rec := &sinks.Record{Topic: schemas.TopicIdentities, Offset: offset, Time: at, Key: []byte(schemas.KeyCertificate + id)}
	if c != nil {
		c.ID = id
		rec.Value = jsonRecord(t, "", 0, c).Value
	}
	return rec
}

func expectRow(t testing.TB, conn *Conn, query, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(row(t, conn, query)), &g); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	unquoteNumbers(g)
	unquoteNumbers(w)
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestCertificatesKeepTheNewestRecord(t *testing.T) {
	conn, db := migrated(t)
	s := startSink(t, conn, db, nil, NewCertificates)
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	full := &schemas.Certificate{
		Serial: "1a98eb03", Issuer: "CN=ca", IssuerKeyID: "abcd", CAID: "ca1", Subject: "CN=pump-0001",
		NotBefore: at.AddDate(-1, 0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		Key:    schemas.KeyInfo{Type: "RSA", Bits: 1024, SHA256: "ff", Weak: "RSA of 1024 bits"},
		Status: schemas.CertActive, StatusReason: "inventory", StatusSince: at,
		Revoked: &schemas.Revocation{Time: at.Add(-time.Hour), Reason: "keyCompromise", Source: "s3://b/ca.crl"},
		Claim:   true, Things: []string{"pump-0001"}, ClientIDs: []string{"a", "b"}, SourceIP: "192.0.2.1",
		LastSeen: at, Created: at.AddDate(0, -1, 0), Updated: at,
	}
	older := *full
	older.Status, older.Revoked = schemas.CertInactive, nil
	p := open(t, s, 0, 0)
	write(t, p, certificateRecord(t, 0, certificateID(1), &older, at))
	write(t, p, certificateRecord(t, 1, certificateID(1), full, at.Add(time.Second)))
	write(t, p, certificateRecord(t, 2, certificateID(2), &schemas.Certificate{}, at))
	write(t, p, certificateRecord(t, 3, certificateID(3), &schemas.Certificate{Status: schemas.CertActive}, at))
	closePartition(t, p)
	p = open(t, s, 0, 0)
	write(t, p, certificateRecord(t, 0, certificateID(1), &older, at)) // read again after a crash
	write(t, p, certificateRecord(t, 4, certificateID(3), nil, at.Add(time.Second)))
	closePartition(t, p)
	expectRow(t, conn, "SELECT * EXCEPT (days_to_expiry) FROM "+db+".certificates_current WHERE certificate_id = '"+certificateID(1)+"'",
		`{"certificate_id":"`+certificateID(1)+`","serial":"1a98eb03","issuer":"CN=ca","issuer_key_id":"abcd","ca_certificate_id":"ca1","subject":"CN=pump-0001",
		"not_before":"2025-11-23 12:00:00.000","not_after":"2105-12-31 23:59:59.000","key_type":"RSA","key_bits":1024,"key_sha256":"ff","key_weakness":"RSA of 1024 bits",
		"status":"ACTIVE","status_reason":"inventory","status_since":"2026-11-23 12:00:00.000","revoked":true,"revoked_time":"2026-11-23 11:00:00.000",
		"revocation_reason":"keyCompromise","revocation_source":"s3://b/ca.crl","claim":true,"things":["pump-0001"],"client_ids":["a","b"],"source_ip":"192.0.2.1",
		"last_seen":"2026-11-23 12:00:00.000","created":"2026-10-23 12:00:00.000","updated":"2026-11-23 12:00:00.000","effective_status":"REVOKED_BY_CA"}`)
	if n := scalar[uint64](t, conn, "SELECT count() FROM "+db+".certificates_current"); n != 2 {
		t.Errorf("%d certificates, want 2: one was deleted", n)
	}
	expectRow(t, conn, "SELECT not_after, days_to_expiry, status, effective_status, things FROM "+db+".certificates_current WHERE certificate_id = '"+certificateID(2)+"'",
		`{"not_after":"1970-01-01 00:00:00.000","days_to_expiry":null,"status":"","effective_status":"","things":[]}`)
	if n := scalar[uint64](t, conn, "SELECT count() FROM "+db+".certificates_revoked_active"); n != 1 {
		t.Errorf("%d revoked and active, want 1", n)
	}
}

func TestCertificatesOfOtherRecordsAndBadOnes(t *testing.T) {
	conn, db := migrated(t)
	s := startSink(t, conn, db, nil, NewCertificates)
	p := open(t, s, 0, 0)
	offset := int64(0)
	for _, key := range []string{"observed/x/3", "binding/x", "ca/x", "crl/x/y", "sync/inventory", "device/x", "", "certificates/x"} {
		write(t, p, &sinks.Record{Topic: schemas.TopicIdentities, Offset: offset, Key: []byte(key), Value: []byte("not even JSON")})
		offset++
	}
	for _, rec := range []*sinks.Record{
		{Key: []byte("certificate/x"), Value: []byte("{")},
		{Key: []byte("certificate/x"), Value: []byte(`{"certificate_id":"y"}`)},
		{Key: []byte("certificate/x"), Value: []byte(`{"certificate_id":"x","status":"BROKEN"}`)},
	} {
		rec.Offset = offset
		offset++
		err := p.Write(t.Context(), rec)
		var why *sinks.Rejected
		if !errors.As(err, &why) || why.Reason != sinks.ReasonMalformed {
			t.Errorf("%s: %v", rec.Value, err)
		}
	}
	write(t, p, certificateRecord(t, offset, "x", &schemas.Certificate{}, time.Now()))
	closePartition(t, p)
	if next, idle := p.Stored(); next != offset+1 || !idle {
		t.Errorf("stored up to %d, idle %v", next, idle)
	}
	if n := scalar[uint64](t, conn, "SELECT count() FROM "+db+".certificates"); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

func TestExpiringAndInvalidCertificates(t *testing.T) {
	conn, db := migrated(t)
	s := startSink(t, conn, db, nil, NewCertificates)
	now := time.Now()
	p := open(t, s, 0, 0)
	for n, c := range []schemas.Certificate{
		{Status: schemas.CertActive, NotAfter: now.Add(10*24*time.Hour + time.Hour)},
		{Status: schemas.CertActive, NotAfter: now.Add(-36 * time.Hour)}, // expired
		{Status: schemas.CertActive, NotAfter: now.Add(12 * time.Hour)},
		{Status: schemas.CertRevoked, NotAfter: now.Add(5 * 24 * time.Hour), Subject: "CN=revoked"},
		{Status: schemas.CertActive, NotAfter: now.Add(400 * 24 * time.Hour)},
		{Status: schemas.CertActive},
	} {
		write(t, p, certificateRecord(t, int64(n), certificateID(n), &c, now))
	}
	closePartition(t, p)
	got := scalar[string](t, conn, "SELECT arrayStringConcat(groupArray(concat(toString(toUInt64OrZero(right(certificate_id, 2))), ':', toString(days_to_expiry))), ' ') FROM (SELECT * FROM "+db+".certificates_expiring WHERE days_to_expiry <= 30)")
	if got != "2:0 0:10" {
		t.Errorf("expiring %q", got)
	}
	expectRow(t, conn, "SELECT effective_status, days_to_expiry FROM "+db+".certificates_current WHERE certificate_id = '"+certificateID(1)+"'",
		`{"effective_status":"EXPIRED","days_to_expiry":-2}`)

	events := startSink(t, conn, db, nil, NewEvents)
	p = open(t, events, 0, 0)
	var e schemas.BatchEncoder
	for n, ev := range []struct {
		cert   int
		status schemas.CertificateStatus
		age    time.Duration
		source string
		good   schemas.Outcome
	}{
		{3, schemas.CertRevoked, time.Hour, schemas.SourceIoT, schemas.OutcomeFailure},
		{3, schemas.CertRevoked, 2 * time.Hour, schemas.SourceIoT, schemas.OutcomeSuccess},
		{9, schemas.CertUnknown, time.Hour, schemas.SourceLifecycle, schemas.OutcomeSuccess}, // not in the registry
		{0, schemas.CertActive, time.Hour, schemas.SourceIoT, schemas.OutcomeSuccess},
		{1, schemas.CertExpired, 25 * time.Hour, schemas.SourceIoT, schemas.OutcomeSuccess},    // too long ago
		{2, schemas.CertInactive, time.Hour, schemas.SourceCloudTrail, schemas.OutcomeSuccess}, // about it, not by it
	} {
		event := testEvent(n)
		event.Time, event.CertificateID, event.CertificateStatus = now.Add(-ev.age).UnixMilli(), []byte(certificateID(ev.cert)), ev.status
		event.Source, event.Outcome = []byte(ev.source), ev.good
		e.Append(event, "lane")
	}
	write(t, p, &sinks.Record{Topic: schemas.TopicEvents, Value: e.Bytes()})
	closePartition(t, p)
	got = scalar[string](t, conn, "SELECT arrayStringConcat(groupArray(concat(right(certificate_id, 1), ' ', arrayStringConcat(statuses_seen), ' ', status_now, ' ', toString(successes), '/', toString(events), ' ', subject)), '; ') FROM (SELECT * FROM "+db+".invalid_certificates_seen ORDER BY certificate_id)")
	if got != "3 REVOKED REVOKED 1/2 CN=revoked; 9 UNKNOWN  1/1 " {
		t.Errorf("invalid %q", got)
	}
}

func TestActionsKeepEveryStep(t *testing.T) {
	conn, db := migrated(t)
	s := startSink(t, conn, db, nil, NewActions)
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	full := schemas.Action{
		ID: "a1", Time: at, Sink: "prod", Kind: schemas.KindRotate, State: schemas.ActionRequested, Reason: "weak key", Code: "c",
		Rule: "Weak key", RuleID: "r1", DetectionID: "d1", Device: "pump-0001", ClientID: "pump-0001", Thing: "pump", CertificateID: certificateID(1),
		NewCertificateID: certificateID(2), JobID: "j", Requested: at, Deadline: at.Add(time.Hour), Error: "e", Approver: "me", DryRun: true,
	}
	done := full
	done.State, done.Time = schemas.ActionDone, at.Add(time.Minute)
	p := open(t, s, 2, 0)
	write(t, p, jsonRecord(t, schemas.TopicActions, 0, full))
	write(t, p, jsonRecord(t, schemas.TopicActions, 1, done))
	write(t, p, jsonRecord(t, schemas.TopicActions, 2, schemas.Action{ID: "a2", Time: at, Sink: "crl", Kind: schemas.KindRevoke, State: schemas.ActionDone, CertificateID: certificateID(3)}))
	write(t, p, jsonRecord(t, schemas.TopicActions, 3, schemas.Action{ID: "breaker:prod", Time: at, Sink: "prod", Kind: schemas.KindBreaker, State: schemas.ActionOpened}))
	for _, bad := range []string{"{", "[]", `{"id":"x"}`} {
		var why *sinks.Rejected
		if err := p.Write(t.Context(), &sinks.Record{Topic: schemas.TopicActions, Offset: 4, Value: []byte(bad)}); !errors.As(err, &why) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	closePartition(t, p)
	p = open(t, s, 2, 1)
	write(t, p, jsonRecord(t, schemas.TopicActions, 1, done)) // read again after a crash
	closePartition(t, p)
	expectRow(t, conn, "SELECT * EXCEPT (kafka_partition, kafka_offset) FROM "+db+".actions_log WHERE action_id = 'a1' AND state = 'requested'",
		`{"time":"2026-11-23 12:00:00.000","action_id":"a1","sink":"prod","kind":"rotate","state":"requested","dry_run":true,"reason":"weak key","code":"c",
		"rule":"Weak key","rule_id":"r1","detection_id":"d1","device":"pump-0001","client_id":"pump-0001","thing":"pump","certificate_id":"`+certificateID(1)+`",
		"new_certificate_id":"`+certificateID(2)+`","job_id":"j","requested":"2026-11-23 12:00:00.000","deadline":"2026-11-23 13:00:00.000","error":"e","approver":"me"}`)
	if n := scalar[uint64](t, conn, "SELECT count() FROM "+db+".actions_log"); n != 4 {
		t.Errorf("%d steps, want 4", n)
	}
	if got := scalar[string](t, conn, "SELECT toString(state) FROM "+db+".actions_current WHERE action_id = 'a1'"); got != "done" {
		t.Errorf("the latest step is %q", got)
	}
	got := scalar[string](t, conn, "SELECT arrayStringConcat(groupArray(concat(because_of, ' ', kind, ' ', state, ' ', toString(actions))), '; ') FROM (SELECT * FROM "+db+".actions_by_rule ORDER BY because_of)")
	if got != "Weak key rotate done 1; crl revoke done 1" {
		t.Errorf("by rule %q", got)
	}
}

func TestRetentionOfActions(t *testing.T) {
	conn, db := connect(t, engine.URL()), freshDatabase(t)
	m := &Migrator{Conn: conn, Database: db, Retention: Retention{ActionsDays: 400}}
	if _, err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	ttl := func() string {
		return scalar[string](t, conn, "SELECT engine_full FROM system.tables WHERE database = ? AND name = 'actions'", db)
	}
	if !strings.Contains(ttl(), "TTL toDateTime(time) + toIntervalDay(400)") {
		t.Error(ttl())
	}
	m.Retention.ActionsDays = 0
	if _, err := m.Up(t.Context()); err != nil || strings.Contains(ttl(), "TTL") {
		t.Errorf("%v: %s", err, ttl())
	}
}
