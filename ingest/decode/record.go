package decode

import (
	"github.com/tocsin-io/tocsin/internal/jsonscan"
)

// field is a top-level member name that some format gives a meaning to.
type field uint8

// The names of all formats share one set, so that one scan of a record finds
// both what the record is and what it says. Some names mean different things in
// different formats; whoever reads a field knows which format it is.
const (
	noField field = iota

	// IoT Core logs.
	fTimestamp
	fLogLevel
	fTraceID
	fAccountID
	fStatus
	fEventType
	fProtocol
	fClientID
	fPrincipalID
	fSourceIP
	fTopicName
	fDeviceCertificateID
	fThingName

	// Lifecycle, registry and job events.
	fSessionIdentifier
	fPrincipalIdentifier
	fIPAddress
	fVersionNumber
	fCertificateID
	fCACertificateID
	fCertificateStatus
	fAWSAccountID
	fEventIDLower // "eventId"
	fOperation
	fJobID
	fTopics
	fThingARN

	// GuardDuty findings.
	fSchemaVersion
	fRegion
	fID
	fARN
	fType
	fResource
	fService
	fUpdatedAt

	// CloudTrail records.
	fEventVersion
	fUserIdentity
	fEventTime
	fEventSource
	fEventName
	fAWSRegion
	fSourceIPAddress
	fErrorCode
	fRequestParameters
	fResponseElements
	fEventID // "eventID"
	fRecipientAccountID

	// EventBridge envelopes.
	fDetailType
	fSource
	fAccount
	fTime
	fDetail

	// SNS envelopes.
	fSNSType // "Type"
	fMessageID
	fTopicARN
	fSNSMessage   // "Message"
	fSNSTimestamp // "Timestamp"

	// Lambda events and CloudWatch Logs payloads.
	fAWSLogs
	fOwner
	fLogGroup
	fLogStream
	fMessageType
	fLogEvents

	// Files of CloudTrail records, S3 notifications.
	fRecords

	// Device Defender violations and audit findings.
	fViolationEventTime
	fViolationEventType
	fViolationID
	fSecurityProfileName
	fBehavior
	fFindingID
	fTaskID
	fCheckName
	fFindingTime
	fNonCompliantResource

	// Device Defender device-side metrics and metrics export.
	fHeader
	fMetrics
	fCustomMetrics
	fVersion

	numFields
)

