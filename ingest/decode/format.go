package decode

import (
	"bytes"

	"github.com/tocsin-io/tocsin/internal/jsonscan"
)

// format is a kind of record.
type format uint8

const (
	formatGeneric format = iota
	formatIoT
	formatLifecycle
	formatCloudTrail
	formatGuardDuty
	formatViolation
	formatAuditFinding
	formatDeviceReport
	formatMetricsExport
	formatEventBridge
)

// formatOf tells a record's format by the members it has. iotLog says that it is
// from the log group that only IoT Core writes to.
func formatOf(rec *record, iotLog bool) format {
	switch {
	case rec.has(fEventType) && rec.has(fLogLevel):
		return formatIoT // first, because most are
	case rec.has(fEventVersion) && rec.has(fEventName) && isCloudTrailSource(rec.get(fEventSource)):
		return formatCloudTrail
	case rec.has(fType) && rec.has(fID) && rec.object(fService) && rec.object(fResource):
		return formatGuardDuty
	case isLifecycle(rec):
		return formatLifecycle
	case rec.has(fEventType) && count(rec, fStatus, fTraceID, fAccountID, fProtocol) >= 2:
		return formatIoT
	case rec.has(fDetailType) && rec.has(fSource) && rec.has(fDetail):
		return formatEventBridge
	case rec.has(fViolationEventTime) && (rec.has(fViolationID) || rec.has(fSecurityProfileName)):
		return formatViolation
	case rec.has(fCheckName) && (rec.has(fFindingID) || rec.has(fTaskID)):
		return formatAuditFinding
	case isDeviceReport(rec):
		return formatDeviceReport
	case isMetricsExport(rec):
		return formatMetricsExport
	case iotLog && rec.has(fEventType):
		return formatIoT
	}
	return formatGeneric
}

// isCloudTrailSource tells "iot.amazonaws.com" from the "aws:s3" of an S3
// notification, whose records have the same members.
func isCloudTrailSource(v jsonscan.Value) bool {
	return v.Kind == jsonscan.String && !bytes.HasPrefix(v.Raw, []byte("aws:"))
}

func count(rec *record, fields ...field) (n int) {
	for _, f := range fields {
		if rec.has(f) {
			n++
		}
	}
	return n
}

// record decodes a record of any format.
func (d *Decoder) record(rec *record, o origin, depth int) {
	f := formatOf(rec, o.iotLog)
	if f == formatEventBridge {
		d.eventBridge(rec, o, depth)
		return
	}
	d.format(f, rec, o)
}

func (d *Decoder) format(f format, rec *record, o origin) {
	switch f {
	case formatIoT:
		d.iot(rec, o)
	case formatLifecycle:
		d.lifecycle(rec, o)
	case formatCloudTrail:
		d.cloudTrail(rec, o)
	case formatGuardDuty:
		d.guardDuty(rec, o)
	case formatViolation:
		d.violation(rec, o)
	case formatAuditFinding:
		d.auditFinding(rec, o)
	case formatDeviceReport:
		d.deviceReport(rec, o)
	case formatMetricsExport:
		d.metricsExport(rec, o)
	default:
		d.genericRecord(rec, o)
	}
}
