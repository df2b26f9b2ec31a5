package webhook

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tocsin-io/tocsin/schemas"
)

// finding returns a detection finding of one activity and level.
func finding(uid string, activity int, level string) *schemas.Finding {
	return &schemas.Finding{
		ActivityID: activity, ClassUID: schemas.FindingClassUID, CategoryUID: schemas.FindingCategoryUID,
		Time: 1_795_000_000_123, Message: "a message",
		FindingInfo: schemas.FindingInfo{UID: uid, Title: "Revoked certificate connects"},
		Unmapped:    schemas.FindingExtension{RuleLevel: level, Revision: 1, EvidenceComplete: true},
	}
}

func TestMessageID(t *testing.T) {
	updated := finding("abc", schemas.ActivityUpdate, "high")
	updated.Unmapped.Revision = 7
	for _, tc := range []struct {
		f    *schemas.Finding
		want string
	}{
		{finding("abc", schemas.ActivityCreate, "high"), "abc_created"},
		{finding("abc", schemas.ActivityClose, "high"), "abc_closed"},
		{updated, "abc_updated_7"},
	} {
		if got := messageID(tc.f); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
	for _, uid := range []string{"a.b", "a b", "a\nb", strings.Repeat("a", 200)} {
		got := messageID(finding(uid, schemas.ActivityCreate, "high"))
		if strings.ContainsAny(got, ". \n") || len(got) > 64 {
			t.Errorf("%q gives %q", uid, got)
		}
	}
}

func TestBody(t *testing.T) {
	b, err := body(finding("abc", schemas.ActivityCreate, "high"))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Type, Timestamp string
		Data            schemas.Finding
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if got.Type != schemas.WebhookDetectionCreated || got.Timestamp != "2026-11-18T11:06:40.123Z" || got.Data.FindingInfo.UID != "abc" {
		t.Errorf("%+v", got)
	}
}

func TestBodyIsTrimmedToFit(t *testing.T) {
	evidence := func(n int) []schemas.Evidence {
		e := make([]schemas.Evidence, n)
		for i := range e {
			e[i].Data = schemas.EvidenceData{EventID: fmt.Sprintf("%032x", i), Source: "iot", Device: strings.Repeat("d", 100)}
		}
		return e
	}
	t.Run("evidence", func(t *testing.T) {
		f := finding("abc", schemas.ActivityCreate, "high")
		f.Evidences = evidence(500)
		b, err := body(f)
		if err != nil || len(b) > maxBody {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		var got payload
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		e := got.Data.Evidences
		if len(e) < 20 || e[0].Data.EventID != fmt.Sprintf("%032x", 0) || e[len(e)-1].Data.EventID != fmt.Sprintf("%032x", 499) {
			t.Errorf("%d events are left, from %s to %s", len(e), e[0].Data.EventID, e[len(e)-1].Data.EventID)
		}
		if got.Data.Unmapped.EvidenceComplete {
			t.Error("evidence is said to be complete")
		}
	})
	t.Run("everything is long", func(t *testing.T) {
		f := finding("abc", schemas.ActivityCreate, "high")
		long := strings.Repeat("\u00e4", 30_000)
		f.Message, f.FindingInfo.Desc, f.FindingInfo.Title, f.FindingInfo.SrcURL = long, long, long, long
		f.Unmapped.RuleReferences, f.Unmapped.FalsePositives, f.Unmapped.GroupKey = []string{long}, []string{long}, long
		f.Unmapped.Group = map[string]string{"a": long}
		f.Evidences = evidence(300)
		b, err := body(f)
		if err != nil || len(b) > maxBody || !utf8.Valid(b) {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		if !strings.Contains(string(b), `"uid":"abc"`) || !strings.Contains(string(b), "...") {
			t.Errorf("%s", b)
		}
	})
	t.Run("cannot", func(t *testing.T) {
		f := finding(strings.Repeat("a", 30_000), schemas.ActivityCreate, "high")
		if b, err := body(f); err == nil {
			t.Fatalf("%d bytes", len(b))
		}
	})
}

func TestSentIDsForgetTheOldest(t *testing.T) {
	s := newSentIDs(3)
	for _, id := range []string{"a", "b", "c"} {
		if !s.add(id) || s.add(id) {
			t.Fatal(id)
		}
	}
	if !s.add("d") || s.add("c") || s.add("d") {
		t.Error("the new ones must be known")
	}
	if !s.add("a") {
		t.Error("the oldest must be forgotten")
	}
	if len(s.set) != 3 || len(s.ring) != 3 {
		t.Errorf("%d IDs remembered", len(s.set))
	}
}
