package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func newAdmin(t *testing.T) *Admin {
	t.Helper()
	r := NewRegistry(Build{Version: "v1.2.3", Revision: "abc", Go: "go1.26"})
	return &Admin{Log: zap.NewNop(), Metrics: r, Checks: &Checks{}, Reload: NewReloader(r)}
}

func request(h http.Handler, method, path string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Code, w.Body.String()
}

func TestReadiness(t *testing.T) {
	a := newAdmin(t)
	h := a.Handler()
	expect := func(path string, code int, body string) {
		t.Helper()
		if c, b := request(h, "GET", path); c != code || b != body {
			t.Errorf("%s: got %d %q", path, c, b)
		}
	}
	expect("/readyz", 200, "ready\n")
	a.Checks.Add("kafka", func(context.Context) error { return nil })
	a.Checks.Add("rules", func(context.Context) error { return errors.New("not loaded") })
	expect("/readyz", 503, "[+]kafka ok\n[-]rules failed: not loaded\nnot ready\n")
	expect("/-/ready", 503, "[+]kafka ok\n[-]rules failed: not loaded\nnot ready\n")
	expect("/livez", 200, "ok\n") // liveness looks at none of them
	expect("/-/healthy", 200, "ok\n")
	if err := a.Checks.Err(context.Background()); err == nil || err.Error() != "rules: not loaded" {
		t.Errorf("got %v", err)
	}
	a.Checks.Add("rules", func(context.Context) error { return nil })
	expect("/readyz", 200, "ready\n")
	expect("/readyz?verbose", 200, "[+]kafka ok\n[+]rules ok\nready\n")
	a.Checks.Stopping()
	expect("/readyz", 503, "[+]kafka ok\n[+]rules ok\n[-]running failed: the process is stopping\nnot ready\n")
}

func TestReadinessAnswersWhenACheckHangs(t *testing.T) {
	a := newAdmin(t)
	release := make(chan struct{})
	defer close(release)
	a.Checks.Add("deaf", func(context.Context) error { <-release; return nil })
	began := time.Now()
	code, body := request(a.Handler(), "GET", "/readyz")
	if code != 503 || !strings.Contains(body, "[-]deaf failed: no answer in time") || time.Since(began) > 5*time.Second {
		t.Errorf("got %d %q after %s", code, body, time.Since(began))
	}
}

func TestMetrics(t *testing.T) {
	code, body := request(newAdmin(t).Handler(), "GET", "/metrics")
	for _, want := range []string{
		`tocsin_build_info{goversion="go1.26",revision="abc",version="v1.2.3"} 1`,
		"tocsin_config_last_reload_successful 1", "go_goroutines ",
	} {
		if code != 200 || !strings.Contains(body, want) {
			t.Errorf("%d, no %s", code, want)
		}
	}
}

func TestReload(t *testing.T) {
	a := newAdmin(t)
	h := a.Handler()
	if code, _ := request(h, "POST", "/-/reload"); code != http.StatusNotImplemented {
		t.Errorf("without hooks: got %d", code)
	}
	var fail error
	runs := 0
	a.Reload.OnReload("rules", func(context.Context) error { runs++; return fail })
	if code, _ := request(h, "GET", "/-/reload"); code != http.StatusMethodNotAllowed || runs != 0 {
		t.Errorf("GET: got %d, %d runs", code, runs)
	}
	if code, body := request(h, "POST", "/-/reload"); code != 200 || runs != 1 {
		t.Errorf("got %d %q, %d runs", code, body, runs)
	}
	fail = errors.New("a.yml:3:1: no condition")
	if code, body := request(h, "POST", "/-/reload"); code != 500 || body != "rules: a.yml:3:1: no condition\n" {
		t.Errorf("got %d %q", code, body)
	}
	if _, body := request(h, "GET", "/metrics"); !strings.Contains(body, "tocsin_config_last_reload_successful 0") {
		t.Error("the metric does not show the failure")
	}
}

func TestState(t *testing.T) {
	a := newAdmin(t)
	if code, body := request(a.Handler(), "GET", "/-/state"); code != http.StatusNotImplemented || body != "no correlator runs in this process\n" {
		t.Errorf("without a state: got %d %q", code, body)
	}
	var state any
	a.State = func(ctx context.Context) any {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("no deadline")
		}
		return state
	}
	if code, _ := request(a.Handler(), "GET", "/-/state"); code != http.StatusNotImplemented {
		t.Errorf("before there is one: got %d", code)
	}
	state = map[string]int{"lag": 3}
	if code, body := request(a.Handler(), "GET", "/-/state"); code != 200 || body != "{\"lag\":3}\n" {
		t.Errorf("got %d %q", code, body)
	}
	if code, _ := request(a.Handler(), "POST", "/-/state"); code != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %d", code)
	}
}

func TestPprofOnlyWhenAsked(t *testing.T) {
	a := newAdmin(t)
	if code, _ := request(a.Handler(), "GET", "/debug/pprof/"); code != 404 {
		t.Errorf("off: got %d", code)
	}
	a.Pprof = true
	if code, body := request(a.Handler(), "GET", "/debug/pprof/"); code != 200 || !strings.Contains(body, "goroutine") {
		t.Errorf("on: got %d", code)
	}
}

func TestListen(t *testing.T) {
	a := newAdmin(t)
	addr, stop, err := a.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + addr.String() + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "ok\n" {
		t.Errorf("got %q", body)
	}
	if _, _, err := a.Listen(addr.String()); err == nil || !strings.Contains(err.Error(), "admin.listen") {
		t.Errorf("taken port: got %v", err)
	}
	if err := stop(context.Background()); err != nil {
		t.Error(err)
	}
	if resp, err := http.Get("http://" + addr.String() + "/livez"); err == nil {
		resp.Body.Close()
		t.Error("still listening")
	}
}

func TestFailedReloadIsLogged(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	a := newAdmin(t)
	a.Log = zap.New(core)
	a.Reload.OnReload("rules", func(context.Context) error { return errors.New("no") })
	request(a.Handler(), "POST", "/-/reload")
	if logs.Len() != 1 {
		t.Errorf("%d entries", logs.Len())
	}
}

func TestLogger(t *testing.T) {
	var b bytes.Buffer
	log, err := NewLogger(&b, "info", "auto") // a buffer is no terminal
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("hidden")
	log.Info("shown", zap.String("topic", "tocsin.events"), zap.Duration("took", 1500*time.Millisecond))
	var entry map[string]any
	if err := json.Unmarshal(b.Bytes(), &entry); err != nil {
		t.Fatalf("%v in %q", err, b.String())
	}
	if entry["message"] != "shown" || entry["topic"] != "tocsin.events" || entry["took"] != 1.5 || entry["level"] != "info" {
		t.Errorf("got %v", entry)
	}
	if _, err := time.Parse(time.RFC3339Nano, entry["time"].(string)); err != nil {
		t.Error(err)
	}
	b.Reset()
	log, err = NewLogger(&b, "debug", "console")
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("shown")
	if !strings.Contains(b.String(), "DEBUG\tshown") {
		t.Errorf("got %q", b.String())
	}
	for _, bad := range [][2]string{{"loud", "json"}, {"info", "xml"}} {
		if _, err := NewLogger(&b, bad[0], bad[1]); err == nil {
			t.Errorf("%v accepted", bad)
		}
	}
}
