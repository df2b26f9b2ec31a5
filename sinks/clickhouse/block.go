package clickhouse

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"

	"github.com/tocsin-io/tocsin/sinks"
)

// table is one kind of block: a table and how records become its rows.
type table interface {
	name() string
	columns() []column
	// decode appends the rows of rec, whose value stays valid as long as the
	// block, and whose key does not. After an error the caller takes back what was appended.
	decode(rec *sinks.Record) error
	// identity writes what tells rows from the given one on apart from any
	// others into h. Equal input must give equal rows.
	identity(h hash.Hash, from int)
	// crowded reports whether the block should not take more rows, for a reason
	// of the table's own.
	crowded() bool
	// reset forgets all rows.
	reset()
}

// block is the rows of one insert, in memory. It is kept until ClickHouse has
// them: the driver's own batch is lost with the first error.
type block struct {
	table table
	arena arena
	hash  hash.Hash
	rows  int
	bytes int // of record values
	// ends are the partitions with records in the block, and the offset after the
	// last of each.
	ends map[*partition]int64
}

func newBlock(t table) *block {
	return &block{table: t, hash: sha256.New(), ends: make(map[*partition]int64)}
}

// add appends a record's rows, all or none.
func (b *block) add(p *partition, rec *sinks.Record) error {
	kept := *rec
	kept.Value = b.arena.copy(rec.Value)
	if err := b.table.decode(&kept); err != nil {
		b.truncate(b.rows)
		return err
	}
	var at [20]byte
	binary.BigEndian.PutUint32(at[:], uint32(rec.Partition))
	binary.BigEndian.PutUint64(at[4:], uint64(rec.Offset))
	from := b.rows
	b.rows = b.table.columns()[0].len()
	binary.BigEndian.PutUint64(at[12:], uint64(b.rows-from))
	b.hash.Write(at[:])
	b.table.identity(b.hash, from)
	b.bytes += len(rec.Value)
	b.ends[p] = rec.Offset + 1
	return nil
}

// token is the insert_deduplication_token: equal for equal rows, which are
// those of the same records in the same order. Offsets alone would not do: in a
// topic that was deleted and created again they start anew, and ClickHouse
// drops an insert with a token that it knows, whatever its rows are.
func (b *block) token() string {
	return b.table.name() + ":" + hex.EncodeToString(b.hash.Sum(nil)[:16])
}

func (b *block) truncate(n int) {
	for _, c := range b.table.columns() {
		if c.len() > n {
			c.truncate(n)
		}
	}
}

// reset empties the block and keeps up to limit bytes of the records' memory.
func (b *block) reset(limit int) {
	b.truncate(0)
	b.table.reset()
	b.arena.reset(limit)
	b.hash.Reset()
	b.rows, b.bytes = 0, 0
	clear(b.ends)
}
