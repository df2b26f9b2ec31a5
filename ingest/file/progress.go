package file

import (
	"io"
	"time"
)

// counted reports what is read to the progress.
type counted struct {
	r io.Reader
	p *progress
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.p.done += int64(n)
	return n, err
}

// progress is used by the goroutine of Run only.
type progress struct {
	call        func(done, total int64)
	done, total int64
	last        time.Time
}

func newProgress(call func(done, total int64), inputs []input) *progress {
	p := &progress{call: call}
	for _, in := range inputs {
		if in.size < 0 {
			p.total = -1
			break
		}
		p.total += in.size
	}
	return p
}

func (p *progress) report(end bool) {
	if p.call == nil || !end && time.Since(p.last) < progressInterval {
		return
	}
	p.last = time.Now()
	p.call(p.done, p.total)
}
