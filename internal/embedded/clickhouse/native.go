package clickhouse

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// transcodeNative rewrites blocks of the Native format from revision 0, which
// is all the engine's library writes, to the revision that the client asked
// for with client_protocol_version: a block info before the block and a
// serialization flag before each column. Where a column ends is only known by
// decoding it, so the columns go through clickhouse-go's own codec; the types
// it cannot decode are those that clickhouse-go could not have read either.
//
// The result is appended to out.
func transcodeNative(out *chproto.Buffer, in []byte, revision uint64) error {
	r := chproto.NewReader(bytes.NewReader(in))
	for {
		block := proto.NewBlock()
		if err := block.Decode(r, 0); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("re-encode Native block for revision %d: %w", revision, err)
		}
		if err := block.Encode(out, revision); err != nil {
			return fmt.Errorf("re-encode Native block for revision %d: %w", revision, err)
		}
	}
}
