// Package deploy holds no code: its tests keep what is deployed in step with
// the program.
package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	embedded "github.com/tocsin-io/tocsin/internal/embedded/clickhouse"
	"github.com/tocsin-io/tocsin/sinks/clickhouse"
)

func TestMain(m *testing.M) {
	// The embedded engine runs in a child, which is this program once more.
	if len(os.Args) > 1 && os.Args[1] == embedded.Command {
		os.Exit(embedded.ServeMain())
	}
	os.Exit(m.Run())
}

// The data sources of Grafana. The queries to ClickHouse run in a test of this
// package, those to Prometheus are held against the program's metrics in cmd/tocsin.
const (
	clickhouseType = "grafana-clickhouse-datasource"
	prometheusType = "prometheus"
)

type dashboard struct {
	UID           string `json:"uid"`
	Title         string `json:"title"`
	SchemaVersion int    `json:"schemaVersion"`
	Templating    struct {
		List []variable `json:"list"`
	} `json:"templating"`
	Panels []panel `json:"panels"`
}

// source returns the type of the dashboard's data source, which is its first
// variable.
func (d *dashboard) source() string {
	if l := d.Templating.List; len(l) > 0 && l[0].Type == "datasource" && l[0].Name == "datasource" {
		return l[0].Query
	}
	return ""
}

type variable struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Query string `json:"query"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type panel struct {
	ID          int        `json:"id"`
	Title       string     `json:"title"`
	Description string     `json:"description"`
	Type        string     `json:"type"`
	Datasource  datasource `json:"datasource"`
	GridPos     struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Targets []target `json:"targets"`
}

type target struct {
	Datasource datasource `json:"datasource"`
	EditorType string     `json:"editorType"`
	RawSQL     string     `json:"rawSql"`
	RefID      string     `json:"refId"`
	Format     *int       `json:"format"` // 0 time series, 1 table
	Expr       string     `json:"expr"`   // of Prometheus
}

func dashboards(t *testing.T) map[string]*dashboard {
	t.Helper()
	files, err := filepath.Glob("grafana/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	all := map[string]*dashboard{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		d := &dashboard{}
		if err == nil {
			err = json.Unmarshal(b, d)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[file] = d
	}
	return all
}

// A panel that Grafana shows as "No data" is found by nobody.
func TestDashboardSchema(t *testing.T) {
	uids := map[string]bool{}
	for file, d := range dashboards(t) {
		if d.UID == "" || uids[d.UID] || d.Title == "" || d.SchemaVersion == 0 || len(d.Panels) == 0 {
			t.Errorf("%s: uid %q, title %q, schema version %d, %d panels", file, d.UID, d.Title, d.SchemaVersion, len(d.Panels))
		}
		uids[d.UID] = true
		wanted := datasource{d.source(), "${datasource}"}
		if wanted.Type != clickhouseType && wanted.Type != prometheusType {
			t.Errorf("%s: the first variable is not for the data source", file)
		}
		ids := map[int]bool{}
		taken := map[[2]int]string{}
		for _, p := range d.Panels {
			where := file + ": " + p.Title
			if p.Title == "" || p.Description == "" || ids[p.ID] {
				t.Errorf("%s: panel %d: no title or description, or the ID is there twice", where, p.ID)
			}
			ids[p.ID] = true
			g := p.GridPos
			if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
				t.Errorf("%s: outside of the grid: %+v", where, g)
			}
			for x := g.X; x < g.X+g.W; x++ {
				for y := g.Y; y < g.Y+g.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" && other != p.Title {
						t.Fatalf("%s: lies over %s", where, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			if p.Datasource != wanted || len(p.Targets) == 0 {
				t.Errorf("%s: data source %+v, %d targets", where, p.Datasource, len(p.Targets))
			}
			for _, q := range p.Targets {
				format := 1
				if p.Type == "timeseries" {
					format = 0
				}
				ok := q.Expr != "" && q.RawSQL == ""
				if wanted.Type == clickhouseType {
					ok = q.Expr == "" && q.RawSQL != "" && q.EditorType == "sql" && q.Format != nil && *q.Format == format
				}
				if !ok || q.Datasource != wanted || q.RefID == "" {
					t.Errorf("%s: %+v", where, q)
				}
			}
		}
	}
}

// grafana expands queries as the ClickHouse data source of Grafana does.
// https://github.com/grafana/clickhouse-datasource#macros
type grafana struct {
	from, to time.Time
	interval time.Duration
	values   map[string][]string // of variables; nil: All
}

var (
	timeFilter   = regexp.MustCompile(`\$__timeFilter\(([^()]+)\)`)
	timeInterval = regexp.MustCompile(`\$__timeInterval\(([^()]+)\)`)
	formatted    = regexp.MustCompile(`\$\{(\w+):(\w+)\}`)
	plain        = regexp.MustCompile(`\$(\w+)`)
)

func (g *grafana) expand(t *testing.T, sql string) string {
	t.Helper()
	const all = "$__conditionalAll("
	for {
		start := strings.Index(sql, all)
		if start < 0 {
			break
		}
		depth, end := 1, start+len(all)
		for ; depth > 0 && end < len(sql); end++ {
			switch sql[end] {
			case '(':
				depth++
			case ')':
				depth--
			}
		}
		inside := sql[start+len(all) : end-1]
		comma := strings.LastIndexByte(inside, ',')
		if depth != 0 || comma < 0 {
			t.Fatalf("%s: its brackets or arguments are wrong", sql)
		}
		name := strings.TrimPrefix(strings.TrimSpace(inside[comma+1:]), "$")
		condition := inside[:comma]
		if values, ok := g.values[name]; !ok {
			t.Fatalf("%s: no variable %q", sql, name)
		} else if values == nil {
			condition = "1=1"
		}
		sql = sql[:start] + condition + sql[end:]
	}
	seconds := func(d time.Duration) string { return fmt.Sprint(int(d.Seconds())) }
	sql = timeFilter.ReplaceAllString(sql, fmt.Sprintf("$1 >= toDateTime(%d) AND $1 <= toDateTime(%d)", g.from.Unix(), g.to.Unix()))
	sql = timeInterval.ReplaceAllString(sql, "toStartOfInterval(toDateTime($1), INTERVAL "+seconds(g.interval)+" second)")
	sql = strings.ReplaceAll(sql, "$__interval_s", seconds(g.interval))
	sql = formatted.ReplaceAllStringFunc(sql, func(v string) string {
		m := formatted.FindStringSubmatch(v)
		values, ok := g.values[m[1]]
		if !ok {
			t.Fatalf("%s: no variable %q", sql, m[1])
		}
		switch m[2] {
		case "singlequote":
			var quoted []string
			for _, one := range values {
				quoted = append(quoted, "'"+strings.ReplaceAll(one, "'", `\'`)+"'")
			}
			return strings.Join(quoted, ",")
		default:
			// raw and the like put what somebody types into the query as it is.
			t.Fatalf("%s: ${%s:%s} lets anybody write SQL; use singlequote, or teach this test", sql, m[1], m[2])
			return ""
		}
	})
	if left := plain.FindString(sql); left != "" || strings.Contains(sql, "${") {
		t.Fatalf("%s: %s is not expanded", sql, left)
	}
	return sql
}

