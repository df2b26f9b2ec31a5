package clickhouse

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// LibVersion is the version of the npm package @chdb/lib-linux-x64-gnu whose
// library is used; fetch-chdb.sh has the same and the library's checksum. It
// is pinned because the package's "latest" lacks the streaming insert.
const LibVersion = "26.7.3-stable.1"

// LibEnv names the library's file in the environment.
const LibEnv = "TOCSIN_LIBCHDB"

// ErrNoLibrary is wrapped by Locate's error.
var ErrNoLibrary = errors.New("the ClickHouse engine library libchdb.so is not here")

// Locate finds the engine's library: the given path if not empty, else
// $TOCSIN_LIBCHDB, else the cache folder that fetch-chdb.sh fills
// ($TOCSIN_CACHE, by default ~/.cache/tocsin).
func Locate(path string) (string, error) {
	if path == "" {
		path = os.Getenv(LibEnv)
	}
	where := path
	if path == "" {
		cache, err := cacheDir()
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrNoLibrary, err)
		}
		path = filepath.Join(cache, "chdb", LibVersion, "libchdb.so")
		where = path + " (nor named by " + LibEnv + ")"
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return "", fmt.Errorf("%w: no file %s. "+
			"Get it with internal/embedded/fetch-chdb.sh (needs npm; 180 MB, once), "+
			"or use a ClickHouse server instead: TOCSIN_CLICKHOUSE_URL=http://host:8123", ErrNoLibrary, where)
	}
	return path, nil
}

func cacheDir() (string, error) {
	if dir := os.Getenv("TOCSIN_CACHE"); dir != "" {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".cache", "tocsin"), nil
}
