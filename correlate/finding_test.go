package correlate

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// requireOCSF checks what OCSF requires of a Detection Finding, in every version
// from 1.1 on: https://schema.ocsf.io/classes/detection_finding
func requireOCSF(t testing.TB, document []byte) {
	t.Helper()
	var f map[string]any
	if err := json.Unmarshal(document, &f); err != nil {
		t.Fatalf("%v: %.200s", err, document)
	}
	get := func(path string) any {
		var v any = f
		for name := range strings.SplitSeq(path, ".") {
			m, _ := v.(map[string]any)
			v = m[name]
		}
		return v
	}
	for _, path := range []string{
		"activity_id", "category_uid", "class_uid", "type_uid", "severity_id", "status_id", "time",
		"metadata.version", "metadata.product.vendor_name", "metadata.product.name",
		"finding_info.uid", "finding_info.title", "finding_info.analytic.type_id", "finding_info.analytic.uid",
	} {
		if v := get(path); v == nil || v == "" {
			t.Errorf("%s is missing: %s", path, document)
		}
	}
	if get("class_uid") != 2004.0 || get("category_uid") != 2.0 || get("type_uid") != 200400+get("activity_id").(float64) {
		t.Errorf("class %v, category %v, type %v, activity %v", get("class_uid"), get("category_uid"), get("type_uid"), get("activity_id"))
	}
	if get("cloud") != nil && (get("cloud.provider") == nil || !strings.Contains(string(document), `"profiles":["cloud"]`)) {
		t.Errorf("cloud without provider or profile: %s", document)
	}
	observables, _ := get("observables").([]any)
	for _, o := range observables {
		if m := o.(map[string]any); m["name"] == "" || m["type_id"] == nil || m["value"] == "" {
			t.Errorf("observable %v", m)
		}
	}
}

func TestFindingOfEachKind(t *testing.T) {
	c := &rules.Correlation{
		Meta: rules.Meta{
			ID: "id", Name: "name", Title: "Title", Level: rules.LevelHigh, Tags: []string{"attack.t1078.004", "attack.initial-access", "other"},
			References: []string{"https://example.com/a", "https://example.com/b"},
		},
		Type: rules.EventCount, GroupBy: []string{"tocsin.certificate_id", "missing"}, Timespan: time.Minute,
		Steps: []rules.Step{{Name: "first"}, {Name: "second"}},
	}
	event := func(device, ip string) []byte {
		return appendEvidence(nil, &schemas.Event{Source: []byte("iot"), Device: []byte(device), SourceIP: []byte(ip), Outcome: schemas.OutcomeFailure})
	}
	ep := Episode{
		ID: DetectionID{1}, Group: AppendTuple(nil, []byte("cert\xff")), Count: 2, First: 1000, Last: 2000, Revision: 3, MergedInto: DetectionID{2},
		Evidence: []EvidenceEvent{
			{ID: schemas.EventID{1}, Time: 1000, Step: 1, Blob: event("pump-1", "192.0.2.1")},
			{ID: schemas.EventID{2}, Time: 2000, Step: 9, Blob: event("pump-2", "192.0.2.1")},
		},
	}
	for kind, want := range map[EpisodeKind][3]string{
		EpisodeOpened:    {"Create", "New", ""},
		EpisodeUpdated:   {"Update", "In Progress", ""},
		EpisodeClosed:    {"Close", "Resolved", ""},
		EpisodeMerged:    {"Close", "Suppressed", DetectionID{2}.String()},
		EpisodeRetracted: {"Close", "Suppressed", ""},
	} {
		ep.Kind = kind
		d := episodeFinding(c, &ep)
		f := d.finding("1.2.3")
		document, err := encodeFinding(f)
		if err != nil {
			t.Fatal(err)
		}
		requireOCSF(t, document)
		if got := [3]string{f.ActivityName, f.Status, f.Unmapped.MergedInto}; got != want {
			t.Errorf("%s: %v, want %v", kind, got, want)
		}
		// Both devices in the evidence: it is about neither. One address: about that.
		if f.Device != nil {
			t.Errorf("%s: device %v", kind, f.Device)
		}
		wantObservables := []schemas.Observable{
			{TypeID: 2, Type: "IP Address", Name: "device.ip", Value: "192.0.2.1"},
			{TypeID: 10, Type: "Resource UID", Name: "unmapped.certificate_id", Value: "cert\xff"},
		}
		if diff := cmp.Diff(wantObservables, f.Observables); diff != "" {
			t.Error(diff)
		}
		if f.Evidences[0].Data.Rule != "second" || f.Evidences[1].Data.Rule != "" || f.Evidences[0].Data.Outcome != "failure" {
			t.Errorf("evidence %+v", f.Evidences)
		}
	}
	d := episodeFinding(c, &ep)
	f := d.finding("")
	wantAttacks := []schemas.Attack{
		{Version: attackVersion, Technique: &schemas.AttackObject{UID: "T1078.004"}},
		{Version: attackVersion, Tactic: &schemas.AttackObject{Name: "Initial Access"}},
	}
	if diff := cmp.Diff(wantAttacks, f.FindingInfo.Attacks); diff != "" {
		t.Error(diff)
	}
	if want := "Title, tocsin.certificate_id cert\xff: 2 events from 1970-01-01 00:00:01.000Z to 1970-01-01 00:00:02.000Z"; f.Message != want {
		t.Errorf("message %q, want %q", f.Message, want)
	}
	if f.FindingInfo.SrcURL != "https://example.com/a" || f.Unmapped.TimespanMillis != 60_000 || f.Unmapped.CorrelationType != "event_count" {
		t.Errorf("%+v", f)
	}
}

