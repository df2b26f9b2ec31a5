package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/internal/telemetry"
)

// progress shows how far something is: on a terminal in one line that changes,
// elsewhere in a line now and then.
type progress struct {
	w     io.Writer
	tty   bool
	every time.Duration

	mu    sync.Mutex
	last  time.Time
	width int
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, tty: telemetry.IsTerminal(w), every: 5 * time.Second}
	if p.tty {
		p.every = 100 * time.Millisecond
	}
	return p
}

// show prints text unless something was printed a moment ago.
func (p *progress) show(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.last) < p.every {
		return
	}
	p.print(text)
}

// end prints text in any case, and ends the line.
func (p *progress) end(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.print(text)
	if p.tty {
		fmt.Fprintln(p.w)
	}
	p.width = 0
}

func (p *progress) print(text string) {
	p.last = time.Now()
	if !p.tty {
		fmt.Fprintln(p.w, text)
		return
	}
	// Blanks over what is left of a longer line before.
	fmt.Fprintf(p.w, "\r%-*s", p.width, text)
	p.width = len(text)
}
