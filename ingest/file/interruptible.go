package file

import (
	"context"
	"io"
)

// interruptible gives up on a read when ctx ends.
type interruptible struct {
	ctx    context.Context
	chunks chan []byte
	rest   []byte
	err    error // set before chunks is closed
}

func newInterruptible(ctx context.Context, r io.Reader) *interruptible {
	i := &interruptible{ctx: ctx, chunks: make(chan []byte)}
	go func() {
		defer close(i.chunks)
		for {
			b := make([]byte, 64<<10)
			n, err := r.Read(b)
			if n > 0 {
				select {
				case i.chunks <- b[:n]:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				i.err = err
				return
			}
		}
	}()
	return i
}

// idle reports whether a Read would wait now, as far as is known.
func (i *interruptible) idle() bool {
	if len(i.rest) > 0 {
		return false
	}
	select {
	case i.rest = <-i.chunks:
		return false // at the end too, where nothing waits
	default:
		return true
	}
}

func (i *interruptible) Read(b []byte) (int, error) {
	if len(i.rest) == 0 {
		select {
		case chunk, ok := <-i.chunks:
			if !ok {
				if i.err == nil {
					return 0, i.ctx.Err()
				}
				return 0, i.err
			}
			i.rest = chunk
		case <-i.ctx.Done():
			return 0, i.ctx.Err()
		}
	}
	n := copy(b, i.rest)
	i.rest = i.rest[n:]
	return n, nil
}
