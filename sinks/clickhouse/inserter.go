package clickhouse

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// inserter sends blocks of one table, one at a time.
type inserter struct {
	conn  *Conn
	query string
	// buf and frames are of the last HTTP insert, to be used again.
	buf    []byte
	frames *compress.Writer
}

func newInserter(conn *Conn, database string, t table) *inserter {
	var names []string
	for _, c := range t.columns() {
		name, _ := c.meta()
		names = append(names, name)
	}
	i := &inserter{conn: conn}
	i.query = fmt.Sprintf("INSERT INTO %s.%s (%s)", quote(database), t.name(), strings.Join(names, ", "))
	if conn.http && conn.compression != nil {
		// ch-go numbers the methods as the driver does.
		i.frames = compress.NewWriter(compress.Level(conn.compression.Level), compress.Method(conn.compression.Method))
	}
	return i
}

// send does one attempt to insert b. It does not change b, and leaves it alone
// once it has returned.
func (i *inserter) send(ctx context.Context, b *block) error {
	settings := ch.Settings{
		"insert_deduplicate":         1,
		"insert_deduplication_token": b.token(),
		// The tables that materialized views fill take part: or a retry would
		// count rows again that the table itself drops.
		"deduplicate_blocks_in_dependent_materialized_views": 1,
		// Duplicates within a block wait for the merge, as those between blocks
		// do: looking for them here costs a third of the insert.
		"optimize_on_insert": 0,
		// The block is large as it is, and its fate must be known.
		"async_insert": 0,
		// Log lines of any age may meet in a block; see maxDays.
		"max_partitions_per_insert_block": 0,
	}
	if i.conn.http {
		return i.stream(ctx, settings, b)
	}
	return i.batch(ctx, settings, b)
}

// stream inserts over HTTP.
func (i *inserter) stream(ctx context.Context, settings ch.Settings, b *block) error {
	if i.frames != nil {
		settings["decompress"] = 1 // the body is in frames
	}
	r := &nativeReader{block: b, frames: i.frames, buf: i.buf}
	err := i.conn.InsertFormat(ch.Context(ctx, ch.WithSettings(settings)), "Native", i.query, r)
	r.stop()
	i.buf = r.buf
	return err
}

// batch inserts over the native protocol.
func (i *inserter) batch(ctx context.Context, settings ch.Settings, b *block) (err error) {
	batch, err := i.conn.PrepareBatch(ch.Context(ctx, ch.WithSettings(settings)), i.query)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = batch.Abort() // the connection may be unusable: err says why
		}
	}()
	columns := batch.Columns()
	for n, c := range b.table.columns() {
		if err := c.appendTo(columns[n]); err != nil {
			return err
		}
	}
	return batch.Send()
}
