// Package behavior is what devices do over time: it turns the events of
// tocsin.events into derived events (source "behavior"), which go back into
// tocsin.events for rules to match, and into records of tocsin.identities.
//
// # Datapoints
//
// Time is cut into intervals, 5 minutes by default, aligned to the Unix epoch. For
// every interval in which a device did something there is one Datapoint event, with
// the cloud-side metrics of AWS IoT Device Defender Detect: messages sent and
// received, authorization failures, connection attempts, disconnects, the time since
// it went offline, source addresses. It is made when the watermark (package
// watermark) passes the end of the interval; what comes later is counted and left
// out. Its time is the end of the interval, its ID a hash of device and interval: made
// again after a crash it is the same event. Devices that are offline
// have a datapoint without having done anything, for a day and up to a bound.
//
// Where both the IoT Core log and lifecycle events report connections, the larger
// count of the two is taken and not the sum.
//
// # The fleet
//
// Every datapoint says which share of the fleet has lower values than the device (its
// percentile): over the devices that were active in the last interval that was
// complete before. Each partition publishes its histograms to tocsin.identities, under
// "fleet/"; values are told apart to an eighth.
//
// # Baseline
//
// Every device has a usual value of each metric: the exponentially weighted mean and
// mean absolute deviation of log(1+value) over the intervals that it was active in. The
// score is how many deviations a value is away. There is none before the learning
// period, 7 days by default. What is unusual moves the baseline no more than a value
// three deviations away would, so that an attacker who wants to be usual must be slow.
//
// # Silence
//
// A device is silent when it has not been heard for several times its usual pause.
// Pauses shorter than a fifth of an interval are none. It is judged by event time, and
// only if the lane that it was heard by has gone on without it: a source that stops
// does not make its devices silent. A source (lane) is silent when, by the clock of
// ingest, nothing came by it for several times its usual pause, while every partition
// has been read to its end all the time: a backlog and a restart are not silence.
//
// # Recovery
//
// Offsets are committed up to the first event of the oldest interval that is not
// complete, so that a crash counts it again from its beginning. Before that all that was
// derived is acknowledged, and the end of the last complete interval is in
// tocsin.identities: the next owner does not complete it a second time from a part of
// its events. Baselines are in tocsin.identities, too, written about once an hour for
// each device; a crash loses what was learned since, an orderly stop little.
//
// # Bounds
//
// Devices, certificates, open intervals, lanes and records written per second are
// bounded for each partition. When devices or certificates are too many, those idle
// longest go first. All of that is counted.
package behavior
