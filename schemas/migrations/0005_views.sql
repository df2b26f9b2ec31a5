-- What an operator asks first. Filters on the columns of a view reach the
-- tables below it, so WHERE time >= now() - INTERVAL 1 HOUR reads one hour.

CREATE VIEW IF NOT EXISTS {database}.device_timeline {on_cluster} AS
SELECT time, device, 'event' AS kind, source, event_type AS what, outcome, certificate_id, certificate_status, source_ip, message AS detail, toString(id) AS id
FROM {database}.events_distinct
UNION ALL
SELECT created_time AS time, device, 'detection' AS kind, level AS source, title AS what, status AS outcome, certificate_id, '' AS certificate_status, source_ip, message AS detail, detection_id AS id
FROM {database}.detections_current
COMMENT 'Everything about a device in one list: SELECT * FROM device_timeline WHERE device = ''d'' ORDER BY time';

CREATE VIEW IF NOT EXISTS {database}.detections_open {on_cluster} AS
SELECT created_time, last_seen, level, title, message, device, certificate_id, account, count, rule_id, detection_id, severity_id
FROM {database}.detections_current
WHERE status NOT IN ('Resolved', 'Suppressed') AND merged_into = ''
ORDER BY severity_id DESC, last_seen DESC
COMMENT 'What is wrong now, most urgent first';

CREATE VIEW IF NOT EXISTS {database}.detection_evidence {on_cluster} AS
SELECT
    detection_id, title,
    fromUnixTimestamp64Milli(JSONExtractInt(data, 'time'), 'UTC') AS time,
    JSONExtractString(data, 'rule') AS rule,
    JSONExtractString(data, 'source') AS source,
    JSONExtractString(data, 'event_type') AS event_type,
    JSONExtractString(data, 'outcome') AS outcome,
    JSONExtractString(data, 'device') AS device,
    JSONExtractString(data, 'client_id') AS client_id,
    JSONExtractString(data, 'certificate_id') AS certificate_id,
    JSONExtractString(data, 'source_ip') AS source_ip,
    JSONExtractString(data, 'event_id') AS event_id
FROM
(
    SELECT detection_id, title, JSONExtractRaw(arrayJoin(JSONExtractArrayRaw(finding, 'evidences')), 'data') AS data
    FROM {database}.detections_current
)
COMMENT 'The events that a detection names, as they were when it was made; their messages are in events_distinct WHERE id = event_id';

CREATE VIEW IF NOT EXISTS {database}.certificate_activity {on_cluster} AS
SELECT
    toDate(time) AS day, certificate_id,
    min(time) AS first_seen, max(time) AS last_seen,
    count() AS events, countIf(outcome = 'failure') AS failures,
    uniqExact(client_id) AS client_ids, uniqExact(source_ip) AS source_ips,
    groupUniqArray(20)(client_id) AS some_client_ids, groupUniqArray(20)(source_ip) AS some_source_ips,
    argMax(certificate_status, time) AS certificate_status
FROM {database}.events_distinct
WHERE certificate_id != ''
GROUP BY day, certificate_id
COMMENT 'What each certificate did, by day: WHERE client_ids > 1 finds certificates that are shared';

CREATE VIEW IF NOT EXISTS {database}.noisy_devices {on_cluster} AS
SELECT
    toStartOfHour(toDateTime(time, 'UTC')) AS hour, account, device,
    count() AS events, countIf(outcome = 'failure') AS failures,
    uniqExact(event_type) AS event_types, sum(length(message)) AS bytes
FROM {database}.events_distinct
GROUP BY hour, account, device
COMMENT 'Events per device and hour: ORDER BY events DESC or failures DESC';

CREATE VIEW IF NOT EXISTS {database}.failing_addresses {on_cluster} AS
SELECT
    toStartOfHour(toDateTime(time, 'UTC')) AS hour, source_ip,
    count() AS failures, uniqExact(client_id) AS client_ids, uniqExact(certificate_id) AS certificates,
    groupUniqArray(20)(event_type) AS event_types, min(time) AS first_seen, max(time) AS last_seen
FROM {database}.events_distinct
WHERE outcome = 'failure' AND source_ip != ''
GROUP BY hour, source_ip
COMMENT 'Addresses whose requests fail, by hour: ORDER BY client_ids DESC finds scans';

CREATE VIEW IF NOT EXISTS {database}.ingest_delay {on_cluster} AS
SELECT
    toStartOfMinute(toDateTime(ingest_time, 'UTC')) AS minute, source,
    count() AS events,
    quantile(0.5)(dateDiff('millisecond', time, ingest_time)) / 1000 AS p50_seconds,
    quantile(0.99)(dateDiff('millisecond', time, ingest_time)) / 1000 AS p99_seconds,
    countIf(late) AS late_events
FROM {database}.events
GROUP BY minute, source
COMMENT 'How far behind the devices'' clocks the logs arrive, by source';

CREATE VIEW IF NOT EXISTS {database}.dead_letters_by_reason {on_cluster} AS
SELECT reason, source, count() AS inputs, sum(raw_size) AS bytes, min(time) AS first_seen, max(time) AS last_seen, any(error) AS an_error
FROM {database}.dead_letters FINAL
GROUP BY reason, source
COMMENT 'What was rejected and why';
