#!/bin/sh
# Fetches the MQTT broker Mosquitto and its clients, with the libraries that a minimal Debian lacks, from the Debian archive
# into the cache folder: downloaded by apt, verified against mosquitto-debs.sha256, unpacked without root. Safe to run
# twice: the folder appears in one rename when it is whole.
# Needs: apt and dpkg of Debian 12 (amd64), with package lists (apt-get update). Elsewhere, set MOSQUITTO_DIR to a folder
# with usr/sbin/mosquitto and usr/bin/mosquitto_pub. Prints the folder.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
cache=${TOCSIN_CACHE:-$HOME/.cache/tocsin}
sums=$here/mosquitto-debs.sha256
dest=$cache/mosquitto/$(sha256sum "$sums" | cut -c1-12)

if [ -n "${MOSQUITTO_DIR:-}" ]; then
	echo "$MOSQUITTO_DIR"
	exit 0
fi
if [ -x "$dest/usr/sbin/mosquitto" ]; then
	echo "$dest"
	exit 0
fi
command -v apt-get >/dev/null && command -v dpkg >/dev/null || { echo "fetch-mosquitto: apt-get or dpkg not found; set MOSQUITTO_DIR" >&2; exit 1; }
mkdir -p "$cache/mosquitto"
tmp=$(mktemp -d "$cache/mosquitto/.fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT INT TERM
mkdir "$tmp/debs" "$tmp/root"
echo "fetch-mosquitto: fetching Mosquitto (under 1 MB, once)" >&2
# A file is called name_version_architecture.deb, with the colon of an epoch as %3a.
packages=$(awk '{print $2}' "$sums" | sed 's/^\([^_]*\)_\(.*\)_[a-z0-9]*\.deb$/\1=\2/; s/%3a/:/')
(cd "$tmp/debs" && apt-get -qq download $packages >&2) || {
	echo "fetch-mosquitto: apt has not got these versions; run apt-get update, or set MOSQUITTO_DIR" >&2
	exit 1
}
(cd "$tmp/debs" && sha256sum --quiet --strict -c "$sums") >&2
for deb in "$tmp"/debs/*.deb; do
	dpkg -x "$deb" "$tmp/root"
done
# Another process may have won the race; its copy passed the same checks.
mv -T "$tmp/root" "$dest" 2>/dev/null || [ -d "$dest" ]
echo "$dest"
