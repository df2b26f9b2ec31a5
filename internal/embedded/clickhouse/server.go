package clickhouse

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// Options of the embedded engine. The zero value of each but DataDir is usable.
type Options struct {
	// DataDir holds the engine's data. One engine may use it at a time.
	DataDir string
	// LibPath is libchdb.so; empty means as Locate finds it.
	LibPath string
	// Command starts the child: this program with the hidden Command by default.
	Command []string
	// Port is the loopback port. 0 takes the port of the last run in DataDir
	// if it is free, else one that the system gives.
	Port int
	// MaxMemory bounds what the engine allocates, in bytes; statements that
	// would exceed it fail with MEMORY_LIMIT_EXCEEDED. Default 1 GiB. The
	// process has about 250 MB of code and caches besides.
	MaxMemory int64
	// Sessions is how many statements run at the same time, default 8; Queue
	// how many more may wait, default 256.
	Sessions, Queue int
	// Password, if not empty, must be given by clients of whatever user name.
	Password string
	// Logger receives the child's output and its ends. Default: none.
	Logger *zap.Logger
}

// Server is a running engine.
type Server struct {
	opt      Options
	log      *zap.Logger
	listener *os.File
	addr     *net.TCPAddr
	version  string

	restarts atomic.Uint64
	pid      atomic.Int64

	stop     context.CancelFunc
	finished chan struct{} // closed when the last child is gone
}

const (
	startTime  = 60 * time.Second // until a child must have reported; loading and recovery of many parts take seconds
	stopTime   = drainTime + killTime + 3*time.Second
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// Start starts the engine and returns when it accepts statements. ctx bounds
// the start only; Close stops the engine. A child that ends by itself is
// started again, with growing pauses, on the same address.
func Start(ctx context.Context, opt Options) (*Server, error) {
	if opt.DataDir == "" {
		return nil, errors.New("embedded ClickHouse: DataDir is empty")
	}
	if err := os.MkdirAll(opt.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded ClickHouse: %w", err)
	}
	var err error
	if opt.DataDir, err = filepath.Abs(opt.DataDir); err != nil {
		return nil, fmt.Errorf("embedded ClickHouse: %w", err)
	}
	if opt.LibPath, err = Locate(opt.LibPath); err != nil {
		return nil, err
	}
	if len(opt.Command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("embedded ClickHouse: %w", err)
		}
		opt.Command = []string{self, Command}
	}
	if opt.MaxMemory == 0 {
		opt.MaxMemory = 1 << 30
	}
	if opt.Sessions == 0 {
		opt.Sessions = 8
	}
	if opt.Queue == 0 {
		opt.Queue = 256
	}
	s := &Server{opt: opt, log: opt.Logger, finished: make(chan struct{})}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if err := s.listen(); err != nil {
		return nil, fmt.Errorf("embedded ClickHouse: %w", err)
	}
	first, err := s.spawn(ctx)
	if err != nil {
		s.listener.Close()
		return nil, fmt.Errorf("embedded ClickHouse: %w", err)
	}
	s.version = first.version
	run, stop := context.WithCancel(context.Background())
	s.stop = stop
	go s.supervise(run, first)
	return s, nil
}

// URL is the address of the HTTP interface, such as http://127.0.0.1:8123.
func (s *Server) URL() string { return "http://" + s.Addr() }

// Addr is the host:port of the HTTP interface.
func (s *Server) Addr() string { return s.addr.String() }

// Version is the engine's.
func (s *Server) Version() string { return s.version }

// Restarts counts how often a child ended by itself and was started again.
func (s *Server) Restarts() uint64 { return s.restarts.Load() }

// PID is the child's process ID, 0 while there is none.
func (s *Server) PID() int { return int(s.pid.Load()) }

