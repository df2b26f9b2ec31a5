-- One row per event of tocsin.events.
--
-- Sorted for the questions people ask: one account, one kind of event, one
-- device, over time. id comes last so that a redelivered event replaces its
-- first copy. Everything before id is derived from the record alone, and so is
-- equal in every copy.
--
-- Partitioned by the day of the event, and by nothing that is not in the sorting
-- key: only then does a query with FINAL and a time range leave out the other
-- days. The sink never sends more days in one block than ClickHouse takes by
-- default (max_partitions_per_insert_block).
--
-- How long rows are kept is configuration, not schema: see sinks/clickhouse.
CREATE TABLE IF NOT EXISTS {database}.events {on_cluster}
(
    time DateTime64(3, 'UTC') COMMENT 'When it happened, by the log''s own clock' CODEC(Delta, ZSTD(1)),
    ingest_time DateTime64(3, 'UTC') COMMENT 'When Tocsin received it' CODEC(Delta, ZSTD(1)),
    id UUID COMMENT 'Event ID: equal for every delivery of the same log record. Compares with the 32 hex digits of an alert''s event_id' CODEC(NONE),
    source LowCardinality(String) COMMENT 'iot, lifecycle, cloudtrail, guardduty, devicedefender or generic',
    event_type LowCardinality(String) COMMENT 'The source''s own name of what happened: Connect, Publish-In, UpdateCertificate, ...',
    account LowCardinality(String) COMMENT 'AWS account ID',
    region LowCardinality(String) COMMENT 'AWS region',
    device String COMMENT 'Device key: client ID, else thing name, else the device the certificate is bound to, else cert:ID, ip:ADDRESS, account:ID or unknown' CODEC(ZSTD(1)),
    client_id String COMMENT 'MQTT client ID' CODEC(ZSTD(1)),
    thing_name String COMMENT 'AWS IoT thing name' CODEC(ZSTD(1)),
    certificate_id String COMMENT 'AWS IoT certificate ID, 64 lower-case hex digits' CODEC(ZSTD(1)),
    source_ip String COMMENT 'Address as the log has it; isIPAddressInRange(source_ip, ''10.0.0.0/8'') finds networks' CODEC(ZSTD(1)),
    role_session String COMMENT 'Session name of an assumed role' CODEC(ZSTD(1)),
    outcome LowCardinality(String) COMMENT 'success, failure, or empty when the log does not say',
    certificate_status LowCardinality(String) COMMENT 'State of the certificate when the event was ingested: ACTIVE, INACTIVE, REVOKED, EXPIRED, ..., UNKNOWN; empty without a certificate',
    certificate_days_to_expiry Nullable(Int32) COMMENT 'Days until the certificate expires, negative once it has; NULL when unknown' CODEC(ZSTD(1)),
    late Bool COMMENT 'Older than the allowed lateness when it was ingested: rules over windows did not see it',
    message String COMMENT 'The original log record, unchanged; JSONExtractString(message, ''clientId'') reads a field' CODEC(ZSTD(1)),
    kafka_partition UInt32 COMMENT 'Partition of tocsin.events that it was read from' CODEC(ZSTD(1)),
    kafka_offset UInt64 COMMENT 'Offset of the record that it was read from; one record holds many events' CODEC(Delta, ZSTD(1)),

    INDEX certificate_id_bloom certificate_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX client_id_bloom client_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX source_ip_bloom source_ip TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX id_bloom id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1
)
ENGINE = {replicated}ReplacingMergeTree
PARTITION BY toDate(time)
ORDER BY (account, event_type, device, time, id)
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000
COMMENT 'Every event that Tocsin ingested. An event delivered twice may be here twice until ClickHouse merges its parts: read events_distinct where that matters';

-- FINAL, so that nobody has to know it.
CREATE VIEW IF NOT EXISTS {database}.events_distinct {on_cluster} AS
SELECT * FROM {database}.events FINAL
COMMENT 'Every event exactly once, however often it was delivered. Give it a time range';
