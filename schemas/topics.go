package schemas

import "github.com/cespare/xxhash/v2"

// The Kafka topics. Between two stages there is nothing but these.
const (
	TopicEvents     = "tocsin.events"     // EventBatch; the log of record
	TopicMatches    = "tocsin.matches"    // MatchBatch; re-keyed for windows grouped by something else than the device
	TopicDetections = "tocsin.detections" // OCSF Detection Finding JSON
	TopicIdentities = "tocsin.identities" // JSON, compacted; certificates and what they are bound to
	TopicState      = "tocsin.state"      // snapshot chunks, compacted
	TopicActions    = "tocsin.actions"    // JSON; audit log of automated responses
	TopicDeadLetter = "tocsin.deadletter" // DeadLetter JSON; what could not be decoded
)

// Partition returns the partition, of n, that key belongs to. Every producer
// of a partitioned topic must use it: state lives where a key's records go.
func Partition(key []byte, n int) int {
	return int(xxhash.Sum64(key) % uint64(n))
}
