package schemas

import "time"

// DerivedLane begins the names of the lanes by which events come that follow from
// other events: those of SourceBehavior and SourceRegistry. Their times are those
// of what they follow from, so they say nothing of how far event time has come.
const DerivedLane = "derived/"

// KeyFleet + partition of tocsin.events: FleetShare, by the worker of that
// partition. All are in one partition of tocsin.identities, that of the key
// "fleet".
const KeyFleet = "fleet/"

// The event types of SourceBehavior.
const (
	TypeDatapoint      = "Datapoint"      // what a device did in an interval
	TypeDeviceSilent   = "DeviceSilent"   // no event of a device for an unusual time
	TypeDeviceReturned = "DeviceReturned" // an event of a device that was silent
	TypeSourceSilent   = "SourceSilent"   // no event by a lane for an unusual time
	// TypeDeviceMetrics is of SourceDeviceDefender: what a device measured itself.
	TypeDeviceMetrics = "DeviceMetrics"
)

// Device is what the events of a device have shown so far.
type Device struct {
	Device        string    `json:"device"` // device key
	ClientID      string    `json:"client_id,omitempty"`
	ThingName     string    `json:"thing_name,omitempty"`
	CertificateID string    `json:"certificate_id,omitempty"`
	Account       string    `json:"account,omitempty"`
	Region        string    `json:"region,omitempty"`
	SourceIP      string    `json:"source_ip,omitempty"` // last seen
	FirstSeen     time.Time `json:"first_seen"`
	LastSeen      time.Time `json:"last_seen"`
	// Connected and Disconnected are the last times of each; the device is offline
	// when the second is the later one.
	Connected       time.Time `json:"connected,omitzero"`
	Disconnected    time.Time `json:"disconnected,omitzero"`
	SilentSince     time.Time `json:"silent_since,omitzero"` // zero: it is not silent
	UsualGapSeconds float64   `json:"usual_gap_seconds,omitempty"`
	// Intervals is how many the device was active in, Learned the end of the last
	// one that Baseline holds.
	Intervals int                 `json:"intervals,omitempty"`
	Learned   time.Time           `json:"learned,omitzero"`
	Baseline  map[string]Baseline `json:"baseline,omitempty"`
	// Addresses are hashes of the source addresses used last, oldest first.
	Addresses []uint32 `json:"addresses,omitempty"`
}

// Baseline is the usual value of a metric of a device: mean and mean deviation of
// log(1+value), the newest counting most.
type Baseline struct {
	Mean      float64 `json:"mean"`
	Deviation float64 `json:"deviation"`
}

// FleetShare is what the devices of one partition of tocsin.events did in the last
// interval that is complete, and how far its worker has come.
type FleetShare struct {
	Partition  int       `json:"partition"`
	Closed     time.Time `json:"closed"`       // end of the last complete interval
	Next       int64     `json:"next"`         // offset that had been read to then
	CaughtUpAt time.Time `json:"caught_up_at"` // when there was last nothing left to read
	Interval   int       `json:"interval_seconds"`
	Start      time.Time `json:"interval_start,omitzero"` // of the last interval with active devices
	Devices    int64     `json:"devices"`                 // active in it
	// Metrics are histograms: pairs of bucket number and number of devices.
	Metrics map[string][][2]uint32 `json:"metrics,omitempty"`
	Lanes   map[string]LaneShare   `json:"lanes,omitempty"`
}

// LaneShare is what a partition has seen of a lane.
type LaneShare struct {
	Last            time.Time `json:"last"`   // largest ingest time
	Newest          time.Time `json:"newest"` // largest event time
	UsualGapSeconds float64   `json:"usual_gap_seconds,omitempty"`
	Seen            int64     `json:"seen"` // batches
}
