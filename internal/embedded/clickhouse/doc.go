// Package clickhouse runs the real ClickHouse engine without a server: the
// engine's library (libchdb.so, package chdb) in a child process that serves
// ClickHouse's HTTP interface on a loopback address, for clickhouse-go, curl,
// Grafana and whatever else speaks it.
//
// The parent calls Start; the child is the program's own binary run again with
// a hidden command, which calls ServeMain. A process of its own keeps the
// engine's memory, threads and crashes away from the pipeline. The parent owns
// the listening socket, so the address outlives the child: when the engine
// dies, clients' connections wait in the socket's queue until the next child
// accepts them.
//
// Beyond what the HTTP interface of a ClickHouse server does, the front end
// refuses what loopback does not protect from (foreign Host headers and
// cross-origin requests of web pages), and kills a running SELECT when its
// client goes away. Not there: HTTP sessions (session_id), external tables,
// the native TCP protocol, Keeper and with it ReplicatedMergeTree.
package clickhouse
