#!/bin/sh
# Makes a Python virtual environment with moto (a fake of the AWS APIs) in the cache folder. Every package is pinned with its
# hashes in moto-requirements.txt. Safe to run twice: the folder appears in one rename when it is whole.
# Needs: python3 with venv. Prints the folder of the environment.
set -eu
MOTO_VERSION=5.2.1

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
cache=${TOCSIN_CACHE:-$HOME/.cache/tocsin}
lock=$(sha256sum "$here/moto-requirements.txt" | cut -c1-12)
dest=$cache/moto/$MOTO_VERSION-$lock

if [ -x "$dest/bin/python" ]; then
	echo "$dest"
	exit 0
fi
command -v python3 >/dev/null || { echo "fetch-moto: python3 not found" >&2; exit 1; }
mkdir -p "$cache/moto"
tmp=$(mktemp -d "$cache/moto/.fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT INT TERM
echo "fetch-moto: installing moto $MOTO_VERSION (once)" >&2
python3 -m venv "$tmp/venv" >&2
"$tmp/venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$here/moto-requirements.txt" >&2
# Another process may have won the race; its environment was made from the same lock file.
mv -T "$tmp/venv" "$dest" 2>/dev/null || [ -d "$dest" ]
echo "$dest"