// Close stops the engine: running statements get a few seconds to end, then
// the child is killed. Acknowledged data survives either.
func (s *Server) Close() error {
	s.stop()
	<-s.finished
	if err := s.listener.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// portFile remembers the port of the last run, so that addresses that people
// have noted stay valid.
const portFile = "tocsin.port"

func (s *Server) listen() error {
	name := filepath.Join(s.opt.DataDir, portFile)
	port := s.opt.Port
	if port == 0 {
		if b, err := os.ReadFile(name); err == nil {
			port, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		}
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil && s.opt.Port == 0 {
		l, err = net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	}
	if err != nil {
		return err
	}
	defer l.Close() // File duplicates the socket, which stays open
	s.addr = l.Addr().(*net.TCPAddr)
	if s.listener, err = l.File(); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(strconv.Itoa(s.addr.Port)+"\n"), 0o600)
}

// child is one process.
type child struct {
	cmd     *exec.Cmd
	input   io.Closer // open as long as the child shall run
	gone    chan struct{}
	waitErr error // valid once gone is closed
	version string
	tail    *logTail
}

// spawn starts a child and waits for its report.
func (s *Server) spawn(ctx context.Context) (*child, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	reports, reportsW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer reports.Close()
	defer reportsW.Close()

	cmd := exec.Command(s.opt.Command[0], s.opt.Command[1:]...)
	cmd.ExtraFiles = []*os.File{s.listener, reportsW}
	// A group of its own: Ctrl-C in a terminal reaches the parent alone, which
	// first stops those who still write.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Not Pdeathsig: it fires when the thread that forked ends, not the process.
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, input: input, gone: make(chan struct{}), tail: &logTail{log: s.log}}
	cmd.Stdout, cmd.Stderr = c.tail, c.tail
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	reportsW.Close() // the child has the only writing end: its death ends the read below
	s.pid.Store(int64(cmd.Process.Pid))
	go func() {
		c.waitErr = cmd.Wait()
		s.pid.CompareAndSwap(int64(cmd.Process.Pid), 0)
		close(c.gone)
	}()

	cfg := childConfig{
		LibPath: s.opt.LibPath, DataDir: s.opt.DataDir, MaxMemory: s.opt.MaxMemory,
		Sessions: s.opt.Sessions, Queue: s.opt.Queue, Password: s.opt.Password,
	}
	// A write error means that the child is dead, which the report tells.
	_ = json.NewEncoder(input).Encode(cfg)

	answer := make(chan report, 1)
	go func() {
		var r report
		line, err := bufio.NewReader(reports).ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &r)
		}
		if err != nil {
			r.Error = "the child process ended without a report"
		}
		answer <- r
	}()
	var r report
	select {
	case r = <-answer:
	case <-ctx.Done():
		r.Error = "the engine is not ready: " + ctx.Err().Error()
	}
	if r.Error != "" {
		c.end(0)
		return nil, errors.New(c.tail.explain(r.Error))
	}
	c.version = r.Version
	return c, nil
}

// end stops the child and waits until it is gone; it is killed after grace.
func (c *child) end(grace time.Duration) {
	c.input.Close()
	select {
	case <-c.gone:
		return
	case <-time.After(grace):
	}
	_ = c.cmd.Process.Kill() // it may have ended meanwhile
	<-c.gone
}

// supervise replaces children until ctx ends.
func (s *Server) supervise(ctx context.Context, c *child) {
	defer close(s.finished)
	backoff := minBackoff
	for {
		started := time.Now()
		select {
		case <-ctx.Done():
			c.end(stopTime)
			return
		case <-c.gone:
		}
		c.input.Close()
		if time.Since(started) > time.Minute {
			backoff = minBackoff
		}
		s.log.Error("the ClickHouse engine ended and is started again",
			zap.NamedError("exit", c.waitErr), zap.Duration("pause", backoff), zap.String("output", c.tail.explain("")))
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(backoff):
			}
			backoff = min(2*backoff, maxBackoff)
			s.restarts.Add(1)
			next, err := s.spawn(ctx)
			if err == nil {
				c = next
				break
			}
			s.log.Error("the ClickHouse engine does not start", zap.Error(err), zap.Duration("pause", backoff))
		}
	}
}

// logTail passes the child's output on line by line and keeps its end.
type logTail struct {
	log *zap.Logger

	mu   sync.Mutex
	part []byte
	last []string
}

// maxLogLine bounds a line; the rest of a longer one is a line of its own.
const maxLogLine = 8 << 10

func (t *logTail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range p {
		if b != '\n' {
			t.part = append(t.part, b)
		}
		if b == '\n' && len(t.part) > 0 || len(t.part) == maxLogLine {
			line := string(t.part)
			t.part = t.part[:0]
			t.log.Warn("ClickHouse engine", zap.String("line", line))
			if len(t.last) == 8 {
				t.last = append(t.last[:0], t.last[1:]...)
			}
			t.last = append(t.last, line)
		}
	}
	return len(p), nil
}

// explain adds the last lines of output to a message.
func (t *logTail) explain(message string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, line := range t.last {
		if line != message {
			message += "\n\t" + line
		}
	}
	return strings.TrimSpace(message)
}
