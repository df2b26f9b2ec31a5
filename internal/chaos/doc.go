// Package chaos runs the whole pipeline, each part a process of its own on a real
// three-node Kafka, kills and freezes the parts at random, and then holds what
// came out against what went in.
//
// # What must be true
//
// A ledger has every event that was sent, and whether its request was answered
// with 200. A request that was not is sent again until it is, as Firehose does.
// When all faults are over, everything has been read and event time has passed
// the last window:
//
//   - ClickHouse has every event of the ledger once (events_distinct), and no other;
//   - its detections (detections_current), and those of the topic, are what an
//     oracle finds that evaluates the rules by brute force over the ledger: rule,
//     group, interval, count and contributing events;
//   - the webhook receiver was told of the beginning and the end of each, under
//     IDs that are the same in every repetition, and of nothing else;
//   - no process has panicked.
//
// The oracle shares no code with the correlator: rules.go has the rules twice, as
// Sigma and as Go.
//
// # What is done to it
//
// Everything is drawn from a seed: kill -9 of ingesters, correlators, sinks, the
// ClickHouse engine and brokers, each started again after a moment; SIGSTOP for
// 1 to 20 s; a receiver that answers 500 or 503, too late, or not at all though it
// took the message. One broker at a time: with two of three away Kafka refuses
// writes, as it is told to (min.insync.replicas 2), and nothing would be tested.
// The load and the choice of faults repeat with the seed; when they hit what
// depends on the machine.
package chaos
