package behavior

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

const counts = "num_messages_sent num_messages_received num_authorization_failures num_connection_attempts num_disconnects disconnect_duration_seconds num_source_ips"

// What every event type means for the metrics of Device Defender Detect.
func TestDatapointCounts(t *testing.T) {
	unauthorized := failing(`{"reason":"AUTHORIZATION_FAILURE"}`)
	for _, test := range []struct {
		name   string
		events []*event
		want   string // sent, received, failures, attempts, disconnects, duration, addresses
	}{
		{"messages", []*event{at(1, "p", "Publish-In"), at(2, "p", "Publish-In"), at(3, "p", "Publish-Out")}, "2 1 0 0 0 0 1"},
		{"refused messages", []*event{at(1, "p", "Publish-In", unauthorized), at(2, "p", "Subscribe", unauthorized), at(3, "p", "Publish-Out", failing(`{}`))}, "0 0 2 0 0 0 0"},
		{"a failure of another kind", []*event{at(1, "p", "Ping"), at(2, "p", "Publish-In", failing(`{"reason":"THROTTLED"}`))}, "0 0 0 0 0 0 1"},
		{"connections", []*event{at(1, "p", "Connect"), at(2, "p", "Connect", unauthorized), at(3, "p", "Connection.AuthNError", failing(`{"reason":"DEVICE_CERTIFICATE_REVOKED"}`))}, "0 0 1 3 0 0 1"},
		{"offline", []*event{at(1, "p", "Connect"), at(100, "p", "Disconnect", saying(`{"disconnectReason":"CONNECTION_LOST"}`))}, "0 0 0 1 1 200 1"},
		{"back", []*event{at(1, "p", "Connect"), at(100, "p", "Disconnect"), at(110, "p", "Connect")}, "0 0 0 2 1 0 1"},
		{"thrown out by itself, reported late", []*event{at(1, "p", "Connect"), at(50, "p", "Connect"), at(50.1, "p", "Disconnect", saying(`{"reason":"DUPLICATE_CLIENT_ID"}`))}, "0 0 0 2 1 0 1"},
		{"out of order", []*event{at(110, "p", "Connect"), at(100, "p", "Disconnect")}, "0 0 0 1 1 0 1"},
		{"both sources", []*event{
			at(1, "p", "Connect"), at(1, "p", "connected", source("lifecycle")), at(9, "p", "Disconnect"), at(9, "p", "disconnected", source("lifecycle")),
			at(20, "p", "connected", source("lifecycle")), at(30, "p", "connect_failed", source("lifecycle"), failing(`{}`)),
		}, "0 0 1 3 1 0 1"},
		{"addresses", []*event{at(1, "p", "Connect"), at(2, "p", "Publish-In", from("2001:db8::1")), at(3, "p", "Publish-In", from("203.0.113.9")), at(4, "p", "Publish-In")}, "3 0 0 1 0 0 3"},
		{"what others do to it", []*event{at(1, "p", "Ping"), at(2, "p", "DeleteConnection"), at(3, "p", "RuleExecution"), at(4, "p", "Queued"), at(5, "p", "Datapoint", source("behavior"))}, "0 0 0 0 0 0 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.feed(test.events...)
			r.feed(at(330, "q", "Ping"))
			points := r.derived(schemas.TypeDatapoint)
			if len(points) != 1 {
				t.Fatalf("%d datapoints", len(points))
			}
			var got string
			for _, name := range metricNames {
				got += fmt.Sprint(points[0][name], " ")
			}
			expect(t, "metrics", got, test.want+" ")
			expect(t, "the rest", only(points[0], "device client_id interval_start interval_seconds time learning"), "device=p client_id=p interval_start=2026-11-20T10:00:00Z interval_seconds=300 time=300 learning=true")
			ev := r.sent.events[0]
			if string(ev.Device) != "p" || string(ev.CertificateID) != testCertificate && test.name != "refused messages" || r.sent.lanes[0] != "derived/behavior/0" {
				t.Errorf("the envelope is %+v by %s", ev, r.sent.lanes[0])
			}
		})
	}
}

