package schemas

import "time"

// MaxDeadLetterRaw bounds the raw bytes that one dead letter carries. It
// leaves room for base64 in a Kafka record of 1 MiB.
const MaxDeadLetterRaw = 700 << 10

// DeadLetter is the value of a tocsin.deadletter record: input that could not
// be decoded, with enough to find out why and to send it in again.
type DeadLetter struct {
	Time      time.Time `json:"time"`      // when it was rejected
	Source    string    `json:"source"`    // "firehose", "kinesis", "file"
	Origin    string    `json:"origin"`    // where in the source: "fleet/shardId-000000000003@4965..."
	Reason    string    `json:"reason"`    // one of a small fixed set; the metric label
	Error     string    `json:"error"`     // for a person
	Raw       []byte    `json:"raw"`       // base64 in JSON; at most MaxDeadLetterRaw
	RawSize   int       `json:"raw_size"`  // bytes before truncation
	Truncated bool      `json:"truncated"` // Raw is only the beginning
}
