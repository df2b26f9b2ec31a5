package clickhouse

import (
	"encoding/json"
	"hash"

	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
)

// actionTable makes rows of table actions from tocsin.actions.
type actionTable struct {
	cols []column

	time, requested, deadline                              *values[int64]
	id, sink, kind, state, reason, code                    *values[string]
	rule, ruleID, detectionID                              *values[string]
	device, clientID, thing, certificateID, newCertificate *values[string]
	jobID, error, approver                                 *values[string]
	dryRun                                                 *values[bool]
	partition                                              *values[uint32]
	offset                                                 *values[uint64]
}

func newActionTable() *actionTable {
	t := &actionTable{
		time:           timeColumn("time"),
		id:             stringColumn("action_id"),
		sink:           stringColumn("sink"),
		kind:           stringColumn("kind"),
		state:          stringColumn("state"),
		dryRun:         boolColumn("dry_run"),
		reason:         stringColumn("reason"),
		code:           stringColumn("code"),
		rule:           stringColumn("rule"),
		ruleID:         stringColumn("rule_id"),
		detectionID:    stringColumn("detection_id"),
		device:         stringColumn("device"),
		clientID:       stringColumn("client_id"),
		thing:          stringColumn("thing"),
		certificateID:  stringColumn("certificate_id"),
		newCertificate: stringColumn("new_certificate_id"),
		jobID:          stringColumn("job_id"),
		requested:      timeColumn("requested"),
		deadline:       timeColumn("deadline"),
		error:          stringColumn("error"),
		approver:       stringColumn("approver"),
		partition:      uint32Column("kafka_partition"),
		offset:         uint64Column("kafka_offset"),
	}
	t.cols = []column{
		t.time, t.id, t.sink, t.kind, t.state, t.dryRun, t.reason, t.code, t.rule, t.ruleID, t.detectionID,
		t.device, t.clientID, t.thing, t.certificateID, t.newCertificate, t.jobID, t.requested, t.deadline,
		t.error, t.approver, t.partition, t.offset,
	}
	return t
}

func (t *actionTable) name() string      { return "actions" }
func (t *actionTable) columns() []column { return t.cols }
func (t *actionTable) crowded() bool     { return false }
func (t *actionTable) reset()            {}

func (t *actionTable) identity(h hash.Hash, from int) {
	for i := from; i < t.id.len(); i++ {
		for _, s := range []string{t.id.v[i], t.state.v[i], t.reason.v[i], t.error.v[i]} {
			h.Write([]byte(s))
		}
	}
}

func (t *actionTable) decode(rec *sinks.Record) error {
	var a schemas.Action
	if err := json.Unmarshal(rec.Value, &a); err != nil {
		return malformed("not an action: %w", err)
	}
	if a.ID == "" || a.Kind == "" || a.State == "" {
		return malformed("not an action: id %q, kind %q, state %q", a.ID, a.Kind, a.State)
	}
	t.time.add(millis(a.Time))
	t.id.add(a.ID)
	t.sink.add(a.Sink)
	t.kind.add(a.Kind)
	t.state.add(a.State)
	t.dryRun.add(a.DryRun)
	t.reason.add(a.Reason)
	t.code.add(a.Code)
	t.rule.add(a.Rule)
	t.ruleID.add(a.RuleID)
	t.detectionID.add(a.DetectionID)
	t.device.add(a.Device)
	t.clientID.add(a.ClientID)
	t.thing.add(a.Thing)
	t.certificateID.add(a.CertificateID)
	t.newCertificate.add(a.NewCertificateID)
	t.jobID.add(a.JobID)
	t.requested.add(millis(a.Requested))
	t.deadline.add(millis(a.Deadline))
	t.error.add(a.Error)
	t.approver.add(a.Approver)
	t.partition.add(uint32(rec.Partition))
	t.offset.add(uint64(rec.Offset))
	return nil
}
