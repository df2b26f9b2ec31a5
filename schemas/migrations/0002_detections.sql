-- One row per detection ID: of the records about one detection, the one with
-- the greatest revision stays. Small next to events, so neither partitioned nor
-- indexed beyond its key.
CREATE TABLE IF NOT EXISTS {database}.detections {on_cluster}
(
    detection_id String COMMENT 'finding_info.uid: equal for every revision, replay and delivery',
    revision UInt64 COMMENT 'Grows with every record about the same detection',
    activity LowCardinality(String) COMMENT 'What this revision reports: Create, Update or Close',
    status LowCardinality(String) COMMENT 'New, In Progress, Suppressed or Resolved',
    created_time DateTime64(3, 'UTC') COMMENT 'When the rule''s condition was first met',
    first_seen DateTime64(3, 'UTC') COMMENT 'Time of the first contributing event',
    last_seen DateTime64(3, 'UTC') COMMENT 'Time of the last contributing event',
    count UInt64 COMMENT 'Contributing events; evidence_ids names some of them',
    rule_id LowCardinality(String) COMMENT 'Sigma rule ID',
    rule_title LowCardinality(String) COMMENT 'Sigma rule title',
    rule_tags Array(LowCardinality(String)) COMMENT 'Sigma tags',
    correlation_type LowCardinality(String) COMMENT 'event_count, value_count, temporal, ...; empty for a rule about single events',
    level LowCardinality(String) COMMENT 'Sigma level: informational, low, medium, high or critical',
    severity LowCardinality(String) COMMENT 'OCSF severity',
    severity_id UInt8 COMMENT 'OCSF severity_id: 1 Informational to 5 Critical; ordered by urgency',
    title String COMMENT 'finding_info.title',
    message String COMMENT 'The alert in one sentence' CODEC(ZSTD(1)),
    account LowCardinality(String) COMMENT 'AWS account ID',
    region LowCardinality(String) COMMENT 'AWS region',
    device String COMMENT 'Device key, as in events',
    certificate_id String COMMENT 'AWS IoT certificate ID, as in events',
    source_ip String COMMENT 'Address of the device, where the rule is about one',
    group_key String COMMENT 'The group that the rule''s window belongs to, as one string',
    group_values Map(LowCardinality(String), String) COMMENT 'The same by the names of the rule''s group-by: group_values[''certificate_id'']',
    evidence_ids Array(UUID) COMMENT 'IDs of contributing events: events.id IN evidence_ids',
    evidence_complete Bool COMMENT 'evidence_ids names all contributing events',
    attack_tactics Array(LowCardinality(String)) COMMENT 'MITRE ATT&CK tactics, as TA0001',
    attack_techniques Array(LowCardinality(String)) COMMENT 'MITRE ATT&CK techniques, as T1078',
    merged_into String COMMENT 'Detection ID that took this one''s place, when late events joined two of them',
    finding String COMMENT 'The whole OCSF Detection Finding, as in tocsin.detections' CODEC(ZSTD(3)),
    kafka_partition UInt32 COMMENT 'Partition of tocsin.detections that it was read from',
    kafka_offset UInt64 COMMENT 'Offset that it was read from',

    INDEX device_bloom device TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX certificate_id_bloom certificate_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {replicated}ReplacingMergeTree(revision)
ORDER BY (rule_id, detection_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Detections; superseded revisions stay until ClickHouse merges their parts: read detections_current';

CREATE VIEW IF NOT EXISTS {database}.detections_current {on_cluster} AS
SELECT * FROM {database}.detections FINAL
COMMENT 'Every detection once, in its latest revision';
