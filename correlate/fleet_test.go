package correlate

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// fleetRules has one rule for every way an event can take: a detection by
// itself, windows beside the events, windows behind the shuffle, results of
// either as events of others, conditions decided at once and by the watermark.
const fleetRules = `
title: Logging switched off
id: r-logging
name: logging_off
logsource: {product: aws, service: cloudtrail}
detection: {s: {eventName: SetV2LoggingOptions}, condition: s}
level: high
tags: [attack.defense-evasion, attack.t1562.008]
---
title: Connected
id: r-connect
name: connect
logsource: {product: aws, service: iot}
detection: {s: {eventType: Connect, status: Success}, condition: s}
---
title: Connection refused
id: r-refused
name: refused
logsource: {product: aws, service: iot}
detection: {s: {eventType: Connect, status: Failure}, condition: s}
---
title: Published
id: r-publish
name: publish
logsource: {product: aws, service: iot}
detection: {s: {eventType: Publish-In}, condition: s}
---
title: GuardDuty finding
id: r-finding
name: finding
logsource: {product: aws, service: guardduty}
detection: {s: {type|startswith: "UnauthorizedAccess:"}, condition: s}
---
title: Device refused several times
id: c-refusals
name: refusals
correlation:
  type: event_count
  rules: [refused]
  group-by: [tocsin.device, tocsin.account]
  timespan: 1m
  condition: {gte: 3}
level: medium
---
title: Certificate shared
id: c-shared
name: shared
correlation:
  type: value_count
  rules: [connect]
  group-by: [tocsin.certificate_id, tocsin.account]
  timespan: 1m
  condition: {field: clientId, gte: 3}
level: high
---
title: Refused, then found
id: c-ordered
name: refused_then_found
correlation:
  type: temporal_ordered
  rules: [refused, finding]
  group-by: [tocsin.certificate_id]
  timespan: 2m
generate: true
---
title: Connected but silent
id: c-silent
name: silent
correlation:
  type: temporal
  rules: [connect, publish]
  group-by: [tocsin.device]
  timespan: 1m
  condition: connect and not publish
---
title: Many addresses at once, in the whole fleet
id: c-everywhere
name: everywhere
correlation:
  type: value_count
  rules: [connect]
  timespan: 10s
  condition: {field: tocsin.source_ip, gte: 9}
level: medium
---
title: Account under attack
id: c-attack
name: attack
correlation:
  type: event_count
  rules: [refusals]
  group-by: [tocsin.account]
  timespan: 3m
  condition: {gte: 3}
generate: true
level: critical
---
title: Certificates shared all over the account
id: c-shared-often
name: shared_often
correlation:
  type: event_count
  rules: [shared]
  group-by: [tocsin.account]
  timespan: 3m
  condition: {gte: 2}
generate: true
`

func compileRules(t testing.TB, text string) *rules.Set {
	t.Helper()
	set, diags := rules.Compile([]rules.Source{{Name: "test.yml", Data: []byte(text)}}, rules.Options{Strict: true})
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	return set
}

// fleetStart is the time of a fleet's first event.
const fleetStart = int64(1_790_000_000_000)