// An interval is made when the watermark passes its end, whatever order its events and
// those of the next come in; what comes later is left out and counted.
func TestIntervalsCloseByTheWatermark(t *testing.T) {
	r := newRig(t, nil)
	r.feed(at(10, "p", "Publish-In"), at(305, "p", "Publish-In"), at(299.9, "p", "Publish-In"), at(329, "p", "Publish-In"))
	if n := len(r.derived(schemas.TypeDatapoint)); n != 0 {
		t.Fatalf("%d datapoints before the end is certain", n)
	}
	r.feed(at(330, "p", "Publish-In"))
	points := r.derived(schemas.TypeDatapoint)
	if len(points) != 1 || points[0]["num_messages_sent"] != 2.0 {
		t.Fatalf("got %v", points)
	}
	r.feed(at(250, "p", "Publish-In")) // too late
	r.feed(at(631, "p", "Publish-In"))
	points = r.derived(schemas.TypeDatapoint)
	if len(points) != 2 || points[1]["num_messages_sent"] != 3.0 {
		t.Fatalf("got %v", points)
	}
	// A slower lane holds the end back.
	r.feed(at(620, "q", "Publish-In", by("kinesis/0")), at(1300, "p", "Publish-In"), at(700, "q", "Publish-In", by("kinesis/0")))
	if n := len(r.derived(schemas.TypeDatapoint)); n != 2 {
		t.Fatalf("%d datapoints, although a lane has not come that far", n)
	}
	r.feed(at(1300, "q", "Publish-In", by("kinesis/0")))
	got := ""
	for _, p := range r.derived(schemas.TypeDatapoint)[2:] {
		got += fmt.Sprintf("%v@%v:%v ", p["device"], p["time"], p["num_messages_sent"])
	}
	expect(t, "datapoints", got, "p@900:1 q@900:2 ")
}

// Devices that are offline have datapoints without doing anything, for a day.
func TestOfflineDatapoints(t *testing.T) {
	r := newRig(t, nil)
	r.feed(at(1, "p", "Connect"), at(60, "p", "Disconnect"))
	hours := 26
	for i := range hours * 12 {
		r.feed(at(float64(300*i+40), "clock", "Ping"), at(float64(300*i+331), "clock", "Ping"))
	}
	var durations []float64
	for _, p := range r.derived(schemas.TypeDatapoint) {
		if p["device"] == "p" {
			durations = append(durations, p["disconnect_duration_seconds"].(float64))
		}
	}
	if len(durations) != 288 || durations[0] != 240 || durations[1] != 540 || durations[287] != 240+287*300 {
		t.Errorf("%d datapoints: %v ...", len(durations), durations[:min(3, len(durations))])
	}
}

func TestPercentiles(t *testing.T) {
	r := newRig(t, func(o *Options) { o.LeastFleet = 100 })
	for i := range 100 {
		for k := range i + 1 {
			r.feed(at(float64(k), fmt.Sprintf("d%02d", i), "Publish-In"))
		}
	}
	// In the first interval nothing is known of the fleet; in the next three devices do
	// the same as the least, the middle and the most.
	for k := range 100 {
		if k < 1 {
			r.feed(at(331, "least", "Publish-In"))
		}
		if k < 8 {
			r.feed(at(332, "eighth", "Publish-In"))
		}
		r.feed(at(333, "most", "Publish-In"))
	}
	for range 1000 {
		r.feed(at(334, "beyond", "Publish-In"))
	}
	r.feed(at(640, "d00", "Ping"))
	got := map[string]string{}
	for _, p := range r.derived(schemas.TypeDatapoint) {
		if p["time"] == 300.0 && p["num_messages_sent_percentile"] != nil {
			t.Fatalf("the first interval is compared with %v", p["num_messages_sent_percentile"])
		}
		if p["time"] == 600.0 {
			got[p["device"].(string)] = fmt.Sprint(p["num_messages_sent_percentile"])
		}
	}
	// 96 to 103 have one bucket; half of the five devices in it are below.
	expect(t, "percentiles", fmt.Sprint(got), "map[beyond:100 eighth:7.5 least:0.5 most:97.5]")
}

func TestHistogramBuckets(t *testing.T) {
	last := -1
	for _, v := range []uint32{0, 1, 15, 16, 17, 18, 20, 31, 32, 63, 64, 1000, 1 << 20, math.MaxUint32} {
		b := bucketOf(v)
		if b < last || b >= numBuckets {
			t.Errorf("%d is in bucket %d after %d", v, b, last)
		}
		last = b
	}
	if bucketOf(math.MaxUint32) != numBuckets-1 {
		t.Errorf("the largest value is in bucket %d of %d", bucketOf(math.MaxUint32), numBuckets)
	}
	// No two values of a bucket differ by more than an eighth.
	for v := uint32(16); v < 1<<20; v += 7 {
		if w := v + v/8 + 1; bucketOf(v) == bucketOf(w) {
			t.Fatalf("%d and %d share a bucket", v, w)
		}
	}
}

