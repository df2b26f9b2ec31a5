-- Every step of every automated response, as tocsin.actions has them: the audit
-- log. A time that is not known is 1970-01-01.
CREATE TABLE IF NOT EXISTS {database}.actions {on_cluster}
(
    time DateTime64(3, 'UTC') COMMENT 'Of this step',
    action_id String COMMENT 'Of the response: equal in all its steps',
    sink LowCardinality(String) COMMENT 'What acts: the name of an awsiot sink, or crl',
    kind LowCardinality(String) COMMENT 'disconnect, deactivate, revoke, quarantine, rotate; breaker for the breaker itself',
    state LowCardinality(String) COMMENT 'requested, planned, pending, approved, rejected, started, waiting, done, failed, refused, expired; opened or resumed for a breaker',
    dry_run Bool COMMENT 'Nothing was done',
    reason String COMMENT 'Why, for a person' CODEC(ZSTD(1)),
    code LowCardinality(String) COMMENT 'Why it was refused or failed, one of a small fixed set',
    rule LowCardinality(String) COMMENT 'Title of the rule',
    rule_id LowCardinality(String) COMMENT 'ID of the rule',
    detection_id String COMMENT 'Detection that asked for it',
    device String COMMENT 'Device key, as in events',
    client_id String COMMENT 'MQTT client ID',
    thing String COMMENT 'AWS IoT thing name',
    certificate_id String COMMENT 'AWS IoT certificate ID',
    new_certificate_id String COMMENT 'Of a rotation: the certificate that took its place',
    job_id String COMMENT 'Of a rotation: the AWS IoT job',
    requested DateTime64(3, 'UTC') COMMENT 'When the response was asked for',
    deadline DateTime64(3, 'UTC') COMMENT 'By when it must be approved, or the rotation be done',
    error String COMMENT 'What went wrong' CODEC(ZSTD(1)),
    approver String COMMENT 'Who approved, rejected or resumed',
    kafka_partition UInt32 COMMENT 'Partition of tocsin.actions that it was read from',
    kafka_offset UInt64 COMMENT 'Offset that it was read from',

    INDEX action_id_bloom action_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX device_bloom device TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX certificate_id_bloom certificate_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX detection_id_bloom detection_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {replicated}ReplacingMergeTree
ORDER BY (time, action_id, kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Steps of automated responses. A step read twice may be here twice until ClickHouse merges its parts: read actions_log';

CREATE VIEW IF NOT EXISTS {database}.actions_log {on_cluster} AS
SELECT * FROM {database}.actions FINAL
COMMENT 'Every step once: WHERE certificate_id = ''c'' ORDER BY time';

CREATE VIEW IF NOT EXISTS {database}.actions_current {on_cluster} AS
SELECT *
FROM {database}.actions_log
ORDER BY time DESC, kafka_offset DESC
LIMIT 1 BY action_id
COMMENT 'Every response once, in its latest state, newest first: WHERE state = ''pending''';

CREATE VIEW IF NOT EXISTS {database}.actions_by_rule {on_cluster} AS
SELECT
    if(rule = '', toString(sink), toString(rule)) AS because_of, kind, state, dry_run,
    count() AS actions, uniqExact(certificate_id) AS certificates, uniqExact(device) AS devices, max(time) AS last_time
FROM {database}.actions_current
WHERE kind != 'breaker'
GROUP BY because_of, kind, state, dry_run
ORDER BY actions DESC
COMMENT 'What automated responses were for, and how they ended';
