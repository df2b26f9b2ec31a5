-- The certificate records of tocsin.identities: of the records about one
-- certificate the newest stays, and none once it was deleted. A time that is not
-- known is 1970-01-01. A validity beyond 2105, as 9999-12-31, ends there.
CREATE TABLE IF NOT EXISTS {database}.certificates {on_cluster}
(
    certificate_id String COMMENT 'SHA-256 of the certificate''s DER form, 64 lower-case hex digits',
    serial String COMMENT 'Serial number, lower-case hex without leading zeros',
    issuer String COMMENT 'Name of the CA' CODEC(ZSTD(1)),
    issuer_key_id String COMMENT 'Key identifier of the CA, lower-case hex' CODEC(ZSTD(1)),
    ca_certificate_id String COMMENT 'AWS IoT''s ID of the CA' CODEC(ZSTD(1)),
    subject String COMMENT 'Name in the certificate' CODEC(ZSTD(1)),
    not_before DateTime64(3, 'UTC') COMMENT 'Beginning of the validity',
    not_after DateTime64(3, 'UTC') COMMENT 'End of the validity',
    key_type LowCardinality(String) COMMENT 'RSA, ECDSA, Ed25519 or DSA',
    key_bits UInt32 COMMENT 'Size of the modulus or the curve',
    key_sha256 String COMMENT 'SHA-256 of the public key: certificates with an equal one share the key',
    key_weakness String COMMENT 'Why the key is weak; empty if nothing is known against it',
    status LowCardinality(String) COMMENT 'State at the broker: ACTIVE, INACTIVE, REVOKED, PENDING_ACTIVATION, ..., UNKNOWN when it is not there (any more); empty when not known',
    status_reason String COMMENT 'Where the state is known from' CODEC(ZSTD(1)),
    status_since DateTime64(3, 'UTC') COMMENT 'Since when it has been known',
    revoked Bool COMMENT 'Revoked by its CA, which AWS IoT does not look at',
    revoked_time DateTime64(3, 'UTC') COMMENT 'When its CA revoked it',
    revocation_reason LowCardinality(String) COMMENT 'Why: keyCompromise, superseded, ...',
    revocation_source String COMMENT 'Revocation list or audit report that says so' CODEC(ZSTD(1)),
    claim Bool COMMENT 'A bootstrap certificate that many devices share by design',
    things Array(String) COMMENT 'Things that it is attached to, or was seen with' CODEC(ZSTD(1)),
    client_ids Array(String) COMMENT 'Client IDs that it was seen with, newest last' CODEC(ZSTD(1)),
    source_ip String COMMENT 'Address that it was last seen from' CODEC(ZSTD(1)),
    last_seen DateTime64(3, 'UTC') COMMENT 'Last event with it; kept to a quarter of an hour',
    created DateTime64(3, 'UTC') COMMENT 'Registered with the broker',
    updated DateTime64(3, 'UTC') COMMENT 'Time of this record',
    version UInt64 COMMENT 'Grows with every record about the same certificate',
    deleted UInt8 COMMENT '1: the registry has forgotten it',

    INDEX serial_bloom serial TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX things_bloom things TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX client_ids_bloom client_ids TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {replicated}ReplacingMergeTree(version, deleted)
ORDER BY certificate_id
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Device certificates; superseded records stay until ClickHouse merges their parts: read certificates_current';

CREATE VIEW IF NOT EXISTS {database}.certificates_current {on_cluster} AS
SELECT
    * EXCEPT (version, deleted),
    multiIf(
        status NOT IN ('', 'ACTIVE'), toString(status),
        revoked, 'REVOKED_BY_CA',
        toUnixTimestamp64Milli(not_after) != 0 AND not_after < now64(3), 'EXPIRED',
        toString(status)) AS effective_status,
    if(toUnixTimestamp64Milli(not_after) = 0, NULL, toInt32(floor((toUnixTimestamp64Milli(not_after) - toUnixTimestamp64Milli(now64(3))) / 86400000))) AS days_to_expiry
FROM {database}.certificates FINAL
COMMENT 'Every certificate once. effective_status is what events are stamped with: the broker''s state, else REVOKED_BY_CA, EXPIRED';

CREATE VIEW IF NOT EXISTS {database}.certificates_expiring {on_cluster} AS
SELECT days_to_expiry, not_after, certificate_id, serial, subject, issuer, things, client_ids, last_seen
FROM {database}.certificates_current
WHERE effective_status IN ('', 'ACTIVE') AND days_to_expiry IS NOT NULL
ORDER BY not_after
COMMENT 'Certificates in use by the end of their validity, the next to expire first: WHERE days_to_expiry <= 30';

CREATE VIEW IF NOT EXISTS {database}.certificates_revoked_active {on_cluster} AS
SELECT revoked_time, revocation_reason, revocation_source, certificate_id, serial, subject, issuer, things, client_ids, last_seen
FROM {database}.certificates_current
WHERE effective_status = 'REVOKED_BY_CA'
ORDER BY revoked_time
COMMENT 'Certificates that their CA has revoked and the broker still takes';

-- The state that an event was stamped with counts, not that of now: a certificate
-- that was revoked an hour ago was valid the day before.
CREATE VIEW IF NOT EXISTS {database}.invalid_certificates_seen {on_cluster} AS
SELECT
    e.certificate_id AS certificate_id, e.statuses AS statuses_seen, c.effective_status AS status_now,
    e.events AS events, e.successes AS successes, e.first_seen AS first_seen, e.last_seen AS last_seen,
    e.devices AS devices, e.source_ips AS source_ips,
    c.subject AS subject, c.issuer AS issuer, c.not_after AS not_after, c.revoked_time AS revoked_time, c.things AS things
FROM
(
    SELECT
        certificate_id, groupUniqArray(toString(certificate_status)) AS statuses,
        count() AS events, countIf(outcome = 'success') AS successes, min(time) AS first_seen, max(time) AS last_seen,
        groupUniqArray(20)(device) AS devices, groupUniqArray(20)(source_ip) AS source_ips
    FROM {database}.events_distinct
    WHERE time > now() - INTERVAL 1 DAY AND certificate_id != '' AND certificate_status NOT IN ('', 'ACTIVE')
        AND source IN ('iot', 'lifecycle')
    GROUP BY certificate_id
) AS e
LEFT JOIN {database}.certificates_current AS c ON c.certificate_id = e.certificate_id
ORDER BY successes DESC, last_seen DESC
COMMENT 'Certificates that were not valid and whose devices connected, or tried to, in the last day; those that succeeded first';
