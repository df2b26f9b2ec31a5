package correlate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// attackVersion is the MITRE ATT&CK version that the packs' tags refer to.
const attackVersion = "18"

// maxGroupValue bounds a group value in a detection's text, in bytes.
const maxGroupValue = 256

// findingOf describes a detection as OCSF has it.
type findingOf struct {
	meta     *rules.Meta
	id       DetectionID
	kind     EpisodeKind
	groupBy  []string
	group    [][]byte
	groupKey []byte
	count    int64
	first    int64 // Unix milliseconds
	last     int64
	revision int64
	complete bool
	mergedTo DetectionID
	evidence []schemas.EvidenceData

	correlationType string
	timespan        time.Duration
	account, region string
}

// episodeFinding describes a change of an episode of c.
func episodeFinding(c *rules.Correlation, ep *Episode) findingOf {
	// The windows hold no group that is not a tuple: without a group the finding
	// is still right in all else.
	group, _ := DecodeTuple(ep.Group)
	f := findingOf{
		meta: &c.Meta, id: ep.ID, kind: ep.Kind,
		groupBy: c.GroupBy, group: group, groupKey: ep.Group,
		count: ep.Count, first: ep.First, last: ep.Last,
		revision: ep.Revision, complete: ep.Complete, mergedTo: ep.MergedInto,
		correlationType: c.Type.String(), timespan: c.Timespan,
	}
	for i := range ep.Evidence {
		ev := &ep.Evidence[i]
		data := decodeEvidence(ev.Blob)
		data.EventID, data.Time = ev.ID.String(), ev.Time
		if int(ev.Step) < len(c.Steps) {
			data.Rule = c.Steps[ev.Step].Name
		}
		f.evidence = append(f.evidence, data)
	}
	return f
}

// matchFinding describes an event that matched a rule that alerts by itself.
func matchFinding(r *rules.Rule, ev *schemas.Event) findingOf {
	data := decodeEvidence(appendEvidence(nil, ev))
	data.EventID, data.Time, data.Rule = ev.ID.String(), ev.Time, r.Name
	return findingOf{
		meta: &r.Meta, id: singleID(r.ID, ev.ID), kind: EpisodeOpened,
		groupBy: []string{rules.DeviceField}, group: [][]byte{ev.Device}, groupKey: ev.Device,
		count: 1, first: ev.Time, last: ev.Time, revision: 1, complete: true,
		evidence: []schemas.EvidenceData{data},
		account:  string(ev.Account), region: string(ev.Region),
	}
}

// singleID is the ID of a detection by one event: the same whenever that event
// is seen again.
func singleID(rule string, event schemas.EventID) DetectionID {
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s", len(rule), rule)
	h.Write(event[:])
	return DetectionID(h.Sum(nil)[:len(DetectionID{})])
}

func (f *findingOf) finding(version string) *schemas.Finding {
	out := &schemas.Finding{
		CategoryUID: schemas.FindingCategoryUID,
		ClassUID:    schemas.FindingClassUID,
		IsAlert:     true,
		SeverityID:  severityID(f.meta.Level),
		Severity:    severityName(f.meta.Level),
		Time:        f.last,
		StartTime:   f.first,
		EndTime:     f.last,
		Count:       f.count,
		Metadata: schemas.FindingMetadata{
			Version: schemas.FindingVersion,
			Product: schemas.FindingProduct{Name: "Tocsin", VendorName: "Tocsin", Version: version},
			UID:     fmt.Sprintf("%s-%d", f.id, f.revision),
		},
		FindingInfo: schemas.FindingInfo{
			UID:           f.id.String(),
			Title:         f.meta.Title,
			Desc:          f.meta.Description,
			CreatedTime:   f.last,
			FirstSeenTime: f.first,
			LastSeenTime:  f.last,
			Analytic:      schemas.Analytic{TypeID: 1, Type: "Rule", UID: f.meta.ID, Name: f.meta.Title},
			Attacks:       attacks(f.meta.Tags),
		},
		Unmapped: schemas.FindingExtension{
			RuleName:         f.meta.Name,
			RuleLevel:        f.meta.Level.String(),
			RuleTags:         f.meta.Tags,
			RuleAuthor:       f.meta.Author,
			RuleReferences:   f.meta.References,
			FalsePositives:   f.meta.FalsePositives,
			CorrelationType:  f.correlationType,
			TimespanMillis:   f.timespan.Milliseconds(),
			GroupKey:         hex.EncodeToString(f.groupKey),
			Revision:         f.revision,
			EvidenceComplete: f.complete,
		},
	}
	if len(f.meta.References) > 0 {
		out.FindingInfo.SrcURL = f.meta.References[0]
	}
	f.activity(out)
	for i, name := range f.groupBy {
		if i >= len(f.group) {
			break
		}
		if out.Unmapped.Group == nil {
			out.Unmapped.Group = make(map[string]string, len(f.groupBy))
		}
		out.Unmapped.Group[name] = string(f.group[i][:min(len(f.group[i]), maxGroupValue)])
	}
	for _, e := range f.evidence {
		out.Evidences = append(out.Evidences, schemas.Evidence{Data: e})
		out.FindingInfo.RelatedEvents = append(out.FindingInfo.RelatedEvents,
			schemas.RelatedEvent{UID: e.EventID, Type: e.EventType})
	}
	f.subjects(out)
	if f.account != "" || f.region != "" {
		out.Metadata.Profiles = []string{"cloud"}
		out.Cloud = &schemas.FindingCloud{Provider: "AWS", Region: f.region}
		if f.account != "" {
			out.Cloud.Account = &schemas.FindingAccount{UID: f.account}
		}
	}
	out.Message = f.message(out)
	return out
}

