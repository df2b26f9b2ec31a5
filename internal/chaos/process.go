package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tocsin-io/tocsin/correlate"
)

// program is a stage of Tocsin as a process that can be killed and started again
// on the same ports. Its methods may be called by one goroutine at a time, but
// for those that only ask the admin listener.
type program struct {
	command []string
	env     []string
	log     string // file that standard error is appended to
	admin   string // host:port

	mu     sync.Mutex // of cmd: the goroutine that waits, and the one that asks for the PID
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone
}

// start starts the process. It dies with this one, however this one ends.
func (p *program) start(context.Context) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own: ^C in a terminal reaches this process alone, which then
	// ends the others.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	exited, started := make(chan struct{}), make(chan error)
	go func() {
		// The death signal comes when the thread that started the child ends: this one
		// lives as long as the child.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it was killed
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", strings.Join(p.command, " "), err)
	}
	p.mu.Lock()
	p.cmd, p.exited = cmd, exited
	p.mu.Unlock()
	return nil
}

// kill is kill -9; it returns when the process is gone.
func (p *program) kill() {
	p.mu.Lock()
	cmd, exited := p.cmd, p.exited
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Kill() // it may be gone
	<-exited
}

func (p *program) signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// ended reports whether the process is gone.
func (p *program) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// ready returns nil when the process says that it is.
func (p *program) ready(ctx context.Context) error {
	if p.ended() {
		return errors.New("the process has ended")
	}
	_, err := p.ask(ctx, "/readyz")
	return err
}

// partitions returns the partitions of tocsin.events that a correlator has.
func (p *program) partitions(ctx context.Context) (map[int]bool, error) {
	body, err := p.ask(ctx, "/-/state")
	if err != nil {
		return nil, err
	}
	var state struct{ Partitions []correlate.PartitionStatus }
	if err := json.Unmarshal(body, &state); err != nil {
		return nil, err
	}
	has := map[int]bool{}
	for _, s := range state.Partitions {
		if s.Topic == eventsTopic {
			has[s.Partition] = true
		}
	}
	return has, nil
}

func (p *program) ask(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.300s", path, res.Status, body)
	}
	return body, err
}

// signs of a fault in the program itself, in its log.
var signs = []string{"WARNING: DATA RACE", "panic: ", "fatal error: ", "BUG: "}

// complaints returns the lines of a log that have one.
func complaints(file string) []string {
	b, err := os.ReadFile(file)
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for line := range bytes.Lines(b) {
		for _, s := range signs {
			if bytes.Contains(line, []byte(s)) && len(out) < 5 {
				out = append(out, fmt.Sprintf("%s: %.500s", file, bytes.TrimSpace(line)))
			}
		}
	}
	return out
}