// answer is what ClickHouse's JSON format has.
type answer struct {
	Meta []struct {
		Name, Type string
	} `json:"meta"`
	Data []map[string]any `json:"data"`
}

type store struct {
	t   *testing.T
	url string
}

func (s store) do(sql string) ([]byte, error) {
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url, strings.NewReader(sql))
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s\n%s", body, sql)
	}
	return body, err
}

// ask sends a query as the data source does: as a user that may only read.
func (s store) ask(sql string) *answer {
	s.t.Helper()
	body, err := s.do(sql + "\nSETTINGS readonly = 2, max_execution_time = 60 FORMAT JSON")
	a := &answer{}
	if err == nil {
		err = json.Unmarshal(body, a)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// filledStore has the tables of the migrations, with a few hours of rows.
func filledStore(t *testing.T) store {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	engine, err := embedded.Start(ctx, embedded.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	conn, err := clickhouse.Open(clickhouse.Options{URL: engine.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := (&clickhouse.Migrator{Conn: conn, Database: "tocsin"}).Up(ctx); err != nil {
		t.Fatal(err)
	}
	s := store{t, engine.URL()}
	for _, sql := range []string{
		`INSERT INTO tocsin.events (time, ingest_time, id, source, event_type, account, region, device, client_id, certificate_id, source_ip, outcome, late, message)
		SELECT now64(3) - INTERVAL number MINUTE, now64(3) - INTERVAL number MINUTE + INTERVAL 2 SECOND, generateUUIDv4(), ['iot','lifecycle','cloudtrail'][number % 3 + 1], 'Connect',
			['111122223333','444455556666'][number % 2 + 1], 'eu-west-1', if(number % 7 = 0, 'd''Artagnan', concat('pump-', toString(number % 5))), concat('pump-', toString(number % 5)),
			repeat('ab', 32), '203.0.113.9', if(number % 3 = 0, 'failure', 'success'), false, '{"eventType":"Connect"}' FROM numbers(240)`,
		`INSERT INTO tocsin.detections (detection_id, revision, activity, status, created_time, first_seen, last_seen, count, rule_id, rule_title, level, severity, severity_id, title, message, account, device, finding)
		SELECT concat('d', toString(number)), 1, 'Create', 'New', now64(3) - INTERVAL number MINUTE, now64(3) - INTERVAL number MINUTE, now64(3) - INTERVAL number MINUTE, 3, 'r', 'Rule', ['high','critical'][number % 2 + 1], 'High', 4,
			'Rule', 'Somebody did something', ['111122223333','444455556666'][number % 2 + 1], 'd''Artagnan', '{"evidences":[{"data":{"event_id":"00"}}]}' FROM numbers(60)`,
		`INSERT INTO tocsin.dead_letters (time, source, origin, reason, error, raw, raw_size, truncated, kafka_offset)
		SELECT now64(3) - INTERVAL number MINUTE, 'firehose', 'x', 'gzip', 'unexpected EOF', 'x', 1, false, number FROM numbers(5)`,
		`INSERT INTO tocsin.certificates (certificate_id, status, not_after, subject, last_seen, version)
		SELECT concat('c', toString(number)), ['ACTIVE','INACTIVE'][number % 2 + 1], now64(3) + INTERVAL number DAY, 'CN=pump', now64(3), 1 FROM numbers(10)`,
		`INSERT INTO tocsin.actions (time, action_id, sink, kind, state, rule) VALUES (now64(3), 'a', 'prod', 'revoke', 'pending', 'Rule')`,
		// A second client ID behind the certificate.
		`INSERT INTO tocsin.events (time, ingest_time, id, source, account, device, client_id, certificate_id) VALUES (now64(3), now64(3), generateUUIDv4(), 'iot', '111122223333', 'x', 'x', repeat('ab', 32))`,
	} {
		if _, err := s.do(sql); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// Every query of every panel runs on the engine, finds what is there, and finds
// nothing for an account that has nothing.
func TestDashboardQueries(t *testing.T) {
	s := filledStore(t)
	now := time.Now().Add(time.Minute)
	for file, d := range dashboards(t) {
		if d.source() != clickhouseType {
			continue
		}
		everything := &grafana{now.Add(-26 * time.Hour), now, 5 * time.Minute, map[string][]string{}}
		nothing := &grafana{now.Add(-26 * time.Hour), now, 5 * time.Minute, map[string][]string{}}
		for _, v := range d.Templating.List {
			switch v.Type {
			case "query":
				everything.values[v.Name], nothing.values[v.Name] = nil, []string{"000000000000", "it's nobody"}
				if a := s.ask(everything.expand(t, v.Query)); len(a.Data) < 2 {
					t.Errorf("%s: variable %s has the values %v", file, v.Name, a.Data)
				}
			case "textbox":
				everything.values[v.Name], nothing.values[v.Name] = []string{"d'Artagnan"}, []string{"nobody"}
			}
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				where := file + ": " + p.Title
				a := s.ask(everything.expand(t, q.RawSQL))
				if len(a.Data) == 0 || p.Type == "stat" && fmt.Sprint(a.Data[0][a.Meta[0].Name]) == "0" {
					t.Errorf("%s: finds nothing: %v", where, a.Data)
				}
				if *q.Format == 0 {
					checkSeries(t, where, a)
				}
				if !strings.Contains(q.RawSQL, "account") && !strings.Contains(q.RawSQL, "${device") {
					continue
				}
				a = s.ask(nothing.expand(t, q.RawSQL))
				if p.Type == "stat" {
					if len(a.Data) != 1 {
						t.Errorf("%s: %d rows", where, len(a.Data))
					}
				} else if len(a.Data) != 0 {
					t.Errorf("%s: finds something for nobody: %v", where, a.Data[0])
				}
			}
		}
	}
}

// checkSeries: a time series has its time first, in order, and a number.
func checkSeries(t *testing.T, where string, a *answer) {
	t.Helper()
	if a.Meta[0].Name != "time" || !strings.HasPrefix(a.Meta[0].Type, "DateTime") {
		t.Errorf("%s: the first column is %+v, want a time", where, a.Meta[0])
	}
	numbers := 0
	for _, c := range a.Meta {
		if strings.Contains(c.Type, "Int") || strings.Contains(c.Type, "Float") {
			numbers++
		}
	}
	if numbers == 0 {
		t.Errorf("%s: no number among %+v", where, a.Meta)
	}
	if !slices.IsSortedFunc(a.Data, func(x, y map[string]any) int {
		return strings.Compare(fmt.Sprint(x["time"]), fmt.Sprint(y["time"]))
	}) {
		t.Errorf("%s: not in the order of time", where)
	}
}
