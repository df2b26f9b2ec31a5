// Package chdb calls libchdb.so, the ClickHouse engine as a shared library,
// without cgo. It is a thin layer: names, states and limits are those of
// programs/local/chdb.h in chdb-io/chdb-core.
//
// One process has one engine with one data directory. Any number of
// connections may be open on it and run at the same time, but a connection
// runs one statement at a time: a Conn and what it returned (Result, Stream,
// Insert) must not be used by two goroutines at once.
//
// Calls block an operating system thread for as long as the engine works.
package chdb
