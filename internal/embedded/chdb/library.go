package chdb

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

// ErrUnsupported is returned by Open in builds that cannot load the engine:
// other systems than Linux on amd64 and arm64, and builds with the tag
// noembedded (which keep the binary free of a dynamic linker).
var ErrUnsupported = errors.New("this build cannot load the ClickHouse engine (it needs linux on amd64 or arm64, without the build tag noembedded); use a ClickHouse server instead: TOCSIN_CLICKHOUSE_URL=http://host:8123")

// Library is a loaded engine.
type Library struct {
	c *symbols
}

// symbols are the functions of chdb.h that this package calls. Pointers to
// engine objects are uintptr: Go's collector must not look at them.
type symbols struct {
	version           func() string
	setSignalHandlers func(enabled int32)

	connect   func(argc int32, argv unsafe.Pointer) uintptr
	closeConn func(conn uintptr)

	query       func(conn uintptr, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, n uintptr) uintptr
	streamQuery func(conn uintptr, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, n uintptr) uintptr
	fetch       func(conn, stream uintptr) uintptr
	cancelQuery func(conn, stream uintptr)
	destroy     func(result uintptr)

	streamInsert  func(conn uintptr, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, n uintptr) uintptr
	appendInsert  func(stream uintptr, data unsafe.Pointer, n uintptr) int32
	doneInsert    func(stream uintptr) uintptr
	cancelInsert  func(stream uintptr)
	insertError   func(stream uintptr) string
	destroyInsert func(stream uintptr)

	resultBuffer       func(result uintptr) unsafe.Pointer
	resultLength       func(result uintptr) uintptr
	resultError        func(result uintptr) string
	resultRowsRead     func(result uintptr) uint64
	resultStorageRows  func(result uintptr) uint64
	resultStorageBytes func(result uintptr) uint64
	resultRowsWritten  func(result uintptr) uint64
	resultBytesWritten func(result uintptr) uint64

	classify func(conn uintptr, sql unsafe.Pointer, sqlLen uintptr, database unsafe.Pointer, databaseLen uintptr, analysis unsafe.Pointer) int32
}

// Open loads the library at path into the process, where it stays: the engine
// has threads of its own and cannot be unloaded. The engine's signal handlers
// are kept out, because Go's runtime needs its own (stack growth checks,
// preemption, nil dereferences).
func Open(path string) (*Library, error) {
	c, err := load(path)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", path, err)
	}
	c.setSignalHandlers(0)
	return &Library{c: c}, nil
}

// Version is chDB's own version ("26.7.3"); the engine's is SELECT version().
func (l *Library) Version() string { return l.c.version() }

// Connect opens a connection. Arguments have the form --name=value; the first
// connection of the process starts the engine and may give server settings
// (--path, --max_server_memory_usage), every connection may give query
// settings, which hold for that connection only. The engine writes why it
// failed to standard error.
func (l *Library) Connect(args ...string) (*Conn, error) {
	argv := make([]*byte, 0, len(args)+1)
	for _, a := range append([]string{"clickhouse"}, args...) {
		b := append([]byte(a), 0)
		argv = append(argv, &b[0])
	}
	ref := l.c.connect(int32(len(argv)), unsafe.Pointer(&argv[0]))
	runtime.KeepAlive(argv)
	if ref == 0 {
		return nil, fmt.Errorf("chdb: connect %q failed", args)
	}
	return &Conn{c: l.c, ref: ref, handle: *(*uintptr)(enginePointer(ref))}, nil
}

// enginePointer turns an address that the engine handed out into a pointer.
// It goes through memory because vet rightly distrusts the direct conversion:
// that is only sound for memory which Go's collector does not manage, as here.
func enginePointer(addr uintptr) unsafe.Pointer {
	return *(*unsafe.Pointer)(unsafe.Pointer(&addr))
}
