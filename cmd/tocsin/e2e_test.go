package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	embedded "github.com/tocsin-io/tocsin/internal/embedded/clickhouse"
)

// These tests drive the program as its users do: as a process, by its command
// line, its ports and its signals.

// asProgram in the environment makes this test binary the program. What the
// program starts (the embedded engine is a child, which is the program once
// more) inherits it.
const asProgram = "TOCSIN_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asProgram) != "":
		main()
	case len(os.Args) > 1 && os.Args[1] == embedded.Command: // an engine that a test started
		os.Exit(embedded.ServeMain())
	default:
		os.Exit(m.Run())
	}
}

// patience is how long a test waits for what must come; much less is normal.
const patience = 60 * time.Second

// eventually repeats try until it returns nil.
func eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(pause)
	}
}

// program is a process that runs the program.
type program struct {
	t      testing.TB
	name   string
	cmd    *exec.Cmd
	stdout bytes.Buffer // to be read when it has exited
	exited chan struct{}

	mu      sync.Mutex
	part    []byte // of a line of standard error
	lines   []string
	entries []map[string]any // lines that are log entries
}

// environment is this process's without what would configure the program.
func environment(more []string) []string {
	env := []string{asProgram + "=1"}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "TOCSIN_") || name == "TOCSIN_CACHE" || name == embedded.LibEnv {
			env = append(env, v)
		}
	}
	return append(env, more...)
}

// start starts the program. It is killed at the end of the test if it still
// runs, and when the test dies.
func start(t testing.TB, env []string, args ...string) *program {
	t.Helper()
	p := &program{t: t, name: "tocsin " + strings.Join(args, " "), exited: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0], args...)
	p.cmd.Env = environment(env)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, p
	p.cmd.WaitDelay = 5 * time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The death signal comes when the thread that started the child ends.
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // the exit code is in ProcessState
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		// A program that was killed has no exit code to tell by.
		for _, sign := range []string{"WARNING: DATA RACE", "panic: ", "BUG: "} {
			if strings.Contains(p.stderr(1<<20), sign) {
				t.Errorf("%s: %s", p.name, sign)
			}
		}
		if t.Failed() {
			t.Logf("%s:\n%s", p.name, p.stderr(60))
		}
	})
	return p
}

// Write takes standard error.
func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.part = append(p.part, b...)
	for {
		line, rest, ok := bytes.Cut(p.part, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		p.lines = append(p.lines, string(line))
		var entry map[string]any
		if json.Unmarshal(line, &entry) == nil {
			p.entries = append(p.entries, entry)
		}
		p.part = rest
	}
}

// stderr returns the last n lines.
func (p *program) stderr(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines[max(0, len(p.lines)-n):], "\n") + string(p.part)
}

// logged returns the first log entry with a message that begins so, or nil.
func (p *program) logged(message string) map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.entries {
		if text, ok := e["message"].(string); ok && strings.HasPrefix(text, message) {
			return e
		}
	}
	return nil
}

// says waits for a log entry and returns a field of it.
func (p *program) says(message, field string) string {
	p.t.Helper()
	var value string
	eventually(p.t, p.name+" does not log "+message, func() error {
		select {
		case <-p.exited:
			p.t.Fatalf("%s: exit %d:\n%s", p.name, p.cmd.ProcessState.ExitCode(), p.stderr(60))
		default:
		}
		entry := p.logged(message)
		if entry == nil {
			return errors.New("not yet")
		}
		switch v := entry[field].(type) {
		case string:
			value = v
		case []any:
			value = fmt.Sprint(v[0])
		}
		return nil
	})
	return value
}

// kill is kill -9.
func (p *program) kill() {
	_ = p.cmd.Process.Kill() // it may be gone
	<-p.exited
}

// terminate stops the program by SIGTERM and returns its exit code.
func (p *program) terminate(within time.Duration) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	return p.wait(within)
}

func (p *program) wait(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		p.t.Fatalf("%s: still running after %s", p.name, within)
	}
	return p.cmd.ProcessState.ExitCode()
}

// execute runs a command to its end.
func execute(t testing.TB, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := start(t, env, args...)
	code = p.wait(2 * patience)
	return code, p.stdout.String(), p.stderr(1 << 20)
}

// get asks the admin listener.
func (p *program) get(path string) (int, string) {
	p.t.Helper()
	res, err := http.Get("http://" + p.says("admin listener", "address") + path)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// ready waits until the program is.
func (p *program) ready() {
	p.t.Helper()
	p.says("running", "")
	eventually(p.t, p.name+" is not ready", func() error {
		if code, body := p.get("/readyz"); code != http.StatusOK {
			return errors.New(body)
		}
		return nil
	})
}

// metrics returns the samples of /metrics by name and labels, as they are
// written there.
func (p *program) metrics() map[string]float64 {
	p.t.Helper()
	code, body := p.get("/metrics")
	if code != http.StatusOK {
		p.t.Fatalf("%s: /metrics: %d %s", p.name, code, body)
	}
	samples := map[string]float64{}
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(line)
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			value, err := strconv.ParseFloat(line[i+1:], 64)
			if err != nil {
				p.t.Fatalf("%s: /metrics: %v", p.name, err)
			}
			samples[line[:i]] = value
		}
	}
	return samples
}

