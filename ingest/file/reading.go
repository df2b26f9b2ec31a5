package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/tocsin-io/tocsin/ingest"
	"github.com/tocsin-io/tocsin/internal/backoff"
)

// handError is that the pipeline does not take anything any more, as opposed to
// an error of one file.
type handError struct{ err error }

func (e *handError) Error() string { return e.err.Error() }

// reading is one Run.
type reading struct {
	source   *Source
	hand     func(context.Context, *ingest.Delivery) error
	progress *progress
	pace     pace

	mu      sync.Mutex
	open    int                // deliveries handed over and not acknowledged
	back    []*ingest.Delivery // those given back, to be delivered again
	changed chan struct{}      // closed and replaced when one of the two changes
}

// file delivers one file.
func (r *reading) file(ctx context.Context, in input) error {
	var raw io.Reader
	if in.path == Stdin {
		raw = r.source.opts.Stdin
	} else {
		f, err := os.Open(in.path)
		if err != nil {
			return err
		}
		defer f.Close()
		raw = f
	}
	// A read from a terminal or a pipe cannot be interrupted. It is left behind
	// when ctx ends, and the process with it.
	var live *interruptible
	if in.size < 0 {
		live = newInterruptible(ctx, raw)
		raw = live
	}
	content, err := unzip(&counted{raw, r.progress})
	if err != nil {
		return r.unreadable(ctx, in, 0, err)
	}
	c := newChunker(content, r.pace.chunkBytes(r.source.opts.ChunkBytes), r.source.opts.MaxDocument)
	c.maxLines = r.pace.chunkLines()
	if live != nil {
		c.idle = live.idle
	}
	for {
		ck, err := c.next()
		if len(ck.data) > 0 {
			d := &ingest.Delivery{
				Data: ck.data, Source: "file", Lane: "file", Ordered: true,
				Origin: fmt.Sprintf("%s@%d", in.path, ck.offset), Received: time.Now(),
			}
			if ck.cut > 0 {
				d.Reject = &ingest.Rejection{
					Reason: "document_too_large", Size: ck.cut,
					Err: fmt.Errorf("a line or document of %d bytes is longer than the limit of %d", ck.cut, r.source.opts.MaxDocument),
				}
			}
			if err := r.pace.wait(ctx, ck.data); err != nil {
				return err
			}
			if err := r.deliver(ctx, d); err != nil {
				return err
			}
			r.progress.report(false)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return r.unreadable(ctx, in, c.offset, err)
		}
	}
}

// unreadable leaves a dead letter about the rest of a file.
func (r *reading) unreadable(ctx context.Context, in input, offset int64, cause error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	cause = fmt.Errorf("%s: cannot be read beyond byte %d: %w", in.path, offset, cause)
	err := r.deliver(ctx, &ingest.Delivery{
		Source: "file", Lane: "file", Ordered: true, Origin: fmt.Sprintf("%s@%d", in.path, offset), Received: time.Now(),
		Reject: &ingest.Rejection{Reason: "unreadable_file", Err: cause, Size: int(max(in.size, 0))},
	})
	if err != nil {
		return err
	}
	return cause
}

// deliver hands d over, and before it what was given back: with Kafka failing,
// nothing more is read until that has been taken.
func (r *reading) deliver(ctx context.Context, d *ingest.Delivery) error {
	d.Ack = func(err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.open--
		if err != nil {
			r.back = append(r.back, d)
		}
		if r.changed != nil {
			close(r.changed)
			r.changed = nil
		}
	}
	if err := r.again(ctx); err != nil {
		return err
	}
	return r.take(ctx, d)
}

func (r *reading) take(ctx context.Context, d *ingest.Delivery) error {
	r.mu.Lock()
	r.open++
	r.mu.Unlock()
	if err := r.hand(ctx, d); err != nil {
		return &handError{err}
	}
	return nil
}

// again delivers what was given back.
func (r *reading) again(ctx context.Context) error {
	for delay := retryFirst; ; delay = min(2*delay, retryLimit) {
		r.mu.Lock()
		back := r.back
		r.back = nil
		r.mu.Unlock()
		if len(back) == 0 {
			return nil
		}
		if err := backoff.Sleep(ctx, delay); err != nil {
			return err
		}
		for _, d := range back {
			r.source.retries.Inc()
			if err := r.take(ctx, d); err != nil {
				return err
			}
		}
	}
}

// finish waits until everything is acknowledged.
func (r *reading) finish(ctx context.Context) error {
	for {
		if err := r.again(ctx); err != nil {
			return err
		}
		r.mu.Lock()
		if r.open == 0 && len(r.back) == 0 {
			r.mu.Unlock()
			return nil
		}
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed, settled := r.changed, len(r.back) > 0
		r.mu.Unlock()
		if settled {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// unzip inflates what begins like gzip, all members of it.
func unzip(r io.Reader) (io.Reader, error) {
	var head [2]byte
	n, err := io.ReadFull(r, head[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	whole := io.MultiReader(bytes.NewReader(head[:n]), r)
	if n < 2 || head != [2]byte{0x1f, 0x8b} {
		return whole, nil
	}
	return gzip.NewReader(whole)
}