func (f *findingOf) activity(out *schemas.Finding) {
	switch f.kind {
	case EpisodeUpdated:
		out.ActivityID, out.ActivityName = schemas.ActivityUpdate, "Update"
		out.StatusID, out.Status = schemas.StatusInProgress, "In Progress"
	case EpisodeClosed:
		out.ActivityID, out.ActivityName = schemas.ActivityClose, "Close"
		out.StatusID, out.Status = schemas.StatusResolved, "Resolved"
	case EpisodeMerged, EpisodeRetracted:
		out.ActivityID, out.ActivityName = schemas.ActivityClose, "Close"
		out.StatusID, out.Status = schemas.StatusSuppressed, "Suppressed"
		if f.kind == EpisodeMerged {
			out.Unmapped.MergedInto = f.mergedTo.String()
		}
	default:
		out.ActivityID, out.ActivityName = schemas.ActivityCreate, "Create"
		out.StatusID, out.Status = schemas.StatusNew, "New"
	}
	out.TypeUID = out.ClassUID*100 + out.ActivityID
}

// subjects names the device, certificate and address that the detection is
// about: those of the group, else those that all the evidence agrees on. A
// detection about many devices is about none of them.
func (f *findingOf) subjects(out *schemas.Finding) {
	common := func(names []string, of func(schemas.EvidenceData) string) string {
		for _, name := range names {
			if v := out.Unmapped.Group[name]; v != "" {
				return v
			}
		}
		value := ""
		for _, e := range f.evidence {
			v := of(e)
			if v == "" {
				continue
			}
			if value != "" && value != v {
				return ""
			}
			value = v
		}
		return value
	}
	device := common([]string{"tocsin.device", "tocsin.client_id", "clientId"},
		func(e schemas.EvidenceData) string { return e.Device })
	certificate := common([]string{"tocsin.certificate_id", "principalId"},
		func(e schemas.EvidenceData) string { return e.CertificateID })
	address := common([]string{"tocsin.source_ip", "sourceIp"},
		func(e schemas.EvidenceData) string { return e.SourceIP })
	if device != "" {
		out.Device = &schemas.FindingDevice{TypeID: 7, Type: "IOT", UID: device, Name: device, IP: address}
		out.Observables = append(out.Observables, schemas.Observable{TypeID: 10, Type: "Resource UID", Name: "device.uid", Value: device})
	}
	if address != "" {
		out.Observables = append(out.Observables, schemas.Observable{TypeID: 2, Type: "IP Address", Name: "device.ip", Value: address})
	}
	if certificate != "" {
		out.Unmapped.CertificateID = certificate
		out.Observables = append(out.Observables, schemas.Observable{TypeID: 10, Type: "Resource UID", Name: "unmapped.certificate_id", Value: certificate})
	}
}

func (f *findingOf) message(out *schemas.Finding) string {
	var b strings.Builder
	b.WriteString(f.meta.Title)
	for _, name := range f.groupBy {
		if v, ok := out.Unmapped.Group[name]; ok {
			fmt.Fprintf(&b, ", %s %s", name, v)
		}
	}
	if f.count == 1 {
		fmt.Fprintf(&b, ": 1 event at %s", timeText(f.first))
	} else {
		fmt.Fprintf(&b, ": %d events from %s to %s", f.count, timeText(f.first), timeText(f.last))
	}
	return b.String()
}

func timeText(millis int64) string {
	return time.UnixMilli(millis).UTC().Format("2006-01-02 15:04:05.000Z")
}

// severityID maps Sigma's levels to OCSF's severities.
func severityID(l rules.Level) int {
	switch l {
	case rules.LevelInformational, rules.LevelLow, rules.LevelMedium, rules.LevelHigh, rules.LevelCritical:
		return int(l)
	default:
		return 0
	}
}

func severityName(l rules.Level) string {
	return [...]string{"Unknown", "Informational", "Low", "Medium", "High", "Critical"}[severityID(l)]
}

// attacks turns Sigma's tags (attack.t1078.004, attack.initial-access) into
// OCSF's attack objects.
func attacks(tags []string) []schemas.Attack {
	var out []schemas.Attack
	for _, tag := range tags {
		name, ok := strings.CutPrefix(strings.ToLower(tag), "attack.")
		if !ok || name == "" {
			continue
		}
		a := schemas.Attack{Version: attackVersion}
		if name[0] == 't' && len(name) > 1 && name[1] >= '0' && name[1] <= '9' {
			a.Technique = &schemas.AttackObject{UID: strings.ToUpper(name)}
		} else {
			a.Tactic = &schemas.AttackObject{Name: tacticName(name)}
		}
		out = append(out, a)
	}
	return out
}

// tacticName turns "initial-access" into "Initial Access".
func tacticName(tag string) string {
	words := strings.FieldsFunc(tag, func(r rune) bool { return r == '-' || r == '_' })
	for i, w := range words {
		words[i] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, " ")
}

func encodeFinding(f *schemas.Finding) ([]byte, error) { return json.Marshal(f) }
