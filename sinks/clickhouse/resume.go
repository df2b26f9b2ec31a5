package clickhouse

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
)

// presentWindow is how many offsets after the committed one are looked at. A
// commit follows an insert within seconds; what a process that never could
// commit left behind beyond it is inserted again, and replaced by event ID.
const presentWindow = 1 << 17

// present is the records of a partition that the events table holds, by offset:
// those that were inserted and not committed. A nil present holds none.
type present struct {
	records map[int64]fingerprint
	last    int64
	reader  schemas.BatchReader
	event   schemas.Event
}

// fingerprint is of the set of event IDs of one record.
type fingerprint struct {
	events uint64 // distinct IDs
	xor    uint64 // of their first halves
}

// findPresent asks for the records from the given offset on. Offsets alone do
// not tell a record: those of a topic that was deleted and created again are
// used twice. Hence the fingerprints.
func findPresent(ctx context.Context, conn driver.Conn, database string, partition int, from int64) (*present, error) {
	rows, err := conn.Query(ctx, "SELECT kafka_offset, count() AS events, groupBitXor(half) AS xor FROM"+
		" (SELECT DISTINCT kafka_offset, id, bitShiftRight(toUInt128(id), 64)::UInt64 AS half FROM "+quote(database)+".events"+
		"  WHERE kafka_partition = ? AND kafka_offset >= ? AND kafka_offset < ?)"+
		" GROUP BY kafka_offset", uint32(partition), uint64(from), uint64(from)+presentWindow)
	if err != nil {
		return nil, fmt.Errorf("look for stored records of partition %d: %w", partition, err)
	}
	defer rows.Close()
	p := &present{records: make(map[int64]fingerprint), last: -1}
	for rows.Next() {
		var offset uint64
		var f fingerprint
		if err := rows.Scan(&offset, &f.events, &f.xor); err != nil {
			return nil, fmt.Errorf("look for stored records of partition %d: %w", partition, err)
		}
		p.records[int64(offset)] = f
		p.last = max(p.last, int64(offset))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for stored records of partition %d: %w", partition, err)
	}
	return p, nil
}

// has reports whether all of the record's events are stored.
func (p *present) has(rec *sinks.Record) bool {
	if p == nil || len(p.records) == 0 {
		return false
	}
	stored, ok := p.records[rec.Offset]
	if rec.Offset >= p.last {
		p.records = nil // nothing to find any more
	}
	if !ok {
		return false
	}
	var f fingerprint
	seen := make(map[schemas.EventID]struct{}, stored.events)
	p.reader.Reset(rec.Value)
	for p.reader.Next(&p.event) {
		id := p.event.ID
		if _, ok := seen[id]; ok {
			continue
		}
		seen[id] = struct{}{}
		f.events++
		f.xor ^= binary.BigEndian.Uint64(id[:8])
	}
	return p.reader.Err() == nil && f == stored
}
