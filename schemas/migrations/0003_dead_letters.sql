CREATE TABLE IF NOT EXISTS {database}.dead_letters {on_cluster}
(
    time DateTime64(3, 'UTC') COMMENT 'When it was rejected',
    source LowCardinality(String) COMMENT 'What rejected it: firehose, kinesis, file, or sink:NAME',
    origin String COMMENT 'Where in the source it came from' CODEC(ZSTD(1)),
    reason LowCardinality(String) COMMENT 'Why, one of a small fixed set',
    error String COMMENT 'Why, for a person' CODEC(ZSTD(1)),
    raw String COMMENT 'The input, or its beginning' CODEC(ZSTD(3)),
    raw_size UInt64 COMMENT 'Bytes of the whole input',
    truncated Bool COMMENT 'raw is only the beginning',
    kafka_partition UInt32 COMMENT 'Partition of tocsin.deadletter that it was read from',
    kafka_offset UInt64 COMMENT 'Offset that it was read from'
)
ENGINE = {replicated}ReplacingMergeTree
ORDER BY (reason, source, time, kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Input that could not be decoded, with the reason';