// fleetEvents returns n events over the given time in their order of arrival:
// up to 10 s out of order, some of them twice.
func fleetEvents(seed uint64, n int, over time.Duration) []*schemas.Event {
	rng := rand.New(rand.NewPCG(seed, 7))
	const devices, certificates = 40, 16
	type arrival struct {
		ev *schemas.Event
		at int64
	}
	var list []arrival
	for i := range n {
		at := fleetStart + rng.Int64N(over.Milliseconds())
		device := rng.IntN(devices)
		if rng.IntN(3) == 0 {
			device = rng.IntN(4) // a few are busy
		}
		certificate := device % certificates
		if rng.IntN(8) == 0 {
			certificate = rng.IntN(2)
		}
		name := fmt.Sprintf("device-%02d", device)
		ev := &schemas.Event{
			ID: schemas.NewEventID(fmt.Appendf(nil, "%d-%d", seed, i)), Time: at, IngestTime: at + 1000,
			Source: []byte(schemas.SourceIoT), Type: []byte("Connect"), Account: fmt.Appendf(nil, "11112222333%d", device%3),
			Region: []byte("eu-west-1"), Device: []byte(name), ClientID: []byte(name), SourceIP: fmt.Appendf(nil, "198.51.100.%d", device),
			CertificateID: fmt.Appendf(nil, "cert-%02d", certificate),
		}
		switch k := rng.IntN(100); {
		case k < 40:
			ev.Message = fmt.Appendf(nil, `{"eventType":"Connect","status":"Success","clientId":%q}`, name)
		case k < 70:
			ev.Outcome = schemas.OutcomeFailure
			ev.Message = fmt.Appendf(nil, `{"eventType":"Connect","status":"Failure","clientId":%q}`, name)
		case k < 90:
			ev.Type, ev.Message = []byte("Publish-In"), fmt.Appendf(nil, `{"eventType":"Publish-In","clientId":%q}`, name)
		case k < 96:
			ev.Source, ev.Type, ev.ClientID = []byte(schemas.SourceGuardDuty), []byte("finding"), nil
			ev.Device = fmt.Appendf(nil, "cert:%s", ev.CertificateID)
			ev.Message = []byte(`{"type":"UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration"}`)
		case k < 98:
			ev.Source, ev.Type, ev.ClientID, ev.CertificateID = []byte(schemas.SourceCloudTrail), []byte("SetV2LoggingOptions"), nil, nil
			ev.Device = fmt.Appendf(nil, "account:%s", ev.Account)
			ev.Message = []byte(`{"eventName":"SetV2LoggingOptions"}`)
		default:
			ev.CertificateID = nil // takes no part where the group is the certificate
			ev.Message = fmt.Appendf(nil, `{"eventType":"Connect","status":"Success","clientId":%q}`, name)
		}
		list = append(list, arrival{ev, at + rng.Int64N(10_000)})
		if rng.IntN(40) == 0 {
			list = append(list, arrival{ev, at + rng.Int64N(20_000)})
		}
	}
	for _, ev := range waves(seed, over) {
		list = append(list, arrival{ev, ev.Time + rng.Int64N(10_000)})
	}
	slices.SortStableFunc(list, func(a, b arrival) int { return int(a.at - b.at) })
	events := make([]*schemas.Event, len(list))
	for i := range list {
		events[i] = list[i].ev
	}
	return events
}

// wavesAccount has the events of which the detections are again events: bursts
// far enough apart that the order of arrival cannot change how many there are.
const wavesAccount = "999999999999"

func waves(seed uint64, over time.Duration) []*schemas.Event {
	var out []*schemas.Event
	add := func(at int64, device, certificate, status string) {
		out = append(out, &schemas.Event{
			ID: schemas.NewEventID(fmt.Appendf(nil, "wave-%d-%d", seed, len(out))), Time: at, IngestTime: at + 1000,
			Source: []byte(schemas.SourceIoT), Type: []byte("Connect"), Account: []byte(wavesAccount), Device: []byte(device),
			ClientID: []byte(device), CertificateID: []byte(certificate),
			Message: fmt.Appendf(nil, `{"eventType":"Connect","status":%q,"clientId":%q}`, status, device),
		})
	}
	for wave := int64(0); (wave+1)*420_000 < over.Milliseconds(); wave++ {
		for i := range int64(5) {
			at := fleetStart + wave*420_000 + i*20_000
			for j := range int64(3) {
				add(at+j*5000, fmt.Sprintf("wave-%d-%d", wave, i), fmt.Sprintf("refused-%d-%d", wave, i), "Failure")
				add(at+j*4000, fmt.Sprintf("wave-%d-%d-%d", wave, i, j), fmt.Sprintf("shared-%d-%d", wave, i%3), "Success")
			}
		}
	}
	return out
}

// outcome is what must be the same of a detection whatever the order of
// arrival, the partitions and the crashes. Its ID may depend on the order in
// which events of several partitions came together; see byID.
type outcome struct {
	Rule, Group, Status string
	First, Last, Count  int64
	Evidence            string
}

