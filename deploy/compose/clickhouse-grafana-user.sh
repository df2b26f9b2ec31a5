#!/bin/bash
# Grafana reads and cannot do anything else.
set -eu
clickhouse-client --user "$CLICKHOUSE_USER" --password "$CLICKHOUSE_PASSWORD" --multiquery <<SQL
CREATE DATABASE IF NOT EXISTS tocsin;
CREATE USER IF NOT EXISTS grafana IDENTIFIED BY '${GRAFANA_PASSWORD//\'/\\\'}' SETTINGS readonly = 2, max_execution_time = 60;
GRANT SELECT ON tocsin.* TO grafana;
SQL
