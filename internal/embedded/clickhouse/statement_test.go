package clickhouse

import (
	"testing"
)

func TestParseStatement(t *testing.T) {
	for text, want := range map[string]statement{
		"SELECT 1": {keyword: "SELECT"},
		"  (select 1) union all (select 2) format CSV": {keyword: "SELECT", format: "CSV"},
		"SELECT 1 FORMAT JSON;":                        {keyword: "SELECT", format: "JSON"},
		"SELECT 1 FORMAT JSON SETTINGS max_threads=1":  {keyword: "SELECT", format: "JSON"},
		"SELECT 1 SETTINGS max_threads=1 FORMAT JSON":  {keyword: "SELECT", format: "JSON"},
		"SELECT 'x FORMAT CSV'":                        {keyword: "SELECT"},
		`SELECT 'it''s' , 'a\' FORMAT CSV'`:            {keyword: "SELECT"},
		"SELECT $q$ ' FORMAT CSV $q$ FORMAT TSV":       {keyword: "SELECT", format: "TSV"},
		"SELECT 1 -- FORMAT CSV":                       {keyword: "SELECT"},
		"SELECT 1 # FORMAT CSV":                        {keyword: "SELECT"},
		"SELECT 1 /* FORMAT CSV */":                    {keyword: "SELECT"},
		"SELECT a AS format FROM t":                    {keyword: "SELECT"},
		"SELECT format FROM t":                         {keyword: "SELECT"},
		"SELECT * FROM format":                         {keyword: "SELECT"},
		"SELECT format('{}', 1) FORMAT CSV":            {keyword: "SELECT", format: "CSV"},
		"SELECT * FROM (SELECT 1 FORMAT CSV)":          {keyword: "SELECT"},
		"SELECT 1 INTO OUTFILE 'x' FORMAT CSV":         {keyword: "SELECT", format: "CSV", outfile: true},
		"select 1 into\noutfile 'x'":                   {keyword: "SELECT", outfile: true},
		"WITH 1 AS x SELECT x":                         {keyword: "WITH"},
		"INSERT INTO t SELECT 1":                       {keyword: "INSERT"},
		"INSERT INTO t (a, b) (SELECT 1, 2)":           {keyword: "INSERT"},
		"INSERT INTO t WITH 1 AS x SELECT x":           {keyword: "INSERT"},
		"INSERT INTO t FROM INFILE 'x' FORMAT CSV":     {keyword: "INSERT", outfile: true},
		"INSERT INTO t VALUES (1)":                     {keyword: "INSERT", format: "Values", insert: true, sql: "INSERT INTO t ", dataAt: 20},
		"insert into t (values, format) values(1, 2)":  {keyword: "INSERT", format: "Values", insert: true, sql: "insert into t (values, format) ", dataAt: 37},
		"INSERT INTO values FORMAT CSV 1":              {keyword: "INSERT", format: "CSV", insert: true, sql: "INSERT INTO values ", dataAt: 30},
		"INSERT INTO db.format FORMAT CSV\n\n1":        {keyword: "INSERT", format: "CSV", insert: true, sql: "INSERT INTO db.format ", dataAt: 33},
		"INSERT INTO FUNCTION file('x', 'CSV') FORMAT TSV\r\n": {
			keyword: "INSERT", format: "TSV", insert: true, sql: "INSERT INTO FUNCTION file('x', 'CSV') ", dataAt: 50,
		},
		"INSERT INTO `a``b` FORMAT Native\n":  {keyword: "INSERT", format: "Native", insert: true, sql: "INSERT INTO `a``b` ", dataAt: 33},
		"INSERT INTO t FORMAT Native":         {keyword: "INSERT", format: "Native", insert: true, sql: "INSERT INTO t ", dataAt: 27},
		"INSERT INTO t SETTINGS a='FORMAT x'": {keyword: "INSERT"},
		"":                                    {},
		"/* unfinished":                       {},
		"'unfinished":                         {keyword: "'UNFINISHED"},
	} {
		if got := parseStatement(text); got != want {
			t.Errorf("%q\n got %+v\nwant %+v", text, got, want)
		}
	}
}

func FuzzParseStatement(f *testing.F) {
	for _, s := range []string{
		"INSERT INTO t (a) SETTINGS x = 'y' FORMAT Native\n\x00\xff", "SELECT $a$ x $a$ -- y\n FORMAT CSV;",
		"insert into `a\\`` values", "SELECT '\\", "$$", "$a$", "INSERT INTO t FORMAT", "((((", "/**/#!",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		st := parseStatement(text)
		if !st.insert {
			if st.sql != "" || st.dataAt != 0 {
				t.Errorf("data without insert: %+v", st)
			}
			return
		}
		if st.dataAt < len(st.sql) || st.dataAt > len(text) || text[:len(st.sql)] != st.sql || st.format == "" {
			t.Errorf("%q: %+v", text, st)
		}
	})
}
