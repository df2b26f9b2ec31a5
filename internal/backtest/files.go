package backtest

import (
	"context"
	"fmt"
	"io"

	"github.com/tocsin-io/tocsin/ingest"
	"github.com/tocsin-io/tocsin/ingest/decode"
	"github.com/tocsin-io/tocsin/ingest/file"
	"github.com/tocsin-io/tocsin/ingest/identity"
	"github.com/tocsin-io/tocsin/schemas"
)

// Files is a Source of files, folders and patterns in any form that ingest
// takes, "-" being standard input.
type Files struct {
	Paths []string
	Stdin io.Reader
	// Progress is file.Options.Progress.
	Progress func(done, total int64)
}

// Events implements Source.
func (f *Files) Events(ctx context.Context, emit func(*schemas.Event) error) (SourceStats, error) {
	var stats SourceStats
	source, err := file.New(file.Options{Paths: f.Paths, Stdin: f.Stdin, Progress: f.Progress})
	if err != nil {
		return stats, err
	}
	decoder := decode.New(decode.Options{Bindings: identity.NewBindings(identity.DefaultBindings)})
	err = source.Run(ctx, func(_ context.Context, d *ingest.Delivery) error {
		defer d.Ack(nil)
		reject := func(reason string, err error) {
			if stats.Rejected++; stats.Rejected == 1 {
				stats.FirstRejected = fmt.Sprintf("%s: %s: %v", d.Origin, reason, err)
			}
		}
		if d.Reject != nil {
			reject(d.Reject.Reason, d.Reject.Err)
			return nil
		}
		var failed error
		s := decoder.Decode(d.Data, decode.Hints{Account: d.Account, Region: d.Region, Received: d.Received}, func(ev *schemas.Event) {
			if failed == nil {
				failed = emit(ev)
			}
		}, func(r decode.Rejection) { reject(string(r.Reason), r.Err) })
		stats.Untimed += int64(s.TimeFallbacks)
		return failed
	})
	return stats, err
}
