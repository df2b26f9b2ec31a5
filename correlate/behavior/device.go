package behavior

import (
	"encoding/hex"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// none ends a chain of slots.
const none = ^uint32(0)

// maxAddresses is how many source addresses of a device are remembered.
const maxAddresses = 8

// device is what is kept of one. Times are Unix milliseconds, 0 for never.
type device struct {
	// What every event reads comes first, so that it is in few cache lines.
	key, client, ip string // client and thing share memory with key where they equal it

	lastSeen, touched int64 // sign of life, event of any kind
	up, down          int64
	silentSince       int64    // what lastSeen was when it was reported silent
	observedAt        int64    // by the clock: when its certificate's observation was looked at
	certID            [32]byte // zero for none
	slot              uint32   // first of its open intervals
	lane              uint32   // that it was heard by last
	cert              uint32   // where certID is, if it still is there
	origin            uint32   // account and region
	usualGap          float32  // seconds
	expiry            int32
	status            schemas.CertificateStatus
	hasExpiry         bool
	used              bool
	dirty             bool // differs from its record
	urgent            bool // its record is to be written before the next commit
	queued            bool // its record waits to be written

	thing     string
	firstSeen int64
	learned   int64  // end of the last interval in base
	intervals uint32 // that it was active in
	base      [numMetrics]baseline
	addresses [maxAddresses]uint32 // hashes; 0 for none, oldest first
}

// offline reports whether the last thing known of the device's connection is that
// it ended.
func (d *device) offline() bool { return d.down > d.up }

// heard notes a sign of life at t and returns false when the device was heard of
// later already: a repetition, or disorder.
func (d *device) heard(t int64, leastGap float32) bool {
	if t <= d.lastSeen {
		return false
	}
	if d.lastSeen > 0 {
		if gap := float32(t-d.lastSeen) / 1000; gap >= leastGap {
			// Quick to believe in long pauses and slow to forget them.
			weight := float32(0.1)
			if gap > d.usualGap {
				weight = 0.5
			}
			if d.usualGap == 0 {
				weight = 1
			}
			d.usualGap += weight * (gap - d.usualGap)
		}
	}
	d.lastSeen = t
	if d.firstSeen == 0 {
		d.firstSeen = t
	}
	return true
}

// remember makes the address the newest. It reports whether it was not known.
func (d *device) remember(address uint32) bool {
	at := slices.Index(d.addresses[:], address)
	if at == maxAddresses-1 {
		return false
	}
	copy(d.addresses[max(at, 0):], d.addresses[max(at, 0)+1:])
	d.addresses[maxAddresses-1] = address
	return at < 0
}

// hasAddress reports whether any address is known.
func (d *device) hasAddress() bool { return d.addresses[maxAddresses-1] != 0 }

func (w *worker) deviceRecord(d *device) *schemas.Device {
	o := w.origins.at(d.origin)
	r := &schemas.Device{
		Device: d.key, ClientID: d.client, ThingName: d.thing, Account: o.account, Region: o.region, SourceIP: d.ip,
		FirstSeen: timeOf(d.firstSeen), LastSeen: timeOf(d.lastSeen), Connected: timeOf(d.up), Disconnected: timeOf(d.down),
		SilentSince: timeOf(d.silentSince), UsualGapSeconds: float64(d.usualGap), Intervals: int(d.intervals), Learned: timeOf(d.learned),
	}
	if d.certID != ([32]byte{}) {
		r.CertificateID = hex.EncodeToString(d.certID[:])
	}
	for _, a := range d.addresses {
		if a != 0 {
			r.Addresses = append(r.Addresses, a)
		}
	}
	if d.learned != 0 {
		r.Baseline = make(map[string]schemas.Baseline, numMetrics)
		for m := range d.base {
			r.Baseline[metricNames[m]] = d.base[m].record()
		}
	}
	return r
}

// restoreDevice takes a record over.
func (w *worker) restoreDevice(r *schemas.Device) {
	n, _ := w.devices.add([]byte(r.Device))
	d := w.devices.at(n)
	*d = device{key: d.key, used: true, slot: none, cert: none, lane: none}
	if r.ClientID != "" {
		d.client = sameAs(d.key, []byte(r.ClientID))
	}
	if r.ThingName != "" {
		d.thing = sameAs(d.key, []byte(r.ThingName))
	}
	d.ip = r.SourceIP
	d.origin = w.origins.number([]byte(r.Account), []byte(r.Region))
	d.firstSeen, d.lastSeen, d.up, d.down = millisOf(r.FirstSeen), millisOf(r.LastSeen), millisOf(r.Connected), millisOf(r.Disconnected)
	d.silentSince, d.usualGap = millisOf(r.SilentSince), float32(r.UsualGapSeconds)
	if d.usualGap < 0 || d.usualGap != d.usualGap {
		d.usualGap = 0
	}
	d.intervals, d.learned = clampUint32(int64(r.Intervals)), millisOf(r.Learned)
	for m := range d.base {
		d.base[m] = restoreBaseline(r.Baseline[metricNames[m]])
	}
	for _, a := range r.Addresses {
		if a != 0 {
			d.remember(a)
		}
	}
	if hash, ok := certificateHash([]byte(r.CertificateID)); ok {
		d.certID = hash
	}
}

func timeOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func millisOf(t time.Time) int64 {
	if t.IsZero() || t.Unix() < 0 {
		return 0
	}
	return t.UnixMilli()
}

// sameAs returns b as a string, which is key if they are equal.
func sameAs(key string, b []byte) string {
	if key == string(b) {
		return key
	}
	return string(b)
}
