-- Counts for dashboards over months, where events itself would be slow or has
-- expired. They are sums, so a block counted twice would stay counted twice.
-- The sink prevents that: a retry repeats the block's deduplication token,
-- which ClickHouse passes on to this table (insert_deduplication_token,
-- deduplicate_blocks_in_dependent_materialized_views), and after a restart it
-- leaves out the records that events already has. What the sums do contain is
-- an event that a source delivered twice in different records; events_distinct
-- does not.
CREATE TABLE IF NOT EXISTS {database}.event_counts {on_cluster}
(
    minute DateTime('UTC') COMMENT 'Start of the minute, by event time' CODEC(Delta, ZSTD(1)),
    account LowCardinality(String) COMMENT 'AWS account ID',
    source LowCardinality(String) COMMENT 'As in events',
    event_type LowCardinality(String) COMMENT 'As in events',
    outcome LowCardinality(String) COMMENT 'As in events',
    events UInt64 COMMENT 'Events, to be summed: rows of one minute are merged in the background',
    late_events UInt64 COMMENT 'Those of them that were late',
    bytes UInt64 COMMENT 'Bytes of their messages'
)
ENGINE = {replicated}SummingMergeTree((events, late_events, bytes))
PARTITION BY toYYYYMM(greatest(minute, toDateTime('2020-01-01 00:00:00', 'UTC')))
ORDER BY (account, source, event_type, outcome, minute)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Events per minute; read events_per_minute';

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.event_counts_from_events {on_cluster} TO {database}.event_counts AS
SELECT
    toStartOfMinute(toDateTime(time, 'UTC')) AS minute, account, source, event_type, outcome,
    count() AS events, countIf(late) AS late_events, sum(length(message)) AS bytes
FROM {database}.events
GROUP BY minute, account, source, event_type, outcome
COMMENT 'Fills event_counts as events are stored';

CREATE VIEW IF NOT EXISTS {database}.events_per_minute {on_cluster} AS
SELECT minute, account, source, event_type, outcome, sum(event_counts.events) AS events, sum(event_counts.late_events) AS late_events, sum(event_counts.bytes) AS bytes
FROM {database}.event_counts
GROUP BY minute, account, source, event_type, outcome
COMMENT 'Events per minute by account, source, type and outcome';
