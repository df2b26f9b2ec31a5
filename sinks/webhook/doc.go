// Package webhook notifies an HTTP receiver of detections, after Standard
// Webhooks 1.0.0 (https://www.standardwebhooks.com).
//
// The body is {"type":"detection.created","timestamp":...,"data":...}, where
// data is the OCSF Detection Finding, with less evidence if it would not fit.
//
// # Once
//
// The webhook-id is made of the detection ID and what happened to it
// ("4f1c..._created", "4f1c..._updated_7", "4f1c..._closed"). It is the same in
// every attempt and after every replay: a receiver that remembers the IDs that
// it has handled, as the specification asks, handles each once. The sink itself
// sends an ID twice only when it is killed between a receiver's answer and the
// next commit, or when an answer is lost. What was sent before is known after a
// restart without a store of its own: everything in tocsin.detections before the
// committed offset has been dealt with, so the sink reads the last records before
// it and remembers their IDs; what was taken beyond it, behind a message that the
// receiver does not take, is in the commit's metadata. A correlator that replays
// writes the same detections again; their IDs are known, and they are not sent again.
//
// # Order
//
// Messages about one detection are sent one after the other; those about
// different ones at the same time, up to Options.Concurrency. One that the
// receiver does not take holds up those behind it that share its worker, until
// it is given up and goes to the dead letter topic.
package webhook
