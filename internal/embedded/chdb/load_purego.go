//go:build linux && (amd64 || arm64) && !noembedded

package chdb

import (
	"fmt"

	"github.com/ebitengine/purego"
)

// load resolves every symbol before it returns: a library that is too old
// (26.5 has no chdb_stream_insert) must fail here, by name, not as a call
// through a nil pointer.
func load(path string) (*symbols, error) {
	lib, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, err
	}
	c := new(symbols)
	for name, fn := range map[string]any{
		"chdb_version":                     &c.version,
		"chdb_set_signal_handlers_enabled": &c.setSignalHandlers,
		"chdb_connect":                     &c.connect,
		"chdb_close_conn":                  &c.closeConn,
		"chdb_query_with_params_n":         &c.query,
		"chdb_stream_query_with_params_n":  &c.streamQuery,
		"chdb_stream_fetch_result":         &c.fetch,
		"chdb_stream_cancel_query":         &c.cancelQuery,
		"chdb_destroy_query_result":        &c.destroy,
		"chdb_stream_insert_with_params_n": &c.streamInsert,
		"chdb_stream_append":               &c.appendInsert,
		"chdb_stream_done":                 &c.doneInsert,
		"chdb_stream_cancel_insert":        &c.cancelInsert,
		"chdb_stream_insert_error":         &c.insertError,
		"chdb_destroy_insert_stream":       &c.destroyInsert,
		"chdb_result_buffer":               &c.resultBuffer,
		"chdb_result_length":               &c.resultLength,
		"chdb_result_error":                &c.resultError,
		"chdb_result_rows_read":            &c.resultRowsRead,
		"chdb_result_storage_rows_read":    &c.resultStorageRows,
		"chdb_result_storage_bytes_read":   &c.resultStorageBytes,
		"chdb_result_rows_written":         &c.resultRowsWritten,
		"chdb_result_bytes_written":        &c.resultBytesWritten,
		"chdb_classify_query_n":            &c.classify,
	} {
		addr, err := purego.Dlsym(lib, name)
		if err != nil {
			return nil, fmt.Errorf("not a chDB library of version 26.7 or newer: %w", err)
		}
		purego.RegisterFunc(fn, addr)
	}
	return c, nil
}
