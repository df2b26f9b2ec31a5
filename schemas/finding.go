package schemas

// Finding is an OCSF Detection Finding (class 2004), the value of every
// tocsin.detections record and the body of a webhook. It fills what OCSF 1.1
// to 1.8 require, so that one document validates against each of them. Times
// are epoch milliseconds, as OCSF has them.
// https://schema.ocsf.io/classes/detection_finding
type Finding struct {
	ActivityID   int              `json:"activity_id"`
	ActivityName string           `json:"activity_name"`
	CategoryUID  int              `json:"category_uid"`
	ClassUID     int              `json:"class_uid"`
	TypeUID      int              `json:"type_uid"`
	SeverityID   int              `json:"severity_id"`
	Severity     string           `json:"severity"`
	StatusID     int              `json:"status_id"`
	Status       string           `json:"status"`
	IsAlert      bool             `json:"is_alert"`
	Time         int64            `json:"time"`
	StartTime    int64            `json:"start_time"`
	EndTime      int64            `json:"end_time"`
	Count        int64            `json:"count"`
	Message      string           `json:"message"`
	Metadata     FindingMetadata  `json:"metadata"`
	FindingInfo  FindingInfo      `json:"finding_info"`
	Cloud        *FindingCloud    `json:"cloud,omitempty"`
	Device       *FindingDevice   `json:"device,omitempty"`
	Evidences    []Evidence       `json:"evidences,omitempty"`
	Observables  []Observable     `json:"observables,omitempty"`
	Unmapped     FindingExtension `json:"unmapped"`
}

// FindingMetadata is OCSF's metadata object.
type FindingMetadata struct {
	Version  string         `json:"version"`
	Product  FindingProduct `json:"product"`
	Profiles []string       `json:"profiles,omitempty"`
	UID      string         `json:"uid"`
}

// FindingProduct is OCSF's product object.
type FindingProduct struct {
	Name       string `json:"name"`
	VendorName string `json:"vendor_name"`
	Version    string `json:"version,omitempty"`
}

// FindingInfo is OCSF's finding_info object. UID is the detection ID.
type FindingInfo struct {
	UID           string         `json:"uid"`
	Title         string         `json:"title"`
	Desc          string         `json:"desc,omitempty"`
	CreatedTime   int64          `json:"created_time"`
	FirstSeenTime int64          `json:"first_seen_time"`
	LastSeenTime  int64          `json:"last_seen_time"`
	Analytic      Analytic       `json:"analytic"`
	Attacks       []Attack       `json:"attacks,omitempty"`
	RelatedEvents []RelatedEvent `json:"related_events,omitempty"`
	SrcURL        string         `json:"src_url,omitempty"`
}

// Analytic is OCSF's analytic object: the Sigma rule.
type Analytic struct {
	TypeID  int    `json:"type_id"` // 1 Rule
	Type    string `json:"type"`
	UID     string `json:"uid"`
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
}

// Attack is OCSF's attack object: a MITRE ATT&CK tactic or technique.
type Attack struct {
	Version   string        `json:"version"`
	Tactic    *AttackObject `json:"tactic,omitempty"`
	Technique *AttackObject `json:"technique,omitempty"`
}

// AttackObject names a tactic or technique.
type AttackObject struct {
	UID  string `json:"uid,omitempty"`
	Name string `json:"name,omitempty"`
}

// RelatedEvent is OCSF's related_event object: the ID of a contributing event.
type RelatedEvent struct {
	UID  string `json:"uid"`
	Type string `json:"type,omitempty"`
}

// FindingCloud is OCSF's cloud profile.
type FindingCloud struct {
	Provider string          `json:"provider"`
	Region   string          `json:"region,omitempty"`
	Account  *FindingAccount `json:"account,omitempty"`
}

// FindingAccount is the AWS account.
type FindingAccount struct {
	UID string `json:"uid"`
}

// FindingDevice is OCSF's device object. TypeID 7 is IOT.
type FindingDevice struct {
	TypeID int    `json:"type_id"`
	Type   string `json:"type"`
	UID    string `json:"uid"`
	Name   string `json:"name,omitempty"`
	IP     string `json:"ip,omitempty"`
}

// Evidence is OCSF's evidences object; what we know of one contributing event
// is in Data.
type Evidence struct {
	Data EvidenceData `json:"data"`
}

// EvidenceData is enough of an event to read the alert without a query.
type EvidenceData struct {
	EventID       string `json:"event_id"`
	Time          int64  `json:"time"`
	Rule          string `json:"rule,omitempty"` // title of the rule it matched
	Source        string `json:"source"`
	EventType     string `json:"event_type,omitempty"`
	Device        string `json:"device,omitempty"`
	ClientID      string `json:"client_id,omitempty"`
	CertificateID string `json:"certificate_id,omitempty"`
	SourceIP      string `json:"source_ip,omitempty"`
	Outcome       string `json:"outcome,omitempty"`
}

// Observable is OCSF's observable object.
type Observable struct {
	TypeID int    `json:"type_id"`
	Type   string `json:"type"`
	Name   string `json:"name"`
	Value  string `json:"value"`
}

// FindingExtension is what OCSF has no place for.
type FindingExtension struct {
	RuleName         string            `json:"rule_name"`
	RuleLevel        string            `json:"rule_level"`
	RuleTags         []string          `json:"rule_tags,omitempty"`
	RuleAuthor       string            `json:"rule_author,omitempty"`
	RuleReferences   []string          `json:"rule_references,omitempty"`
	FalsePositives   []string          `json:"false_positives,omitempty"`
	CorrelationType  string            `json:"correlation_type,omitempty"`
	TimespanMillis   int64             `json:"timespan_ms,omitempty"`
	Group            map[string]string `json:"group,omitempty"`
	GroupKey         string            `json:"group_key,omitempty"`
	CertificateID    string            `json:"certificate_id,omitempty"`
	MergedInto       string            `json:"merged_into,omitempty"` // detection ID that took this one's place
	Revision         int64             `json:"revision"`              // grows with every record about the same detection ID
	EvidenceComplete bool              `json:"evidence_complete"`     // all contributing events are listed
}

// OCSF's constants for class 2004.
const (
	FindingCategoryUID = 2
	FindingClassUID    = 2004
	FindingVersion     = "1.8.0"

	ActivityCreate = 1
	ActivityUpdate = 2
	ActivityClose  = 3

	StatusNew        = 1
	StatusInProgress = 2
	StatusSuppressed = 3
	StatusResolved   = 4
)

// The event type of a webhook, after Standard Webhooks: "detection." and the
// activity.
const (
	WebhookDetectionCreated = "detection.created"
	WebhookDetectionUpdated = "detection.updated"
	WebhookDetectionClosed  = "detection.closed"
)
