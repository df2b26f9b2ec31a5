package clickhouse

import (
	"context"
	"fmt"
	"strings"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// inserter sends blocks of one table.
type inserter struct {
	conn  driver.Conn
	query string
	types []ch.ColumnNameAndType
}

func newInserter(conn driver.Conn, database string, t table) inserter {
	i := inserter{conn: conn}
	var names []string
	for _, c := range t.columns() {
		name, chType := c.meta()
		names = append(names, name)
		i.types = append(i.types, ch.ColumnNameAndType{Name: name, Type: chType})
	}
	i.query = fmt.Sprintf("INSERT INTO %s.%s (%s)", quote(database), t.name(), strings.Join(names, ", "))
	return i
}

// send does one attempt to insert b. It does not change b.
func (i *inserter) send(ctx context.Context, b *block) (err error) {
	ctx = ch.Context(ctx,
		// What an HTTP insert sends; without it the driver asks for the table first.
		ch.WithColumnNamesAndTypes(i.types),
		ch.WithSettings(ch.Settings{
			"insert_deduplicate":         1,
			"insert_deduplication_token": b.token(),
			// The tables that materialized views fill take part: or a retry would
			// count rows again that the table itself drops.
			"deduplicate_blocks_in_dependent_materialized_views": 1,
			// The block is large as it is, and its fate must be known.
			"async_insert": 0,
			// Log lines of any age may meet in a block; see maxDays.
			"max_partitions_per_insert_block": 0,
		}))
	batch, err := i.conn.PrepareBatch(ctx, i.query)
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