// A device that always does about the same has a small score when it goes on, a large
// one when it does not, and cannot be taught the new value at once.
func TestBaseline(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Learning = 4 * time.Hour })
	interval := 0
	publish := func(n int) map[string]any {
		start := float64(300 * interval)
		for k := range n {
			r.feed(at(start+40+float64(k)/10, "p", "Publish-In"))
		}
		interval++
		r.feed(at(start+331, "clock", "Ping"))
		points := r.derived(schemas.TypeDatapoint)
		for i := len(points) - 1; i >= 0; i-- {
			if points[i]["device"] == "p" {
				return points[i]
			}
		}
		t.Fatal("no datapoint")
		return nil
	}
	for i := range 48 {
		if p := publish(20 + i%3); p["learning"] != true || p["num_messages_sent_baseline_score"] != nil {
			t.Fatalf("interval %d is scored while learning: %v", i, p)
		}
	}
	usual := publish(21)
	if s := usual["num_messages_sent_baseline_score"].(float64); usual["learning"] != false || math.Abs(s) > 1 {
		t.Errorf("the usual has score %v", s)
	}
	if m := usual["num_messages_sent_baseline_mean"].(float64); m < 18 || m > 22 {
		t.Errorf("the usual is %v", m)
	}
	first := publish(500)["num_messages_sent_baseline_score"].(float64)
	for range 10 {
		publish(500)
	}
	later := publish(500)["num_messages_sent_baseline_score"].(float64)
	if first < 8 || later < 4 {
		t.Errorf("25 times as much has score %v, and an hour later %v", first, later)
	}
	if p := publish(1); p["num_messages_sent_baseline_score"].(float64) > -4 {
		t.Errorf("nearly nothing has score %v", p["num_messages_sent_baseline_score"])
	}
}

func TestNewSourceAddress(t *testing.T) {
	r := newRig(t, nil)
	addresses := [][]string{{"198.51.100.1"}, {"198.51.100.1"}, {"198.51.100.1", "198.51.100.2"}, {"198.51.100.2"}, {"2001:db8::5"}, {"198.51.100.1"}}
	for i, list := range addresses {
		for _, a := range list {
			r.feed(at(float64(300*i+40), "p", "Publish-In", from(a)))
		}
		r.feed(at(float64(300*i+331), "clock", "Ping"))
	}
	got := ""
	for _, p := range r.derived(schemas.TypeDatapoint) {
		if p["device"] == "p" {
			got += fmt.Sprintf("%v%v ", p["source_ips"], p["new_source_ip"])
		}
	}
	expect(t, "addresses", got, "[198.51.100.1]false [198.51.100.1]false [198.51.100.1 198.51.100.2]true [198.51.100.2]false [2001:db8::5]true [198.51.100.1]false ")
	// What is new is in the device's record before its input is given up.
	if r.sent.identities["device/p"] == "" {
		t.Error("the new address is not kept")
	}
}

// Hostile numbers of devices and intervals.
func TestBounds(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxDevices = 100 })
	for i := range 5000 {
		r.feed(at(float64(i)/100, fmt.Sprintf("d%d", i), "Publish-In"))
	}
	if n := r.replay.Devices(); n > 100 {
		t.Errorf("%d devices", n)
	}
	// A lane that stands still keeps intervals open.
	r.feed(at(60, "slow", "Ping", by("slow")))
	for i := range 1000 {
		r.feed(at(float64(300*i+40), fmt.Sprintf("d%d", i%90), "Publish-In"))
	}
	w := r.replay.w
	if len(w.intervals.slots) > 400 || len(w.intervals.open) > 401 {
		t.Errorf("%d slots in %d intervals", len(w.intervals.slots), len(w.intervals.open))
	}
	if len(r.derived(schemas.TypeDatapoint)) < 500 {
		t.Error("intervals that are closed early have no datapoints")
	}
}

func TestMessageText(t *testing.T) {
	r := newRig(t, nil)
	name := "pump \"7\"\\\n\x01 é\u2028 \xff"
	r.feed(at(1, name, "Publish-In"), at(331, "clock", "Ping"))
	points := r.derived(schemas.TypeDatapoint)
	if len(points) != 1 || points[0]["device"] != "pump \"7\"\\\n\x01 é\u2028 \ufffd" {
		t.Errorf("got %q", points)
	}
}
