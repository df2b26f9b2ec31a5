package clickhouse

import (
	"encoding/json"
	"hash"

	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
)

// deadLetterTable makes rows of table dead_letters.
type deadLetterTable struct {
	cols []column

	time                               *values[int64]
	source, origin, reason, error, raw *values[string]
	rawSize, offset                    *values[uint64]
	truncated                          *values[bool]
	partition                          *values[uint32]
}

func newDeadLetterTable() *deadLetterTable {
	t := &deadLetterTable{
		time:      timeColumn("time"),
		source:    stringColumn("source"),
		origin:    stringColumn("origin"),
		reason:    stringColumn("reason"),
		error:     stringColumn("error"),
		raw:       stringColumn("raw"),
		rawSize:   uint64Column("raw_size"),
		truncated: boolColumn("truncated"),
		partition: uint32Column("kafka_partition"),
		offset:    uint64Column("kafka_offset"),
	}
	t.cols = []column{t.time, t.source, t.origin, t.reason, t.error, t.raw, t.rawSize, t.truncated, t.partition, t.offset}
	return t
}

func (t *deadLetterTable) name() string      { return "dead_letters" }
func (t *deadLetterTable) columns() []column { return t.cols }
func (t *deadLetterTable) crowded() bool     { return false }
func (t *deadLetterTable) reset()            {}

func (t *deadLetterTable) identity(h hash.Hash, from int) {
	for i := from; i < t.raw.len(); i++ {
		h.Write([]byte(t.origin.v[i]))
		h.Write([]byte(t.raw.v[i]))
	}
}

// decode never rejects: a dead letter that is not one is stored as it is. To
// reject it would make another dead letter, and another.
func (t *deadLetterTable) decode(rec *sinks.Record) error {
	var d schemas.DeadLetter
	if err := json.Unmarshal(rec.Value, &d); err != nil {
		d = schemas.DeadLetter{
			Time: rec.Time, Source: "unknown", Reason: sinks.ReasonMalformed, Error: "not a dead letter: " + err.Error(),
			Raw: rec.Value, RawSize: len(rec.Value),
		}
	}
	t.time.add(clampTime(d.Time.UnixMilli()))
	t.source.add(d.Source)
	t.origin.add(d.Origin)
	t.reason.add(d.Reason)
	t.error.add(d.Error)
	t.raw.add(string(d.Raw))
	t.rawSize.add(uint64(max(d.RawSize, 0)))
	t.truncated.add(d.Truncated)
	t.partition.add(uint32(rec.Partition))
	t.offset.add(uint64(rec.Offset))
	return nil
}