// TestSingleEventFinding: its ID follows from rule and event alone, its subjects
// from the event.
func TestSingleEventFinding(t *testing.T) {
	r := &rules.Rule{Meta: rules.Meta{ID: "r", Name: "n", Title: "T", Level: rules.LevelLow}}
	ev := &schemas.Event{
		ID: schemas.EventID{7}, Time: 5, Source: []byte("iot"), Device: []byte("pump"), CertificateID: []byte("cert"),
		SourceIP: []byte("192.0.2.9"), Account: []byte("111122223333"), Region: []byte("eu-west-1"),
	}
	d := matchFinding(r, ev)
	f := d.finding("v")
	document, err := encodeFinding(f)
	if err != nil {
		t.Fatal(err)
	}
	requireOCSF(t, document)
	want := &schemas.FindingDevice{TypeID: 7, Type: "IOT", UID: "pump", Name: "pump", IP: "192.0.2.9"}
	if diff := cmp.Diff(want, f.Device); diff != "" {
		t.Error(diff)
	}
	if f.Cloud.Account.UID != "111122223333" || f.Cloud.Region != "eu-west-1" || f.Count != 1 || f.Severity != "Low" || f.Unmapped.CertificateID != "cert" {
		t.Errorf("%+v", f)
	}
	if singleID("r", ev.ID) != d.id || singleID("r2", ev.ID) == d.id || singleID("r", schemas.EventID{8}) == d.id {
		t.Error("the ID is not that of rule and event")
	}
}

func TestRevisionsGrowWithWhatIsKnown(t *testing.T) {
	order := []int64{
		revision(-1, EpisodeOpened), revision(0, EpisodeUpdated), revision(0, EpisodeRetracted), revision(1, EpisodeOpened),
		revision(1, EpisodeUpdated), revision(1, EpisodeClosed), revision(2, EpisodeOpened),
	}
	for i := 1; i < len(order); i++ {
		if order[i] <= order[i-1] {
			t.Errorf("revision %d of %v", i, order)
		}
	}
	if last := revision(1<<50-1, EpisodeRetracted); last >= 1<<53 || last <= 0 {
		t.Errorf("%d is no integer of a double", last)
	}
}