func fieldOf(name []byte) field {
	switch string(name) {
	case "timestamp":
		return fTimestamp
	case "logLevel":
		return fLogLevel
	case "traceId":
		return fTraceID
	case "accountId":
		return fAccountID
	case "status":
		return fStatus
	case "eventType":
		return fEventType
	case "protocol":
		return fProtocol
	case "clientId":
		return fClientID
	case "principalId":
		return fPrincipalID
	case "sourceIp":
		return fSourceIP
	case "topicName":
		return fTopicName
	case "deviceCertificateId":
		return fDeviceCertificateID
	case "thingName":
		return fThingName
	case "sessionIdentifier":
		return fSessionIdentifier
	case "principalIdentifier":
		return fPrincipalIdentifier
	case "ipAddress":
		return fIPAddress
	case "versionNumber":
		return fVersionNumber
	case "certificateId":
		return fCertificateID
	case "caCertificateId":
		return fCACertificateID
	case "certificateStatus":
		return fCertificateStatus
	case "awsAccountId":
		return fAWSAccountID
	case "eventId":
		return fEventIDLower
	case "operation":
		return fOperation
	case "jobId":
		return fJobID
	case "topics":
		return fTopics
	case "thingArn":
		return fThingARN
	case "schemaVersion":
		return fSchemaVersion
	case "region":
		return fRegion
	case "id":
		return fID
	case "arn":
		return fARN
	case "type":
		return fType
	case "resource":
		return fResource
	case "service":
		return fService
	case "updatedAt":
		return fUpdatedAt
	case "eventVersion":
		return fEventVersion
	case "userIdentity":
		return fUserIdentity
	case "eventTime":
		return fEventTime
	case "eventSource":
		return fEventSource
	case "eventName":
		return fEventName
	case "awsRegion":
		return fAWSRegion
	case "sourceIPAddress":
		return fSourceIPAddress
	case "errorCode":
		return fErrorCode
	case "requestParameters":
		return fRequestParameters
	case "responseElements":
		return fResponseElements
	case "eventID":
		return fEventID
	case "recipientAccountId":
		return fRecipientAccountID
	case "detail-type":
		return fDetailType
	case "source":
		return fSource
	case "account":
		return fAccount
	case "time":
		return fTime
	case "detail":
		return fDetail
	case "Type":
		return fSNSType
	case "MessageId":
		return fMessageID
	case "TopicArn":
		return fTopicARN
	case "Message":
		return fSNSMessage
	case "Timestamp":
		return fSNSTimestamp
	case "awslogs":
		return fAWSLogs
	case "owner":
		return fOwner
	case "logGroup":
		return fLogGroup
	case "logStream":
		return fLogStream
	case "messageType":
		return fMessageType
	case "logEvents":
		return fLogEvents
	case "Records":
		return fRecords
	case "violationEventTime":
		return fViolationEventTime
	case "violationEventType":
		return fViolationEventType
	case "violationId":
		return fViolationID
	case "securityProfileName":
		return fSecurityProfileName
	case "behavior":
		return fBehavior
	case "findingId":
		return fFindingID
	case "taskId":
		return fTaskID
	case "checkName":
		return fCheckName
	case "findingTime":
		return fFindingTime
	case "nonCompliantResource":
		return fNonCompliantResource
	case "header", "hed":
		return fHeader
	case "metrics", "met":
		return fMetrics
	case "custom_metrics", "cmet":
		return fCustomMetrics
	case "version":
		return fVersion
	}
	return noField
}

// record is one JSON object, scanned: its text and where in it the known
// members are.
type record struct {
	raw []byte
	// present has a bit for every field of values that is of this record; the
	// others are left over from records before it.
	present [2]uint64
	values  [numFields]jsonscan.Value
}

func (r *record) reset() { r.raw, r.present = nil, [2]uint64{} }

// set notes a member. Of two with one name the last counts, as in encoding/json.
// A null is as good as nothing.
func (r *record) set(f field, v jsonscan.Value) {
	if v.Kind == jsonscan.Null {
		r.present[f>>6] &^= 1 << (f & 63)
		return
	}
	r.present[f>>6] |= 1 << (f & 63)
	r.values[f] = v
}

func (r *record) has(f field) bool { return r.present[f>>6]&(1<<(f&63)) != 0 }

func (r *record) get(f field) jsonscan.Value {
	if !r.has(f) {
		return jsonscan.Value{}
	}
	return r.values[f]
}

// object reports whether the member is an object.
func (r *record) object(f field) bool { return r.get(f).Kind == jsonscan.Object }

// is reports whether the member is the string s.
func (r *record) is(f field, s string) bool {
	v := r.get(f)
	return v.Kind == jsonscan.String && string(v.Raw) == s
}

// member consumes the next member's key and returns the field it names.
func member(s *jsonscan.Scanner) (f field, ok bool) {
	key, ok := s.Member()
	if !ok {
		return noField, false
	}
	if key.Escaped {
		// Nobody writes these names with escapes; who does means the same by it.
		var buf [64]byte
		if len(key.Raw) > len(buf) {
			return noField, true
		}
		return fieldOf(jsonscan.Unescape(buf[:0], key.Raw)), true
	}
	return fieldOf(key.Raw), true
}

// scan reads the object that s is at. It returns false if that is broken; then
// s.Err says how.
func (r *record) scan(s *jsonscan.Scanner, data []byte) bool {
	r.reset()
	start := s.Pos()
	s.Enter()
	for f, ok := member(s); ok; f, ok = member(s) {
		v := s.Value()
		if f != noField && v.Kind != jsonscan.Invalid {
			r.set(f, v)
		}
	}
	if s.Failed() {
		return false
	}
	r.raw = data[start:s.Pos()]
	return true
}
