package clickhouse

import (
	"fmt"
	"hash"
	"time"

	"github.com/google/uuid"

	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
)

const (
	// maxDays is how many days of event time a block spans at most, give or take
	// a record: each day is a part. ClickHouse refuses more than 100 by default
	// (max_partitions_per_insert_block).
	maxDays = 50

	// Event times that columns and partitions cannot hold are moved to the
	// nearest that they can: DateTime ends in 2106.
	minTime = 0
	maxTime = 4_291_747_199_000 // 2105-12-31T23:59:59Z
)

var day = (24 * time.Hour).Milliseconds()

// eventTable makes rows of table events from EventBatch records.
type eventTable struct {
	allowedLateness int64 // ms
	reader          schemas.BatchReader
	event           schemas.Event
	lastDay         int64
	days            map[int64]struct{}
	expiries        map[int32]*int32
	cols            []column

	time, ingestTime *values[int64]
	id               *values[uuid.UUID]
	source, eventType, account, region,
	device, clientID, thingName, certificateID,
	sourceIP, roleSession, outcome, certificateStatus, message *values[string]
	daysToExpiry *values[*int32]
	late         *values[bool]
	partition    *values[uint32]
	offset       *values[uint64]
}

func newEventTable(allowedLateness time.Duration) *eventTable {
	t := &eventTable{
		allowedLateness: allowedLateness.Milliseconds(),
		lastDay:         -1,
		days:            make(map[int64]struct{}),
		expiries:        make(map[int32]*int32),

		time:              timeColumn("time"),
		ingestTime:        timeColumn("ingest_time"),
		id:                &values[uuid.UUID]{name: "id", chType: "UUID"},
		source:            stringColumn("source"),
		eventType:         stringColumn("event_type"),
		account:           stringColumn("account"),
		region:            stringColumn("region"),
		device:            stringColumn("device"),
		clientID:          stringColumn("client_id"),
		thingName:         stringColumn("thing_name"),
		certificateID:     stringColumn("certificate_id"),
		sourceIP:          stringColumn("source_ip"),
		roleSession:       stringColumn("role_session"),
		outcome:           stringColumn("outcome"),
		certificateStatus: stringColumn("certificate_status"),
		daysToExpiry:      &values[*int32]{name: "certificate_days_to_expiry", chType: "Nullable(Int32)"},
		late:              boolColumn("late"),
		message:           stringColumn("message"),
		partition:         uint32Column("kafka_partition"),
		offset:            uint64Column("kafka_offset"),
	}
	t.cols = []column{
		t.time, t.ingestTime, t.id, t.source, t.eventType, t.account, t.region,
		t.device, t.clientID, t.thingName, t.certificateID, t.sourceIP, t.roleSession,
		t.outcome, t.certificateStatus, t.daysToExpiry, t.late, t.message, t.partition, t.offset,
	}
	return t
}

func (t *eventTable) name() string      { return "events" }
func (t *eventTable) columns() []column { return t.cols }
func (t *eventTable) crowded() bool     { return len(t.days) > maxDays }

func (t *eventTable) reset() {
	t.lastDay = -1
	clear(t.days)
	clear(t.expiries)
}

func (t *eventTable) identity(h hash.Hash, from int) {
	for _, id := range t.id.v[from:] {
		h.Write(id[:])
	}
}

func (t *eventTable) decode(rec *sinks.Record) error {
	t.reader.Reset(rec.Value)
	ev := &t.event
	for t.reader.Next(ev) {
		at := min(max(ev.Time, minTime), maxTime)
		if d := at / day; d != t.lastDay {
			t.lastDay = d
			t.days[d] = struct{}{}
		}
		t.time.add(at)
		t.ingestTime.add(min(max(ev.IngestTime, minTime), maxTime))
		t.id.add(uuid.UUID(ev.ID))
		t.source.add(text(ev.Source))
		t.eventType.add(text(ev.Type))
		t.account.add(text(ev.Account))
		t.region.add(text(ev.Region))
		t.device.add(text(ev.Device))
		t.clientID.add(text(ev.ClientID))
		t.thingName.add(text(ev.ThingName))
		t.certificateID.add(text(ev.CertificateID))
		t.sourceIP.add(text(ev.SourceIP))
		t.roleSession.add(text(ev.RoleSession))
		t.outcome.add(ev.Outcome.String())
		t.certificateStatus.add(ev.CertificateStatus.String())
		t.daysToExpiry.add(t.expiry(ev))
		// A function of the event alone, and so equal in every delivery.
		t.late.add(ev.IngestTime-ev.Time > t.allowedLateness)
		t.message.add(text(ev.Message))
		t.partition.add(uint32(rec.Partition))
		t.offset.add(uint64(rec.Offset))
	}
	if err := t.reader.Err(); err != nil {
		return &sinks.Rejected{Reason: sinks.ReasonMalformed, Err: err}
	}
	return nil
}

// expiry returns the value of a Nullable column, one pointer per distinct value.
func (t *eventTable) expiry(ev *schemas.Event) *int32 {
	if !ev.HasExpiry {
		return nil
	}
	p := t.expiries[ev.DaysToExpiry]
	if p == nil {
		v := ev.DaysToExpiry
		p = &v
		t.expiries[v] = p
	}
	return p
}

// malformed rejects a record for what its value is.
func malformed(format string, args ...any) error {
	return &sinks.Rejected{Reason: sinks.ReasonMalformed, Err: fmt.Errorf(format, args...)}
}
