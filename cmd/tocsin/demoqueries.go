package main

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// demoQuery is a question to the store.
type demoQuery struct {
	Question string `json:"question"`
	SQL      string `json:"sql"`
}

// demoQueries are what an analyst asks next. {db} is the database.
var demoQueries = []demoQuery{
	{
		Question: "Which devices publish far above their own normal?",
		SQL: `SELECT device, usual AS usual_per_minute, most AS most_per_minute, round(most / usual) AS times
FROM
(
    SELECT device, greatest(median(messages), 1) AS usual, max(messages) AS most
    FROM
    (
        SELECT device, toStartOfMinute(time) AS minute, count() AS messages
        FROM {db}.events_distinct WHERE event_type = 'Publish-In'
        GROUP BY device, minute
    )
    GROUP BY device
)
ORDER BY times DESC LIMIT 3`,
	},
	{
		Question: "Which certificates are used by more than one client?",
		SQL: `SELECT substring(certificate_id, 1, 12) AS certificate, uniqExact(client_id) AS clients,
    uniqExact(source_ip) AS addresses, arraySort(groupUniqArray(3)(client_id)) AS some_clients
FROM {db}.events_distinct
WHERE event_type = 'Connect' AND outcome = 'success' AND certificate_id != ''
GROUP BY certificate_id HAVING clients > 1
ORDER BY clients DESC LIMIT 3`,
	},
	{
		Question: "From which addresses do connections fail, and why?",
		SQL: `SELECT source_ip, count() AS failures, uniqExact(client_id) AS clients, min(time) AS first_seen,
    topK(1)(JSONExtractString(message, 'reason'))[1] AS mostly
FROM {db}.events_distinct
WHERE event_type IN ('Connect', 'Connection.AuthNError') AND outcome = 'failure'
GROUP BY source_ip ORDER BY failures DESC LIMIT 3`,
	},
}

// demoAnswer is a query with its result as text.
type demoAnswer struct {
	demoQuery
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
	Millis  int64      `json:"ms"`

	numeric []bool
}

func askStore(ctx context.Context, store driver.Conn, database string) ([]demoAnswer, error) {
	answers := make([]demoAnswer, 0, len(demoQueries))
	for _, q := range demoQueries {
		q.SQL = strings.ReplaceAll(q.SQL, "{db}", database)
		a, err := ask(ctx, store, q)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", q.Question, err)
		}
		answers = append(answers, a)
	}
	return answers, nil
}

func ask(ctx context.Context, store driver.Conn, q demoQuery) (demoAnswer, error) {
	began := time.Now()
	rows, err := store.Query(ctx, q.SQL)
	if err != nil {
		return demoAnswer{}, err
	}
	defer rows.Close()
	a := demoAnswer{demoQuery: q, Columns: rows.Columns()}
	types := rows.ColumnTypes()
	for _, t := range types {
		kind := t.ScanType().Kind()
		a.numeric = append(a.numeric, kind >= reflect.Int && kind <= reflect.Float64)
	}
	for rows.Next() {
		values := make([]any, len(types))
		for i, t := range types {
			values[i] = reflect.New(t.ScanType()).Interface()
		}
		if err := rows.Scan(values...); err != nil {
			return demoAnswer{}, err
		}
		cells := make([]string, len(values))
		for i, v := range values {
			cells[i] = cell(reflect.ValueOf(v).Elem().Interface())
		}
		a.Rows = append(a.Rows, cells)
	}
	a.Millis = time.Since(began).Milliseconds()
	return a, rows.Err()
}

func cell(v any) string {
	switch v := v.(type) {
	case time.Time:
		return v.UTC().Format("15:04:05")
	case []string:
		return strings.Join(v, " ")
	}
	return fmt.Sprint(v)
}

func (a *demoAnswer) table() *table {
	return &table{head: a.Columns, rows: a.Rows, right: a.numeric}
}
