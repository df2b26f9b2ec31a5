package schemas

import (
	"strings"
	"time"
)

const (
	// MaxDeadLetterRaw bounds the raw bytes that one dead letter carries. It
	// leaves room for base64 in a Kafka record of 1 MiB.
	MaxDeadLetterRaw = 700 << 10
	// MaxDeadLetterError bounds the text of its error, in bytes.
	MaxDeadLetterError = 2048

	// leastRaw is the amount of raw input that Shorten does not cut any further.
	leastRaw = 1024
)

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

// NewDeadLetter returns the dead letter of raw, which it refers to and does not
// copy, rejected now.
func NewDeadLetter(source, origin, reason string, cause error, raw []byte) *DeadLetter {
	text := "unknown"
	if cause != nil {
		text = cause.Error()
	}
	if len(text) > MaxDeadLetterError {
		text = strings.ToValidUTF8(text[:MaxDeadLetterError], "")
	}
	kept := raw[:min(len(raw), MaxDeadLetterRaw)]
	return &DeadLetter{
		Time: time.Now().UTC(), Source: source, Origin: origin, Reason: reason, Error: text,
		Raw: kept, RawSize: len(raw), Truncated: len(kept) < len(raw),
	}
}

// Shorten cuts Raw to a quarter, for a topic that accepts less than usual. It
// returns false when there is nothing left to cut.
func (d *DeadLetter) Shorten() bool {
	if len(d.Raw) <= leastRaw {
		return false
	}
	d.Raw, d.Truncated = d.Raw[:len(d.Raw)/4], true
	return true
}
