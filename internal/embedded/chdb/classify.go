package chdb

import (
	"errors"
	"runtime"
	"unsafe"
)

// Class says what a statement does to state that outlives it.
type Class uint32

// The classes of chdb_query_class, in the order of how restricted they are.
const (
	ReadOnly Class = iota
	Mutating
	MutatingGlobal
	Control // SET, USE, SYSTEM, KILL, ATTACH, writing outside the engine
	Unknown // did not parse
)

// Analysis is what the engine's parser says of a text.
type Analysis struct {
	Statements int // 0 if the text did not parse
	Class      Class
}

// analysisV1 is chdb_query_analysis_v1.
type analysisV1 struct {
	structSize, statementCount, flags, class uint32
}

// Classify parses a text with the connection's settings without running it.
func (c *Conn) Classify(sql string) (Analysis, error) {
	a := &analysisV1{}
	a.structSize = uint32(unsafe.Sizeof(*a))
	state := c.c.classify(c.handle, unsafe.Pointer(bytesOf(sql)), uintptr(len(sql)), nil, 0, unsafe.Pointer(a))
	runtime.KeepAlive(sql)
	if state != 0 {
		return Analysis{}, errors.New("chdb: cannot classify: connection is closed")
	}
	return Analysis{Statements: int(a.statementCount), Class: Class(a.class)}, nil
}
