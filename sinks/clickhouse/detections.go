package clickhouse

import (
	"encoding/json"
	"hash"
	"maps"

	"github.com/google/uuid"

	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
)

// maxEvidenceIDs bounds the evidence of one row, as a rule's tocsin.evidence
// should long before.
const maxEvidenceIDs = 10_000

// detectionTable makes rows of table detections from OCSF Detection Findings.
type detectionTable struct {
	cols []column

	id, activity, status                                               *values[string]
	ruleID, ruleTitle, correlationType, level, severity, title         *values[string]
	message, account, region, device, certificateID, sourceIP, groupBy *values[string]
	mergedInto, finding                                                *values[string]
	created, firstSeen, lastSeen                                       *values[int64]
	revision, count, offset                                            *values[uint64]
	severityID                                                         *values[uint8]
	ruleTags, tactics, techniques                                      *values[[]string]
	groupValues                                                        *values[map[string]string]
	evidence                                                           *values[[]uuid.UUID]
	evidenceComplete                                                   *values[bool]
	partition                                                          *values[uint32]
}

func newDetectionTable() *detectionTable {
	t := &detectionTable{
		id:               stringColumn("detection_id"),
		revision:         uint64Column("revision"),
		activity:         stringColumn("activity"),
		status:           stringColumn("status"),
		created:          timeColumn("created_time"),
		firstSeen:        timeColumn("first_seen"),
		lastSeen:         timeColumn("last_seen"),
		count:            uint64Column("count"),
		ruleID:           stringColumn("rule_id"),
		ruleTitle:        stringColumn("rule_title"),
		ruleTags:         stringsColumn("rule_tags"),
		correlationType:  stringColumn("correlation_type"),
		level:            stringColumn("level"),
		severity:         stringColumn("severity"),
		severityID:       uint8Column("severity_id"),
		title:            stringColumn("title"),
		message:          stringColumn("message"),
		account:          stringColumn("account"),
		region:           stringColumn("region"),
		device:           stringColumn("device"),
		certificateID:    stringColumn("certificate_id"),
		sourceIP:         stringColumn("source_ip"),
		groupBy:          stringColumn("group_key"),
		groupValues:      &values[map[string]string]{name: "group_values", chType: "Map(String, String)"},
		evidence:         &values[[]uuid.UUID]{name: "evidence_ids", chType: "Array(UUID)"},
		evidenceComplete: boolColumn("evidence_complete"),
		tactics:          stringsColumn("attack_tactics"),
		techniques:       stringsColumn("attack_techniques"),
		mergedInto:       stringColumn("merged_into"),
		finding:          stringColumn("finding"),
		partition:        uint32Column("kafka_partition"),
		offset:           uint64Column("kafka_offset"),
	}
	t.cols = []column{
		t.id, t.revision, t.activity, t.status, t.created, t.firstSeen, t.lastSeen, t.count,
		t.ruleID, t.ruleTitle, t.ruleTags, t.correlationType, t.level, t.severity, t.severityID,
		t.title, t.message, t.account, t.region, t.device, t.certificateID, t.sourceIP,
		t.groupBy, t.groupValues, t.evidence, t.evidenceComplete, t.tactics, t.techniques,
		t.mergedInto, t.finding, t.partition, t.offset,
	}
	return t
}

func (t *detectionTable) name() string      { return "detections" }
func (t *detectionTable) columns() []column { return t.cols }
func (t *detectionTable) crowded() bool     { return false }
func (t *detectionTable) reset()            {}

func (t *detectionTable) identity(h hash.Hash, from int) {
	for _, f := range t.finding.v[from:] {
		h.Write([]byte(f))
	}
}

func (t *detectionTable) decode(rec *sinks.Record) error {
	var f schemas.Finding
	if err := json.Unmarshal(rec.Value, &f); err != nil {
		return malformed("not a detection finding: %w", err)
	}
	if f.FindingInfo.UID == "" || f.ClassUID != schemas.FindingClassUID {
		return malformed("not a detection finding: class_uid %d, finding_info.uid %q", f.ClassUID, f.FindingInfo.UID)
	}
	info, own := &f.FindingInfo, &f.Unmapped
	t.id.add(info.UID)
	t.revision.add(uint64(max(own.Revision, 0)))
	t.activity.add(f.ActivityName)
	t.status.add(f.Status)
	t.created.add(clampTime(info.CreatedTime))
	t.firstSeen.add(clampTime(info.FirstSeenTime))
	t.lastSeen.add(clampTime(info.LastSeenTime))
	t.count.add(uint64(max(f.Count, 0)))
	t.ruleID.add(info.Analytic.UID)
	t.ruleTitle.add(info.Analytic.Name)
	t.ruleTags.add(orEmpty(own.RuleTags))
	t.correlationType.add(own.CorrelationType)
	t.level.add(own.RuleLevel)
	t.severity.add(f.Severity)
	t.severityID.add(uint8(min(max(f.SeverityID, 0), 255)))
	t.title.add(info.Title)
	t.message.add(f.Message)
	var account, region, device, address string
	if f.Cloud != nil {
		region = f.Cloud.Region
		if f.Cloud.Account != nil {
			account = f.Cloud.Account.UID
		}
	}
	if f.Device != nil {
		device, address = f.Device.UID, f.Device.IP
	}
	t.account.add(account)
	t.region.add(region)
	t.device.add(device)
	t.certificateID.add(own.CertificateID)
	t.sourceIP.add(address)
	t.groupBy.add(own.GroupKey)
	group := own.Group
	if group == nil {
		group = map[string]string{}
	}
	t.groupValues.add(maps.Clone(group))
	t.evidence.add(evidenceIDs(&f))
	t.evidenceComplete.add(own.EvidenceComplete)
	tactics, techniques := []string{}, []string{}
	for _, a := range info.Attacks {
		if a.Tactic != nil && a.Tactic.UID != "" {
			tactics = append(tactics, a.Tactic.UID)
		}
		if a.Technique != nil && a.Technique.UID != "" {
			techniques = append(techniques, a.Technique.UID)
		}
	}
	t.tactics.add(tactics)
	t.techniques.add(techniques)
	t.mergedInto.add(own.MergedInto)
	t.finding.add(text(rec.Value))
	t.partition.add(uint32(rec.Partition))
	t.offset.add(uint64(rec.Offset))
	return nil
}

// evidenceIDs returns the contributing events that a finding names, each once.
// An ID that is not 32 hex digits is of no event of ours.
func evidenceIDs(f *schemas.Finding) []uuid.UUID {
	ids := make([]uuid.UUID, 0, len(f.Evidences)+len(f.FindingInfo.RelatedEvents))
	seen := make(map[uuid.UUID]struct{}, cap(ids))
	add := func(s string) {
		id, err := uuid.Parse(s)
		if err != nil || len(ids) == maxEvidenceIDs {
			return
		}
		if _, ok := seen[id]; !ok {
			seen[id] = struct{}{}
			ids = append(ids, id)
		}
	}
	for _, e := range f.Evidences {
		add(e.Data.EventID)
	}
	for _, r := range f.FindingInfo.RelatedEvents {
		add(r.UID)
	}
	return ids
}

func clampTime(ms int64) int64 { return min(max(ms, minTime), maxTime) }

// orEmpty keeps nil from the driver, to which it is NULL.
func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
