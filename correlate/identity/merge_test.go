package identity

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/correlate/identity/certificate"
	"github.com/tocsin-io/tocsin/schemas"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(minutes int) time.Time { return epoch.Add(time.Duration(minutes) * time.Minute) }

func TestMergeRules(t *testing.T) {
	event := func(status schemas.CertificateStatus, minutes int, actor string) func(*schemas.Certificate) {
		return func(c *schemas.Certificate) {
			mergeStatusChange(c, &schemas.StatusChange{Status: status, Time: at(minutes), Source: "cloudtrail", EventType: "UpdateCertificate", Actor: actor})
		}
	}
	listed := func(status schemas.CertificateStatus, asked, modified int) func(*schemas.Certificate) {
		return func(c *schemas.Certificate) { setInventoryStatus(c, status, at(asked), at(modified)) }
	}
	revoked := func(minutes int, reason string) func(*schemas.Certificate) {
		return func(c *schemas.Certificate) {
			mergeRevocation(c, &schemas.Revocation{Time: at(minutes), Reason: reason, Source: "list"})
		}
	}
	type facts = []func(*schemas.Certificate)
	const byAlice = "cloudtrail UpdateCertificate by alice"
	for name, test := range map[string]struct {
		facts facts
		want  schemas.Certificate
	}{
		"the newest event counts, whatever comes last": {
			facts{event(schemas.CertInactive, 5, "alice"), event(schemas.CertActive, 3, "bob")},
			schemas.Certificate{Status: schemas.CertInactive, StatusSince: at(5), StatusReason: byAlice},
		},
		"a late event does not undo what was confirmed later": {
			facts{event(schemas.CertActive, 2, "alice"), event(schemas.CertActive, 4, "alice"), event(schemas.CertInactive, 3, "bob")},
			schemas.Certificate{Status: schemas.CertActive, StatusSince: at(4), StatusReason: byAlice},
		},
		"the inventory's time is lastModifiedDate": {
			facts{listed(schemas.CertActive, 60, 7)},
			schemas.Certificate{Status: schemas.CertActive, StatusSince: at(7), StatusReason: reasonInventory},
		},
		"an event says who did what the inventory has seen": {
			facts{listed(schemas.CertInactive, 60, 7), event(schemas.CertInactive, 7, "alice")},
			schemas.Certificate{Status: schemas.CertInactive, StatusSince: at(7), StatusReason: byAlice},
		},
		"a new answer of AWS comes after an old event": {
			facts{event(schemas.CertInactive, 5, "alice"), listed(schemas.CertActive, 60, 30)},
			schemas.Certificate{Status: schemas.CertActive, StatusSince: at(30), StatusReason: reasonInventory},
		},
		"AWS may be a little behind its events": {
			facts{event(schemas.CertInactive, 58, "alice"), listed(schemas.CertActive, 60, 1)},
			schemas.Certificate{Status: schemas.CertInactive, StatusSince: at(58), StatusReason: byAlice},
		},
		"AWS is right in the end": {
			facts{event(schemas.CertInactive, 5, "alice"), listed(schemas.CertActive, 60, 1)},
			schemas.Certificate{Status: schemas.CertActive, StatusSince: at(60), StatusReason: reasonInventory},
		},
		"deleted is unknown": {
			facts{event(schemas.CertInactive, 5, "alice"), func(c *schemas.Certificate) {
				mergeStatusChange(c, &schemas.StatusChange{Deleted: true, Time: at(6), Source: "cloudtrail", EventType: "DeleteCertificate"})
			}},
			schemas.Certificate{Status: schemas.CertUnknown, StatusSince: at(6), StatusReason: "deleted: cloudtrail DeleteCertificate"},
		},
		"a revocation is never taken back, the earliest counts": {
			facts{revoked(9, "superseded"), revoked(4, "keyCompromise"), revoked(11, "unspecified"), event(schemas.CertActive, 20, "alice")},
			schemas.Certificate{
				Status: schemas.CertActive, StatusSince: at(20), StatusReason: byAlice,
				Revoked: &schemas.Revocation{Time: at(4), Reason: "keyCompromise", Source: "list"},
			},
		},
		"the newest names are kept": {
			facts{func(c *schemas.Certificate) {
				mergeObservation(c, &schemas.Observation{ClientIDs: []string{"1", "2", "3", "4", "5"}, LastSeen: at(1), SourceIP: "192.0.2.1"})
				mergeObservation(c, &schemas.Observation{ClientIDs: []string{"3", "6", "7", "8", "9"}, LastSeen: at(2), SourceIP: "192.0.2.2"})
			}},
			schemas.Certificate{ClientIDs: []string{"2", "3", "4", "5", "6", "7", "8", "9"}, LastSeen: at(2), SourceIP: "192.0.2.2"},
		},
		"an older sighting moves nothing": {
			facts{func(c *schemas.Certificate) {
				mergeObservation(c, &schemas.Observation{LastSeen: at(60), SourceIP: "192.0.2.1"})
				mergeObservation(c, &schemas.Observation{LastSeen: at(2), SourceIP: "192.0.2.2"})
				if mergeObservation(c, &schemas.Observation{LastSeen: at(61), SourceIP: "192.0.2.3"}) {
					t.Error("a record is written for a minute")
				}
			}},
			schemas.Certificate{LastSeen: at(60), SourceIP: "192.0.2.1"},
		},
		"what the certificate says is read once": {
			facts{func(c *schemas.Certificate) {
				mergeParsed(c, &certificate.Certificate{Serial: "1", NotAfter: at(1000)})
				mergeParsed(c, &certificate.Certificate{Serial: "2", NotAfter: at(2000)})
			}},
			schemas.Certificate{Serial: "1", NotAfter: at(1000)},
		},
		"an import does not undo a newer state": {
			facts{event(schemas.CertRevoked, 50, "alice"), func(c *schemas.Certificate) {
				mergeRecord(c, &schemas.Certificate{Status: schemas.CertActive, StatusSince: at(40), Serial: "7", NotAfter: at(9000)})
			}},
			schemas.Certificate{Status: schemas.CertRevoked, StatusSince: at(50), StatusReason: byAlice, Serial: "7", NotAfter: at(9000)},
		},
	} {
		var got schemas.Certificate
		for _, fact := range test.facts {
			fact(&got)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

// TestMergeOrder merges random facts in random orders, some of them twice.
func TestMergeOrder(t *testing.T) {
	statuses := []schemas.CertificateStatus{schemas.CertActive, schemas.CertInactive, schemas.CertRevoked, schemas.CertPendingTransfer}
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var facts []func(*schemas.Certificate)
		for i, minutes := range rng.Perm(12) {
			switch i % 3 {
			case 0:
				s := schemas.StatusChange{Status: statuses[rng.IntN(4)], Deleted: rng.IntN(8) == 0, Time: at(minutes), Source: "cloudtrail", EventType: "x"}
				facts = append(facts, func(c *schemas.Certificate) { mergeStatusChange(c, &s) })
			case 1:
				r := schemas.Revocation{Time: at(minutes), Source: "list"}
				facts = append(facts, func(c *schemas.Certificate) { mergeRevocation(c, &r) })
			case 2:
				p := certificate.Certificate{Serial: "1", NotAfter: at(9999)}
				facts = append(facts, func(c *schemas.Certificate) { mergeParsed(c, &p) })
			}
		}
		var want schemas.Certificate
		for _, f := range facts {
			f(&want)
		}
		facts = append(facts, facts[rng.IntN(len(facts))])
		rng.Shuffle(len(facts), func(i, j int) { facts[i], facts[j] = facts[j], facts[i] })
		var got schemas.Certificate
		for _, f := range facts {
			f(&got)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d:\n%s", seed, diff)
		}
	}
}

func TestExpiryThresholds(t *testing.T) {
	d := detector{expiryDays: []int{90, 30, 7}}
	notAfter := epoch
	day := func(n int) time.Time { return epoch.AddDate(0, 0, -n) }
	for name, test := range map[string]struct {
		from, to time.Time
		days     int
		ok       bool
	}{
		"far away":            {time.Time{}, day(91), 0, false},
		"first look":          {time.Time{}, day(89), 90, true},
		"exactly at it":       {day(91), day(90), 90, true},
		"told already":        {day(90), day(40), 0, false},
		"several in downtime": {day(100), day(5), 7, true},
		"expired meanwhile":   {day(100), day(-3), 0, true},
		"expired, told":       {day(-1), day(-3), 0, false},
		"expired, first look": {time.Time{}, day(-300), 0, true},
	} {
		days, ok := d.expiry(notAfter, test.from, test.to)
		if days != test.days || ok != test.ok {
			t.Errorf("%s: %d, %v; want %d, %v", name, days, ok, test.days, test.ok)
		}
	}
}
