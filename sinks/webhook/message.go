package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// maxBody is below the 20 kB that the specification recommends.
const maxBody = 20_000 - 1

// Activities that a receiver can be told of.
const (
	ActivityCreated = "created"
	ActivityUpdated = "updated"
	ActivityClosed  = "closed"
)

func activityOf(f *schemas.Finding) string {
	switch f.ActivityID {
	case schemas.ActivityCreate:
		return ActivityCreated
	case schemas.ActivityUpdate:
		return ActivityUpdated
	case schemas.ActivityClose:
		return ActivityClosed
	}
	return ""
}

// messageID returns the webhook-id. Only updates carry the revision: there is
// one creation and one end, and a replay may number its records differently.
func messageID(f *schemas.Finding) string {
	id := f.FindingInfo.UID
	if !plain(id) {
		// A full stop would make the signed text ambiguous.
		sum := sha256.Sum256([]byte(id))
		id = hex.EncodeToString(sum[:16])
	}
	activity := activityOf(f)
	if activity == ActivityUpdated {
		return id + "_" + activity + "_" + strconv.FormatInt(f.Unmapped.Revision, 10)
	}
	return id + "_" + activity
}

func plain(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

// payload is the body.
type payload struct {
	Type      string           `json:"type"`
	Timestamp string           `json:"timestamp"` // of the finding, not of the attempt: the body must not change
	Data      *schemas.Finding `json:"data"`
}

// body encodes the message about f, which it may change to make it fit.
func body(f *schemas.Finding) ([]byte, error) {
	p := payload{
		Type:      "detection." + activityOf(f),
		Timestamp: time.UnixMilli(f.Time).UTC().Format("2006-01-02T15:04:05.000Z"),
		Data:      f,
	}
	for step := 0; ; step++ {
		b, err := json.Marshal(&p)
		if err != nil {
			return nil, err
		}
		if len(b) <= maxBody {
			return b, nil
		}
		if !trim(f, step) {
			return nil, fmt.Errorf("the finding has %d bytes even without its evidence; a webhook holds %d", len(b), maxBody)
		}
	}
}

// trim makes f smaller, in steps from what is missed least, and reports whether
// there was a step left. Whatever is left out is in tocsin.detections.
func trim(f *schemas.Finding, step int) bool {
	info, own := &f.FindingInfo, &f.Unmapped
	switch step {
	case 0:
		info.RelatedEvents = nil
		own.EvidenceComplete = false
	case 1, 2, 3, 4, 5, 6, 7, 8, 9, 10:
		// The first and the last events tell most of the story.
		n := len(f.Evidences) / 2
		first := (n + 1) / 2
		f.Evidences = append(f.Evidences[:first:first], f.Evidences[len(f.Evidences)-(n-first):]...)
		own.EvidenceComplete = false
	case 11:
		f.Observables = nil
		own.RuleReferences, own.FalsePositives, own.RuleTags = nil, nil, nil
		info.Attacks = nil
	case 12:
		info.Desc = shorten(info.Desc, 1000)
		info.Title, f.Message = shorten(info.Title, 500), shorten(f.Message, 2000)
		f.Evidences = nil
	case 13:
		info.Desc, own.Group, own.RuleAuthor, info.SrcURL = "", nil, "", ""
		own.GroupKey = shorten(own.GroupKey, 500)
	default:
		return false
	}
	return true
}

// shorten cuts s to n bytes or a little less, at a character's boundary.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n] + "..."
}
