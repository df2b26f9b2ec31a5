#!/bin/sh
# Fetches the ClickHouse engine's library (libchdb.so) into the cache folder,
# verifies it, and prints its path. Does nothing more when it is there already.
#
#   TOCSIN_CACHE   cache folder, by default ~/.cache/tocsin
#
# The version is clickhouse.LibVersion; a test compares the two. It is pinned
# because the package's "latest" lacks the streaming insert.
set -eu

package=@chdb/lib-linux-x64-gnu
version=26.7.3-stable.1
sha256=36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5

dir=${TOCSIN_CACHE:-$HOME/.cache/tocsin}/chdb/$version
lib=$dir/libchdb.so

fail() {
	echo "fetch-chdb: $*" >&2
	echo "fetch-chdb: without the embedded engine, use a ClickHouse server: TOCSIN_CLICKHOUSE_URL=http://host:8123" >&2
	exit 1
}

verify() {
	echo "$sha256  $1" | sha256sum -c --status
}

# The stamp says that the library beside it was verified: hashing 566 MB takes
# seconds, and this script runs before every test.
if [ -f "$lib" ] && [ "$(cat "$dir/verified" 2>/dev/null)" = "$sha256" ]; then
	echo "$lib"
	exit 0
fi

case "$(uname -s) $(uname -m)" in
"Linux x86_64") ;;
*) fail "the library is for Linux on x86_64 with glibc, this is $(uname -s) on $(uname -m)" ;;
esac
mkdir -p "$dir"

# A folder of its own for each run, renamed into place at the end: of two runs
# at once the last wins, and both leave a whole and verified file.
tmp=$(mktemp -d "$dir/.fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

if [ -f "$lib" ] && verify "$lib"; then
	:
else
	command -v npm >/dev/null 2>&1 ||
		fail "npm is not installed. It is only needed to download $package@$version; or put that package's libchdb.so at $lib yourself"
	echo "fetch-chdb: downloading $package@$version (180 MB, once)" >&2
	tarball=$(cd "$tmp" && npm pack --silent "$package@$version") ||
		fail "npm could not download $package@$version. Is there a network, and a registry that has it? (npm config get registry)"
	tar -xzf "$tmp/$tarball" -C "$tmp" package/libchdb.so ||
		fail "the package has no libchdb.so"
	verify "$tmp/package/libchdb.so" ||
		fail "libchdb.so is not what was pinned: SHA-256 is $(sha256sum "$tmp/package/libchdb.so" | cut -d' ' -f1), want $sha256. It was not installed"
	chmod 0644 "$tmp/package/libchdb.so"
	mv -f "$tmp/package/libchdb.so" "$lib"
fi
echo "$sha256" >"$tmp/verified"
mv -f "$tmp/verified" "$dir/verified"
echo "$lib"
