package clickhouse

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/tocsin-io/tocsin/internal/embedded/chdb"
)

// Command is the hidden command of the program whose main must call ServeMain.
const Command = "embedded-clickhouse"

// File descriptors of the child besides the standard ones.
const (
	listenerFD = 3 // the listening socket
	reportFD   = 4 // one line of JSON, a report, when the engine is ready or has failed
)

// When the engine stops, running statements get drainTime to end, then they are
// killed and get killTime to notice.
const (
	drainTime = 3 * time.Second
	killTime  = 3 * time.Second
)

// childConfig is the first line of the child's standard input, which then
// stays open until the child shall stop: the parent's death closes it too.
// (Not arguments: those can be read by every user of the machine.)
type childConfig struct {
	LibPath   string
	DataDir   string
	MaxMemory int64
	Sessions  int
	Queue     int
	Password  string
}

// report is what the child tells its parent.
type report struct {
	Version string // the engine's, when it is ready
	Error   string // why it is not
}

// ServeMain is the child process. It returns the exit status.
func ServeMain() int {
	listener, err := net.FileListener(os.NewFile(listenerFD, "listener"))
	reports := os.NewFile(reportFD, "report")
	if err != nil || reports == nil {
		fmt.Fprintf(os.Stderr, "%s is started by tocsin itself, not by hand: %v\n", Command, err)
		return 2
	}
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return 2 // the parent died
	}
	var cfg childConfig
	if err := json.Unmarshal(line, &cfg); err != nil {
		fmt.Fprintln(os.Stderr, "configuration:", err)
		return 2
	}

	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in) // until the parent closes it or dies
		cancel()
		// Calls into the engine cannot be interrupted; the process can.
		time.Sleep(drainTime + killTime + time.Second)
		os.Exit(3)
	}()
	err = serve(ctx, listener, cfg, func(version string) {
		// A parent that is gone reads no report: its end ends this process too.
		_ = json.NewEncoder(reports).Encode(report{Version: version})
		reports.Close()
	})
	if err != nil {
		_ = json.NewEncoder(reports).Encode(report{Error: err.Error()})
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// serve runs the engine and its HTTP interface until ctx ends.
func serve(ctx context.Context, l net.Listener, cfg childConfig, ready func(version string)) error {
	defer l.Close()
	lib, err := chdb.Open(cfg.LibPath)
	if err != nil {
		return err
	}
	p, err := newPool(lib, cfg.engineArgs(), cfg.Sessions, cfg.Queue)
	if err != nil {
		return err
	}
	h := &handler{pool: p, password: cfg.Password}
	if err := h.facts(ctx); err != nil {
		return err
	}
	srv := &http.Server{
		Handler:           http.NewCrossOriginProtection().Handler(h),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    1 << 20, // small statements travel in the URL
		ErrorLog:          log.New(os.Stderr, "http: ", 0),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	ready(h.version)

	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// New requests wait in the socket's queue for the next child, if any.
	// Statements that do not end in time are killed: their clients read too
	// slowly, or nobody wants to wait for their answer. Acknowledged data is
	// on disk, so that nothing depends on an orderly end.
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if srv.Shutdown(drain) != nil {
		srv.Close()
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
	defer cancel()
	if err := p.close(end); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return nil
}

// engineArgs keep the engine small. ClickHouse's defaults are those of a
// server that has the machine to itself: 5 GB of mark cache, 90 % of memory.
func (c childConfig) engineArgs() []string {
	args := []string{
		"--path=" + c.DataDir,
		"--mark_cache_size=67108864",
		"--index_mark_cache_size=16777216",
		"--query_condition_cache_size=16777216",
		"--mmap_cache_size=100",
		"--compiled_expression_cache_size=16777216",
		"--background_pool_size=2",
		"--background_schedule_pool_size=4",
	}
	if c.MaxMemory > 0 {
		args = append(args, fmt.Sprintf("--max_server_memory_usage=%d", c.MaxMemory))
	}
	return args
}
