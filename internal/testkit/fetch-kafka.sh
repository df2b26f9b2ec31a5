#!/bin/sh
# Fetches Apache Kafka and its runtime dependencies from the Maven repository into the cache folder and verifies every jar
# against kafka-jars.sha256. Safe to run twice and at the same time: the folder appears in one rename when it is whole.
# Needs: mvn and a JDK (17 or newer). Prints the folder that holds the jars.
set -eu
KAFKA_VERSION=4.3.0
SCALA_VERSION=2.13
LOG4J_VERSION=2.25.4 # kafka_2.13 ships no slf4j binding; without one the broker logs nothing

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
cache=${TOCSIN_CACHE:-$HOME/.cache/tocsin}
dest=$cache/kafka/$KAFKA_VERSION
sums=$here/kafka-jars.sha256

if [ -d "$dest" ]; then
	(cd "$dest" && sha256sum --quiet --strict -c "$sums") >&2 && { echo "$dest"; exit 0; }
	echo "fetch-kafka: $dest does not match kafka-jars.sha256; fetching it again" >&2
	rm -rf "$dest"
fi

command -v mvn >/dev/null || { echo "fetch-kafka: mvn not found; install Maven, or set TOCSIN_KAFKA_BROKERS to a running broker" >&2; exit 1; }
mkdir -p "$cache/kafka"
tmp=$(mktemp -d "$cache/kafka/.fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT INT TERM

cat >"$tmp/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>io.tocsin</groupId><artifactId>testkit-kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_$SCALA_VERSION</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>$LOG4J_VERSION</version></dependency>
  </dependencies>
</project>
POM
echo "fetch-kafka: fetching Apache Kafka $KAFKA_VERSION (about 45 MB, once)" >&2
mvn -q -B -f "$tmp/pom.xml" dependency:copy-dependencies -DoutputDirectory="$tmp/lib" -DincludeScope=runtime >&2

if [ "${1:-}" = --update-checksums ]; then
	(cd "$tmp/lib" && sha256sum -- *.jar) >"$sums"
fi
(cd "$tmp/lib" && sha256sum --quiet --strict -c "$sums") >&2
extra=$(cd "$tmp/lib" && ls | grep -vxF "$(awk '{print $2}' "$sums")" || true)
[ -z "$extra" ] || { echo "fetch-kafka: jars without a pinned checksum: $extra" >&2; exit 1; }
# Another process may have won the race; its copy passed the same checks.
mv -T "$tmp/lib" "$dest" 2>/dev/null || [ -d "$dest" ]
echo "$dest"
