package clickhouse

import (
	"fmt"

	chcolumn "github.com/ClickHouse/clickhouse-go/v2/lib/column"
)

// column is one column of a block.
type column interface {
	// meta returns the name, and the type that the values are sent as. Over HTTP
	// the server converts that to the table's type, so that LowCardinality(String)
	// is sent as String: building the dictionary is cheaper there.
	meta() (name, chType string)
	len() int
	truncate(n int)
	// parts and appendNative are the values in the Native format; see native.go.
	parts() int
	appendNative(dst []byte, part, from, to int) []byte
	// appendTo appends all values to the driver's column, which has the table's
	// type: the way of the native protocol.
	appendTo(c chcolumn.Interface) error
}

// values is a column of Go type T, which the driver must know how to append.
type values[T any] struct {
	name, chType string
	v            []T
}

func (c *values[T]) meta() (name, chType string) { return c.name, c.chType }
func (c *values[T]) len() int                    { return len(c.v) }

func (c *values[T]) truncate(n int) {
	clear(c.v[n:]) // what they point to may go
	c.v = c.v[:n]
}

func (c *values[T]) add(v T) { c.v = append(c.v, v) }

func (c *values[T]) appendTo(dst chcolumn.Interface) error {
	var err error
	if words, ok := any(c.v).([]string); ok {
		if dictionary, ok := dst.(*chcolumn.LowCardinality); ok {
			err = appendWords(dictionary, words)
		} else {
			_, err = dst.Append(words)
		}
	} else {
		_, err = dst.Append(c.v)
	}
	if err != nil {
		return fmt.Errorf("column %s: %w", c.name, err)
	}
	return nil
}

// appendWords does what dst.Append does without an allocation per row: the
// driver takes each value as an interface, which is made once per distinct
// value here.
func appendWords(dst *chcolumn.LowCardinality, words []string) error {
	boxed := make(map[string]any)
	var last string
	var box any
	for _, w := range words {
		if box == nil || w != last {
			var ok bool
			if box, ok = boxed[w]; !ok {
				box = w
				boxed[w] = box
			}
			last = w
		}
		if err := dst.AppendRow(box); err != nil {
			return err
		}
	}
	return nil
}

// Constructors by the type that is sent. DateTime64(3) is in Unix milliseconds.

func stringColumn(name string) *values[string] { return &values[string]{name: name, chType: "String"} }
func boolColumn(name string) *values[bool]     { return &values[bool]{name: name, chType: "Bool"} }

func timeColumn(name string) *values[int64] {
	return &values[int64]{name: name, chType: "DateTime64(3, 'UTC')"}
}

func uint8Column(name string) *values[uint8] { return &values[uint8]{name: name, chType: "UInt8"} }

func uint32Column(name string) *values[uint32] { return &values[uint32]{name: name, chType: "UInt32"} }

func uint64Column(name string) *values[uint64] { return &values[uint64]{name: name, chType: "UInt64"} }

func stringsColumn(name string) *values[[]string] {
	return &values[[]string]{name: name, chType: "Array(String)"}
}
