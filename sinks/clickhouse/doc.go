// Package clickhouse stores events, detections, certificates, automated actions
// and dead letters in ClickHouse, and keeps the tables as the migrations of package schemas describe them.
//
// # How an event gets in exactly once
//
// Records of all partitions that this process reads are gathered into one block
// per table, so that a table gets about one insert a second however many
// partitions there are: ClickHouse's cost is per insert (a part on disk, to be
// merged later) more than per row. Measured with the embedded engine on two
// shared cores, 12 partitions and 30,000 events a second: 7 CPU-seconds per
// million events with shared blocks, 21 with a block for each partition.
//
// A block is sent until ClickHouse has acknowledged it, always with the same
// rows and the same insert_deduplication_token, so that an insert whose
// acknowledgement was lost is not done twice; the token is also passed on to the
// tables that materialized views fill. Then the offsets are committed.
//
// After a crash between insert and commit the records come again in other
// blocks, with other tokens. When a partition of tocsin.events is assigned, the
// sink therefore asks ClickHouse which records after the committed offset it has
// in full, and leaves these out. What neither catches (an insert of a process
// that was taken for dead, a record of which only a part was stored) is caught by
// ReplacingMergeTree: rows with the same event ID replace each other, and the
// views read with FINAL.
package clickhouse
