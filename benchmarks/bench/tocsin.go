package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v4"
	"golang.org/x/sys/unix"
)

const (
	startTimeout = 2 * time.Minute
	stopTimeout  = time.Minute
	// measuredCores is what the bars are for. On a larger machine the program is
	// kept to as many, and what makes the load runs on the others.
	measuredCores = 2
)

// tocsin is a `tocsin run --embedded` that is being measured. It has the
// default configuration but for addresses, the profiles, and what a phase adds.
type tocsin struct {
	pid        int
	dir        string
	key        string // for the Firehose endpoint
	firehose   string
	events     string
	admin      string // base URL
	clickhouse string // URL
	database   string

	exited chan struct{} // closed when the process is gone
	err    error         // why; valid after exited
	logs   *tail
}

// startTocsin starts the program and waits until it is ready. overlay is merged
// into its configuration.
func (b *bench) startTocsin(ctx context.Context, overlay map[string]any) (*tocsin, error) {
	dir, err := os.MkdirTemp(b.dir, "run-")
	if err != nil {
		return nil, err
	}
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails (Go 1.24)
	t := &tocsin{dir: dir, key: hex.EncodeToString(key[:]), database: "tocsin", exited: make(chan struct{}), logs: &tail{}}
	config := map[string]any{
		"embedded": map[string]any{"dir": filepath.Join(dir, "data")},
		"ingest":   map[string]any{"firehose": map[string]any{"listen": "127.0.0.1:0", "access_keys": []string{t.key}}},
		"admin":    map[string]any{"listen": "127.0.0.1:0", "pprof": true},
		"log":      map[string]any{"level": "info", "format": "json"},
	}
	for k, v := range overlay {
		config[k] = v
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "tocsin.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, err
	}
	if err := t.start(b.tocsin, path); err != nil {
		return nil, err
	}
	if err := t.ready(ctx); err != nil {
		return nil, errors.Join(err, t.stop())
	}
	return t, nil
}

// start runs the program on a thread of its own, which lives as long as the
// process: the kernel ends the child when the thread that forked it ends, so
// that nothing is left behind however the benchmark ends.
func (t *tocsin) start(program, config string) error {
	cmd := exec.Command(program, "run", "--config", config)
	cmd.Env = append(os.Environ(), "TOCSIN_KAFKA_BROKERS=", "TOCSIN_CLICKHOUSE_URL=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := pin(); err != nil {
			started <- err
			return
		}
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		t.pid = cmd.Process.Pid
		started <- nil
		t.logs.read(stderr)
		t.err = cmd.Wait()
		close(t.exited)
	}()
	return <-started
}

// pin keeps this thread, and so what it starts, to the cores that are measured.
func pin() error {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil || all.Count() <= measuredCores {
		return err
	}
	var some unix.CPUSet
	for cpu := 0; some.Count() < measuredCores; cpu++ {
		if all.IsSet(cpu) {
			some.Set(cpu)
		}
	}
	return unix.SchedSetaffinity(0, &some)
}

// ready learns the addresses from the log and waits until all parts are up.
func (t *tocsin) ready(ctx context.Context) error {
	deadline := time.Now().Add(startTimeout)
	for {
		if t.admin != "" && t.firehose != "" {
			res, err := http.Get(t.admin + "/readyz")
			if err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if res.StatusCode == http.StatusOK {
					return nil
				}
			}
		}
		t.learn()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.exited:
			return fmt.Errorf("tocsin ended while it started: %w\n%s", t.err, t.logs)
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("tocsin is not ready after %s\n%s", startTimeout, t.logs)
		}
	}
}

func (t *tocsin) learn() {
	for _, line := range t.logs.lines() {
		var entry struct {
			Message, Address, Firehose, Events, URL string
		}
		if json.Unmarshal([]byte(line), &entry) != nil {
			continue
		}
		switch entry.Message {
		case "admin listener":
			t.admin = "http://" + entry.Address
		case "firehose endpoint":
			t.firehose, t.events = entry.Firehose, entry.Events
		case "embedded ClickHouse":
			t.clickhouse = entry.URL
		}
	}
}

// stop ends the process and waits for it.
func (t *tocsin) stop() error {
	select {
	case <-t.exited:
		return fmt.Errorf("tocsin ended by itself: %w\n%s", t.err, t.logs)
	default:
	}
	_ = syscall.Kill(t.pid, syscall.SIGTERM)
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-t.exited:
		return errors.Join(t.err, os.RemoveAll(t.dir))
	case <-timer.C:
	}
	_ = syscall.Kill(t.pid, syscall.SIGKILL)
	<-t.exited
	return errors.Join(fmt.Errorf("tocsin did not stop within %s\n%s", stopTimeout, t.logs), os.RemoveAll(t.dir))
}

// metrics returns the sums over all series of every metric as "name", and over
// those with one value of a label as "name{value}".
func (t *tocsin) metrics(ctx context.Context) (samples, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.admin+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("metrics of tocsin: %w\n%s", err, t.logs)
	}
	defer res.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(res.Body)
	if err != nil {
		return nil, fmt.Errorf("metrics of tocsin: %w", err)
	}
	s := samples{}
	for name, family := range families {
		for _, m := range family.Metric {
			if h := m.GetHistogram(); h != nil {
				s[name+"_sum"] += h.GetSampleSum()
				s[name+"_count"] += float64(h.GetSampleCount())
				continue
			}
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
			s[name] += v
			for _, l := range m.Label {
				s[name+"{"+l.GetValue()+"}"] += v
			}
		}
	}
	return s, nil
}

type samples map[string]float64

// query asks ClickHouse for one number.
func (t *tocsin) query(ctx context.Context, sql string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.clickhouse+"/?database="+url.QueryEscape(t.database), strings.NewReader(sql))
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		return 0, err
	}
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("ClickHouse: %s: %s", res.Status, body)
	}
	return strconv.ParseFloat(strings.TrimSpace(string(body)), 64)
}

// webhookOf is the configuration of one webhook.
func webhookOf(target string) map[string]any {
	var secret [32]byte
	_, _ = rand.Read(secret[:])
	return map[string]any{
		"name": "bench", "url": target, "allow_private": true,
		"secrets": []string{"whsec_" + base64.StdEncoding.EncodeToString(secret[:])},
	}
}

// tail keeps the beginning of a log, where the addresses are, and its end.
type tail struct {
	mu    sync.Mutex
	first []string
	last  []string
}

const tailLines = 200

func (l *tail) read(r io.Reader) {
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		l.mu.Lock()
		if len(l.first) < tailLines {
			l.first = append(l.first, scan.Text())
		} else {
			if len(l.last) == tailLines {
				l.last = l.last[1:]
			}
			l.last = append(l.last, scan.Text())
		}
		l.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, r) // after a line that is too long
}

func (l *tail) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(append([]string(nil), l.first...), l.last...)
}

// warnings returns the lines of level warn and above.
func (l *tail) warnings() []string {
	var some []string
	for _, line := range l.lines() {
		if !strings.Contains(line, `"level":"info"`) {
			some = append(some, line)
		}
	}
	return some
}

// String returns the last lines, for an error.
func (l *tail) String() string {
	lines := l.lines()
	return strings.Join(lines[max(0, len(lines)-25):], "\n")
}