// store is ClickHouse as curl sees it.
type store struct {
	t   testing.TB
	url string
}

func (s store) ask(sql string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/?database=tocsin&default_format=TSVRaw", strings.NewReader(sql))
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %d %s", sql, res.StatusCode, body)
	}
	var rows [][]string
	for line := range strings.Lines(string(body)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return rows, nil
}

func (s store) rows(sql string) [][]string {
	s.t.Helper()
	rows, err := s.ask(sql)
	if err != nil {
		s.t.Fatal(err)
	}
	return rows
}

// becomes waits until a query that gives one row gives these values.
func (s store) becomes(sql string, want ...string) {
	s.t.Helper()
	eventually(s.t, sql, func() error {
		rows, err := s.ask(sql)
		if err != nil {
			return err
		}
		if got := fmt.Sprint(rows); got != fmt.Sprint([][]string{want}) {
			return fmt.Errorf("got %s, want %v", got, want)
		}
		return nil
	})
}

// tapLines are what tocsin tap prints of a topic.
func tapLines(t testing.TB, brokers string, args ...string) []map[string]any {
	t.Helper()
	code, stdout, stderr := execute(t, []string{"TOCSIN_KAFKA_BROKERS=" + brokers}, append([]string{"tap"}, args...)...)
	if code != exitOK {
		t.Fatalf("tap %v: exit %d: %s", args, code, stderr)
	}
	var lines []map[string]any
	for line := range strings.Lines(stdout) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("tap %v: %v in %s", args, err, line)
		}
		lines = append(lines, v)
	}
	return lines
}

// freeAddress is a loopback address that nothing listens on, below the ports
// that the system gives to outgoing connections: a program that is killed and
// started again finds it free.
func freeAddress(t testing.TB) string {
	t.Helper()
	for port := 10_000 + os.Getpid()%10_000; port < 32_000; port++ {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		defer l.Close()
		handed.Lock()
		fresh := !handed.ports[port]
		handed.ports[port] = true
		handed.Unlock()
		if fresh {
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

// handed are the ports that freeAddress has given to tests, which may run at
// the same time.
var handed = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

func TestDemo(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := execute(t, nil, "demo", "--json", "--devices", "500", "--duration", "10m", "--within", "10s", "--seed", "11")
	var r jsonReport
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != exitOK {
		t.Fatalf("exit %d, %v\n%s%s", code, err, stdout, stderr)
	}
	if !r.OK || len(r.Attacks) != 6 || len(r.FalseAlarms) != 0 {
		t.Errorf("%+v", r)
	}
	for _, a := range r.Attacks {
		if !a.Found || len(a.Detections) == 0 {
			t.Errorf("missed: %s", a.Attack)
		}
	}
	if r.EventsStored != uint64(r.Events) || r.Events < 20_000 {
		t.Errorf("%d events accepted, %d stored", r.Events, r.EventsStored)
	}
	for _, q := range r.Queries {
		if len(q.Rows) == 0 {
			t.Errorf("no answer to: %s", q.Question)
		}
	}
}

// What goes wrong says what to do about it.
func TestDemoErrors(t *testing.T) {
	t.Parallel()
	nowhere := freeAddress(t)
	for _, c := range []struct {
		name string
		env  []string
		args []string
		code int
		says []string
	}{
		{"too few devices", nil, []string{"--devices", "50"}, exitUsage, []string{"100 devices", "use more or no attacks", "Try: tocsin demo --help"}},
		{"too short", nil, []string{"--duration", "5m"}, exitUsage, []string{"10m", "longer duration", "Try: tocsin demo --help"}},
		{"unknown option", nil, []string{"--speed", "9"}, exitUsage, []string{"--speed", "Try: tocsin demo --help"}},
		{"not a URL", []string{"TOCSIN_CLICKHOUSE_URL=ftp://x"}, nil, exitConfig, []string{"clickhouse.url", "want http://host:8123"}},
		{"no broker there", []string{"TOCSIN_KAFKA_BROKERS=" + nowhere}, nil, exitFailed, []string{nowhere, "unset TOCSIN_KAFKA_BROKERS"}},
		{"no ClickHouse there", []string{"TOCSIN_CLICKHOUSE_URL=http://" + nowhere}, nil, exitFailed, []string{nowhere, "unset TOCSIN_CLICKHOUSE_URL"}},
		{"no engine", []string{embedded.LibEnv + "=/nowhere/libchdb.so"}, nil, exitFailed, []string{"fetch-chdb.sh", "TOCSIN_CLICKHOUSE_URL"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := execute(t, c.env, append([]string{"demo"}, c.args...)...)
			if code != c.code || stdout != "" {
				t.Errorf("exit %d, want %d; %s", code, c.code, stdout)
			}
			for _, text := range c.says {
				if !strings.Contains(stderr, text) {
					t.Errorf("nothing about %q in\n%s", text, stderr)
				}
			}
		})
	}
}