func outcomeOf(f *schemas.Finding) outcome {
	o := outcome{
		Rule: f.FindingInfo.Analytic.UID, Group: f.Unmapped.GroupKey, Status: f.Status,
		First: f.StartTime - fleetStart, Last: f.EndTime - fleetStart, Count: f.Count,
	}
	var ids []string
	for _, e := range f.FindingInfo.RelatedEvents {
		ids = append(ids, e.UID[:8])
	}
	for _, e := range f.Evidences {
		ids = append(ids, e.Data.Device+e.Data.ClientID)
	}
	switch o.Rule {
	case "c-attack", "c-shared-often":
		// Their events are detections. The IDs of these are not among what is always
		// the same, and neither is which satisfied window was found first.
		ids, o.First, o.Last = []string{fmt.Sprint(len(ids))}, 0, 0
	}
	o.Evidence = strings.Join(ids, " ")
	return o
}

// newest folds findings, in the order of the log, into the newest state of each
// detection: the one with the greatest revision, as ClickHouse keeps it.
func newest(findings []*schemas.Finding) map[string]*schemas.Finding {
	states := make(map[string]*schemas.Finding)
	for _, f := range findings {
		before := states[f.FindingInfo.UID]
		if before == nil || f.Unmapped.Revision >= before.Unmapped.Revision {
			states[f.FindingInfo.UID] = f
		}
	}
	return states
}

// last is newest by the order of the log alone.
func last(findings []*schemas.Finding) map[string]*schemas.Finding {
	states := make(map[string]*schemas.Finding)
	for _, f := range findings {
		states[f.FindingInfo.UID] = f
	}
	return states
}

// outcomes returns what stands in the end, sorted. Detections that late events
// made a part of others, or showed to be wrong, do not.
func outcomes(states map[string]*schemas.Finding) []outcome {
	var out []outcome
	for _, f := range states {
		nested := f.FindingInfo.Analytic.UID == "c-attack" || f.FindingInfo.Analytic.UID == "c-shared-often"
		if f.Status != "Suppressed" && (!nested || f.Unmapped.Group["tocsin.account"] == wavesAccount) {
			out = append(out, outcomeOf(f))
		}
	}
	slices.SortFunc(out, func(a, b outcome) int {
		return cmp.Or(strings.Compare(a.Rule, b.Rule), strings.Compare(a.Group, b.Group), cmp.Compare(a.First, b.First),
			cmp.Compare(a.Last, b.Last), cmp.Compare(a.Count, b.Count), strings.Compare(a.Status, b.Status), strings.Compare(a.Evidence, b.Evidence))
	})
	return out
}

// expected is what a correlator must find: what the windows find in one place,
// given all the events in order.
func expected(t testing.TB, set *rules.Set, events []*schemas.Event) []outcome {
	t.Helper()
	var findings []*schemas.Finding
	r := NewReplay(set, ReplayOptions{Reorder: len(events) * 64}, func(f *schemas.Finding) { findings = append(findings, f) })
	for _, ev := range events {
		r.Event(ev)
	}
	r.Finish()
	if late := r.Stats().Windows.Late; late != 0 {
		t.Fatalf("%d late events in the reference", late)
	}
	return outcomes(newest(findings))
}

// localIDs returns the IDs of detections whose windows live where the events
// are: these must be equal in every run.
func localIDs(set *rules.Set, states map[string]*schemas.Finding) []string {
	local := make(map[string]bool)
	for _, r := range set.Rules {
		local[r.ID] = true
	}
	for _, c := range set.Correlations {
		local[c.ID] = c.Local
	}
	var out []string
	for id, f := range states {
		if rule := f.FindingInfo.Analytic.UID; local[rule] && f.Status != "Suppressed" {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

func TestFleetReachesEveryRule(t *testing.T) {
	count := make(map[string]int)
	for _, o := range expected(t, compileRules(t, fleetRules), fleetEvents(1, 2000, 30*time.Minute)) {
		count[o.Rule]++
	}
	t.Log(count)
	for _, rule := range []string{"r-logging", "r-refused", "r-finding", "c-refusals", "c-shared", "c-ordered", "c-silent", "c-everywhere", "c-attack", "c-shared-often"} {
		if count[rule] < 3 {
			t.Errorf("%d detections of %s", count[rule], rule)
		}
	}
}
