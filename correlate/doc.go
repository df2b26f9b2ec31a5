// Package correlate is the second stage: it matches events against the rules
// and keeps the windows of their correlations. This comment is the contract of
// what a detection means; every point has a test.
//
// # Time
//
// Event time is the log's own timestamp; arrival time is used for nothing but
// metrics. Every partition has a watermark (package watermark). State is kept
// for the timespan and the allowed lateness, 10 minutes by default. An event
// older than the watermark by more than the lateness is stored, matched by
// single-event rules and counted, and takes no part in windows.
//
// # Sets, not sequences
//
// For every permutation of the same events whose disorder stays within the
// allowed lateness, the same final detections result: same rule, group,
// interval, count and contributing events. An event delivered twice (same event
// ID) changes nothing. An event that matches two rules of one event_count or
// value correlation counts once.
//
// A window is an interval of length timespan, both ends included. The windows
// that are looked at are those that begin with an event of the group,
// [t, t+timespan]; a longer look back would find no other count, number of
// distinct values or set of rules. There are no fixed boundaries.
//
//   - event_count compares the number of events in the window.
//   - value_count compares the number of distinct tuples of the condition's
//     fields. Events where one is missing do not count.
//   - value_sum adds the numbers of the window. An event with a negative one takes
//     no part: a sum that could shrink again could not be reported at once.
//   - value_avg, value_percentile and value_median (the 50th percentile) are
//     over the numbers of the window; an event whose value is no finite number
//     takes no part in any value_ type but value_count. Percentiles are by nearest rank: of n
//     sorted values the one at ceil(p/100*n), counted from 1.
//   - temporal asks that every referenced rule, or its boolean condition, has an
//     event in the window; one event may stand for several rules.
//   - temporal_ordered asks for e1 <= e2 <= ... <= ek by event time, one for each
//     rule in order, ek - e1 <= timespan; ties are in the order of the rules,
//     and one event serves one step only.
//
// Conditions that more events can only make truer hold at once: gt and gte of
// event_count, value_count and value_sum, temporal without not, and
// temporal_ordered. All others (lt, lte, eq, neq and ranges; value_avg,
// value_percentile and value_median; temporal with not) are decided for a
// window when the watermark has passed its end, never earlier, and taken back
// if a late event then shows them wrong. With not, windows begin only with an
// event of a rule that appears outside of not.
//
// # Groups
//
// The group is the tuple of group-by values after aliases, compared as
// case-sensitive strings: 1 and "1" are equal. An event that lacks one takes no
// part and is counted. An array puts the event into one group for each element,
// up to a bound. Without group-by there is one group for the whole fleet.
//
// A correlation that others refer to is an event for them: its time is that of
// the last event of the satisfied window that was found first, its ID is the
// detection's. The watermark of the correlation that refers to it waits for such
// results, so they are not late. They are not taken back: an episode that late
// events make a part of another, or show to be wrong, was an event nevertheless.
//
// # Episodes
//
// Contributing events are those that lie in at least one satisfied window; for
// temporal_ordered, those that are part of at least one chain. An episode is a
// maximal run of contributing events of a group with gaps of at most the
// timespan. It opens when its first satisfied window is known, is updated at
// most once a minute of event time while it grows, and closes when the watermark
// has passed its last event by more than the timespan; a late event may still
// extend it after that. Late events may join two episodes: the one that began
// first stays, the other ends as merged into it.
//
// tocsin.suppress keeps a group quiet: an episode that begins no later than
// timespan and that duration after the last event of the one reported before is
// not reported. With tocsin.realert: each, satisfied windows (for temporal_ordered,
// chains) that do not overlap in time are reported apart, however close they are.
//
// A detection names its evidence: up to tocsin.evidence contributing events
// (default 20), the first ones and the last ones, and the total. Of groups with
// many events behind the shuffle it reads what it says of these from
// tocsin.events; when that no longer has them, or nobody answers for 5 s, it
// names them by ID and time alone. Its ID is a hash
// of rule, group and the event that opened it: same log, same rules, same IDs.
// Where windows are behind the shuffle, the log is that of tocsin.matches: made
// anew from tocsin.events, events of different partitions may come together in
// another order, and another one of them may be the opener. Of the records about
// a detection the one with the greatest revision is its newest state, whatever
// crashed and was done again.
//
// # State
//
// Of what a partition read, everything before its last snapshot is safe: first
// the outputs are acknowledged, then the snapshot is written, then the offset is
// committed. What comes after is read again by whoever owns the partition next.
// Another partition of tocsin.matches is told a watermark only when all that
// precedes it there is acknowledged: what Kafka refused for good, and took after
// a restart, is in time. An event delivered again within the lateness gives no
// second detection record, neither by its windows nor by itself; after a crash
// the same records may be sent again, under the same IDs.
//
// Snapshots are in tocsin.state, in a directory or in S3, the last three of a
// partition. One place does not know of another: after a change of it windows
// start empty at the committed offset.
//
// # Bounds
//
// Memory is bounded for each partition, in groups and in events. When a bound
// is reached the group idle longest goes first; that is counted. A group or a
// condition's value of more than 4 KiB takes no part, which is counted too.
package correlate
