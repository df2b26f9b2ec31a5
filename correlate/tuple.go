package correlate

import (
	"encoding/binary"
	"errors"
)

var errTuple = errors.New("not an encoded tuple")

// maxTuple bounds the elements that DecodeTuple returns.
const maxTuple = 256

// AppendTuple encodes values so that no two different tuples have the same
// bytes: each with its length before it.
func AppendTuple(dst []byte, values ...[]byte) []byte {
	for _, v := range values {
		dst = binary.AppendUvarint(dst, uint64(len(v)))
		dst = append(dst, v...)
	}
	return dst
}

// DecodeTuple is AppendTuple's inverse. The values alias b.
func DecodeTuple(b []byte) ([][]byte, error) {
	var out [][]byte
	for len(b) > 0 {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) || len(out) == maxTuple {
			return nil, errTuple
		}
		b = b[size:]
		out = append(out, b[:n:n])
		b = b[n:]
	}
	return out, nil
}
