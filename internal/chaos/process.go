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
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tocsin-io/tocsin/correlate"
)

// program is a stage of Tocsin as a process that can be killed and started again
// on the same ports. It is safe for concurrent use.
type program struct {
	command []string
	env     []string
	log     string // file that standard error is appended to
	admin   string // host:port

	mu     sync.Mutex
	wanted bool // it is to run: it was not killed by us
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone
	exits  []string      // of a process that ended by itself, why
}

// start starts the process. It dies with this one, however this one ends.
func (p *program) start(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = true
	return p.spawn()
}

// revive starts a process that has ended by itself again, as a supervisor does.
func (p *program) revive() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.wanted || !p.gone() {
		return nil
	}
	p.exits = append(p.exits, fmt.Sprintf("%s: %s: %s", filepath.Base(p.log), p.cmd.ProcessState, lastLine(p.log)))
	return p.spawn()
}

// spawn is called with the program locked.
func (p *program) spawn() error {
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
	p.cmd, p.exited = cmd, exited
	return nil
}

// kill is kill -9; it returns when the process is gone.
func (p *program) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = false
	if p.cmd != nil {
		_ = p.cmd.Process.Kill() // it may be gone
		<-p.exited
	}
}

// signal sends a signal to the process, if it runs.
func (p *program) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone() {
		return nil // the supervisor is about to see it
	}
	return p.cmd.Process.Signal(s)
}

// ended reports whether the process is gone.
func (p *program) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone()
}

func (p *program) gone() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// endings returns why processes ended by themselves.
func (p *program) endings() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.exits)
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

// lastLine returns the end of a log.
func lastLine(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	b = bytes.TrimSpace(b)
	return fmt.Sprintf("%.500s", b[bytes.LastIndexByte(b, '\n')+1:])
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
