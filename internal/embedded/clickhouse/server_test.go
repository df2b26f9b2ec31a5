package clickhouse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
)

func startServer(t *testing.T, opt Options) *Server {
	t.Helper()
	opt.Logger = zaptest.NewLogger(t)
	s, err := Start(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestRestartKeepsDataAndAddress(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, Options{DataDir: dir})
	post(t, s, "CREATE TABLE kept (n UInt64) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100")
	insert := func(s *Server) {
		t.Helper()
		a := do(t, s, "POST", query("INSERT INTO kept FORMAT TSV", "insert_deduplication_token", "a token"), strings.NewReader("1\n2\n"))
		if a.status != 200 {
			t.Fatal(a.body)
		}
	}
	insert(s)
	addr, pid := s.Addr(), s.PID()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the child is still there: %v", err)
	}
	s = startServer(t, Options{DataDir: dir})
	if s.Addr() != addr {
		t.Errorf("address was %s, is %s", addr, s.Addr())
	}
	insert(s) // the engine remembers the token
	if got := post(t, s, "SELECT count(), sum(n) FROM kept"); got != "2\t3\n" {
		t.Errorf("got %q", got)
	}
}

// Rows that were acknowledged are there after the engine was killed, clients
// need no new address, and a request made while there is no engine is answered
// by the next one.
func TestKilledEngineComesBack(t *testing.T) {
	s := startServer(t, Options{DataDir: t.TempDir()})
	conn := open(t, s, compression(ch.CompressionLZ4))
	mustExec(t, conn, "CREATE TABLE survives (n UInt64) ENGINE = MergeTree ORDER BY n")
	want := uint64(0)
	for round := range 3 {
		batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO survives")
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			if err := batch.Append(want); err != nil {
				t.Fatal(err)
			}
			want++
		}
		if err := batch.Send(); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if got := post(t, s, "SELECT uniqExact(n) FROM survives"); got != fmt.Sprintln(want) {
			t.Fatalf("round %d: %s rows, want %d", round, got, want)
		}
		if got := s.Restarts(); got != uint64(round+1) {
			t.Errorf("%d restarts counted, want %d", got, round+1)
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	s, err := Start(t.Context(), Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	post(t, s, "SELECT 1")
	pid := s.PID()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the child is still there: %v", err)
	}
	goleak.VerifyNone(t, before)
}

// The engine must not outlive a parent that was killed: it would keep the data
// folder locked.
func TestChildEndsWithItsParent(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(self, parentCommand, t.TempDir())
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanln(out, &pid); err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // "signal: killed"
	for deadline := time.Now().Add(20 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the child goes on without a parent")
		}
	}
}

func TestStatementsEndWithTheServer(t *testing.T) {
	s := startServer(t, Options{DataDir: t.TempDir()})
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn := open(t, s)
		var n uint64
		_ = conn.QueryRow(t.Context(), "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 7").Scan(&n)
	}()
	for post(t, s, "SELECT count() FROM system.processes WHERE query LIKE 'SELECT count() FROM numbers%'") != "1\n" {
		time.Sleep(time.Millisecond)
	}
	started := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-done
	if took := time.Since(started); took > stopTime {
		t.Errorf("close took %s", took)
	}
}

func TestPassword(t *testing.T) {
	s := startServer(t, Options{DataDir: t.TempDir(), Password: "secret"})
	for name, c := range map[string]struct {
		params string
		header []string
		status int
	}{
		"none":         {status: 403},
		"wrong":        {header: []string{"Authorization", "Basic ZGVmYXVsdDp3cm9uZw=="}, status: 403},
		"basic":        {header: []string{"Authorization", "Basic ZGVmYXVsdDpzZWNyZXQ="}, status: 200},
		"header":       {header: []string{"X-ClickHouse-User", "default", "X-ClickHouse-Key", "secret"}, status: 200},
		"parameter":    {params: "password=secret", status: 200},
		"wrong header": {params: "password=secret", header: []string{"X-ClickHouse-Key", "no"}, status: 403},
	} {
		if a := do(t, s, "POST", c.params, strings.NewReader("SELECT 1"), c.header...); a.status != c.status {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.PID()))
	if err != nil || bytes.Contains(cmdline, []byte("secret")) {
		t.Errorf("password in the arguments: %q, %v", cmdline, err)
	}
}

func TestDataDirIsUsedOnce(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, Options{DataDir: dir})
	_, err := Start(t.Context(), Options{DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), "Cannot lock file") {
		t.Errorf("second engine on one folder: %v", err)
	}
	post(t, s, "SELECT 1")
}

func TestLocate(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(LibEnv, "")
	t.Setenv("TOCSIN_CACHE", dir)
	_, err := Locate("")
	if !errors.Is(err, ErrNoLibrary) {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{"fetch-chdb.sh", "TOCSIN_CLICKHOUSE_URL", dir} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error does not name %s: %v", part, err)
		}
	}
	cached := filepath.Join(dir, "chdb", LibVersion, "libchdb.so")
	named := filepath.Join(dir, "named.so")
	for _, name := range []string{cached, named} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Locate(""); got != cached || err != nil {
		t.Errorf("cache: %q, %v", got, err)
	}
	t.Setenv(LibEnv, named)
	if got, err := Locate(""); got != named || err != nil {
		t.Errorf("environment: %q, %v", got, err)
	}
	if got, err := Locate(cached); got != cached || err != nil {
		t.Errorf("path: %q, %v", got, err)
	}
	if _, err := Start(t.Context(), Options{DataDir: t.TempDir(), LibPath: named}); err == nil || !strings.Contains(err.Error(), "named.so") {
		t.Errorf("a file that is no library: %v", err)
	}
}

func TestFetchScriptHasTheVersion(t *testing.T) {
	script, err := os.ReadFile("../fetch-chdb.sh")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(script, []byte("\nversion="+LibVersion+"\n")) {
		t.Errorf("fetch-chdb.sh does not fetch %s", LibVersion)
	}
}

func TestTooManyStatements(t *testing.T) {
	s := startServer(t, Options{DataDir: t.TempDir(), Sessions: 1, Queue: 1})
	const endless = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 7"
	codes := make(chan string, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(ctx, "POST", s.URL(), strings.NewReader(endless))
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return // cancelled below
			}
			codes <- resp.Header.Get("X-ClickHouse-Exception-Code")
			resp.Body.Close()
		})
	}
	// One runs, one waits, one is refused.
	if code := <-codes; code != "202" {
		t.Errorf("refused with code %s, want 202", code)
	}
	cancel()
	wg.Wait()
	// The engine learns a little later that both have given up.
	for deadline := time.Now().Add(10 * time.Second); ; {
		a := do(t, s, "POST", "", strings.NewReader("SELECT 1"))
		if a.body == "1\n" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("afterwards: %d %s", a.status, a.body)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
