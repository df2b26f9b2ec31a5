package chdb

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// engine is one for all tests: a process has one, with one data directory.
var engine *Library

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	path, err := library()
	if err == nil {
		engine, err = Open(path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "get the library with internal/embedded/fetch-chdb.sh:", err)
		return 1
	}
	dir, err := os.MkdirTemp("", "tocsin-chdb-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	keep, err := engine.Connect("--path="+dir, "--max_server_memory_usage=1000000000")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer keep.Close()
	dataDir = dir
	return m.Run()
}

var dataDir string

// library is where fetch-chdb.sh puts it; package clickhouse, which knows
// the version, is above this one.
func library() (string, error) {
	if path := os.Getenv("TOCSIN_LIBCHDB"); path != "" {
		return path, nil
	}
	cache := os.Getenv("TOCSIN_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(home, ".cache", "tocsin")
	}
	found, err := filepath.Glob(filepath.Join(cache, "chdb", "*", "libchdb.so"))
	if err != nil || len(found) == 0 {
		return "", errors.Join(err, fmt.Errorf("no libchdb.so in %s", cache))
	}
	return found[len(found)-1], nil
}

func connect(t *testing.T) *Conn {
	t.Helper()
	c, err := engine.Connect("--path=" + dataDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func ask(t *testing.T, c *Conn, sql string, params Params) string {
	t.Helper()
	r, err := c.Query(sql, "TabSeparated", params)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer r.Close()
	return string(r.Bytes())
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	if _, err := Open("/nonexistent/libchdb.so"); err == nil || !strings.Contains(err.Error(), "/nonexistent/libchdb.so") {
		t.Errorf("no file: %v", err)
	}
	// A library, but another one.
	if _, err := Open("libc.so.6"); err == nil || !strings.Contains(err.Error(), "not a chDB library") {
		t.Errorf("libc: %v", err)
	}
	if v := engine.Version(); !strings.HasPrefix(v, "26.") {
		t.Errorf("version %q", v)
	}
}

func TestQuery(t *testing.T) {
	c := connect(t)
	if got := ask(t, c, "SELECT 1, ''", nil); got != "1\t\n" {
		t.Errorf("got %q", got)
	}
	// Texts and values may hold any byte, zero included.
	if got := ask(t, c, "SELECT length('a\x00b'), length({p:String}), {q:UInt8}", Params{"p": "x\x00yz", "q": "7"}); got != "3\t4\t7\n" {
		t.Errorf("got %q", got)
	}
	var e *Error
	if _, err := c.Query("SELECT * FROM no_such_table", "CSV", nil); !errors.As(err, &e) || e.Code != 60 || e.Name != "UNKNOWN_TABLE" {
		t.Errorf("got %#v", e)
	}
	if got := ask(t, c, "SELECT 'after an error'", nil); got != "after an error\n" {
		t.Errorf("got %q", got)
	}
}

func TestStream(t *testing.T) {
	c := connect(t)
	s, err := c.Stream("SELECT number FROM numbers(500000)", "RowBinary", nil)
	if err != nil {
		t.Fatal(err)
	}
	blocks, size := 0, 0
	for {
		r, err := s.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		blocks, size = blocks+1, size+len(r.Bytes())
		r.Close()
	}
	s.Close()
	if blocks < 2 || size != 500_000*8 {
		t.Errorf("%d bytes in %d blocks", size, blocks)
	}
	// A stream that is not read to its end leaves the connection usable.
	s, err = c.Stream("SELECT number FROM numbers(1000000000000)", "RowBinary", nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Next()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	s.Close()
	if got := ask(t, c, "SELECT 2", nil); got != "2\n" {
		t.Errorf("got %q", got)
	}
}

func TestInsert(t *testing.T) {
	c := connect(t)
	if err := c.Exec("CREATE TABLE inserted (n UInt32, s String) ENGINE = MergeTree ORDER BY n"); err != nil {
		t.Fatal(err)
	}
	in, err := c.Insert("INSERT INTO inserted", "CSV", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range []string{"1,a", "\n2", "", ",b\n"} {
		if n, err := in.Write([]byte(piece)); err != nil || n != len(piece) {
			t.Fatalf("%d, %v", n, err)
		}
	}
	stats, err := in.Commit()
	if err != nil || stats.WrittenRows != 2 {
		t.Errorf("%+v, %v", stats, err)
	}
	in.Close()

	in, err = c.Insert("INSERT INTO inserted", "CSV", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("3,c\n")); err != nil {
		t.Fatal(err)
	}
	in.Close() // without Commit

	in, err = c.Insert("INSERT INTO inserted", "CSV", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, werr := in.Write([]byte("x,y\n"))
	_, err = in.Commit()
	var e *Error
	if err = errors.Join(werr, err); !errors.As(err, &e) || e.Code != 27 || e.Name != "CANNOT_PARSE_INPUT_ASSERTION_FAILED" {
		t.Errorf("bad data: %v", err)
	}
	in.Close()

	if _, err := c.Insert("INSERT INTO no_such_table", "CSV", nil); !errors.As(err, &e) || e.Code != 60 {
		t.Errorf("no table: %v", err)
	}
	if got := ask(t, c, "SELECT * FROM inserted ORDER BY n", nil); got != "1\ta\n2\tb\n" {
		t.Errorf("rows %q", got)
	}
}

func TestClassify(t *testing.T) {
	c := connect(t)
	for sql, want := range map[string]Analysis{
		"SELECT 1":                       {1, ReadOnly},
		"SHOW TABLES; SELECT 1":          {2, ReadOnly},
		"INSERT INTO t FORMAT Native":    {1, Mutating},
		"CREATE TABLE t (a Int8)":        {1, Mutating},
		"CREATE FUNCTION f AS x -> x":    {1, MutatingGlobal},
		"SET max_threads = 1":            {1, Control},
		"CREATE TEMPORARY TABLE t (a A)": {1, Control},
		"SELECT 1 INTO OUTFILE 'x'":      {1, Control},
		"SELEC 1":                        {0, Unknown},
	} {
		if got, err := c.Classify(sql); err != nil || got != want {
			t.Errorf("%s: %+v, want %+v: %v", sql, got, want, err)
		}
	}
}

// Settings are the connection's own, and connections run at the same time.
func TestConnectionsAreIndependent(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 8 {
		c := connect(t)
		wg.Go(func() {
			if err := c.Exec(fmt.Sprintf("SET max_block_size = %d", 100+i)); err != nil {
				t.Error(err)
			}
			for range 20 {
				r, err := c.Query("SELECT getSetting('max_block_size')", "TabSeparated", nil)
				if err != nil {
					t.Error(err)
					return
				}
				if got := string(r.Bytes()); got != fmt.Sprintln(100+i) {
					t.Errorf("connection %d: %s", i, got)
				}
				r.Close()
			}
		})
	}
	wg.Wait()
}

func TestParseError(t *testing.T) {
	for text, want := range map[string]Error{
		"Code: 60. DB::Exception: No. (UNKNOWN_TABLE)":                       {Code: 60, Name: "UNKNOWN_TABLE"},
		"Code: 27. DB::Exception: (A_B) x. (CANNOT) (version 26.7.2.1)\n":    {Code: 27, Name: "CANNOT"},
		"Code: 27. DB::Exception: x (version 26.7.2.1 (official build))":     {Code: 27},
		"something else (NOT_AN_ERROR_NAME_AT_THE_END) Code: 1.":             {},
		"Code: 99999999999999999999. DB::Exception: (TOO_LARGE_FOR_NUMBERS)": {Name: "TOO_LARGE_FOR_NUMBERS"},
	} {
		got := parseError(text)
		if got.Code != want.Code && want.Code != 0 || got.Name != want.Name || got.Text != strings.TrimSpace(text) {
			t.Errorf("%q: %+v", text, got)
		}
	}
}
