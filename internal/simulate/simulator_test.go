package simulate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var testStart = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)

func play(t testing.TB, opts Options) (*Simulator, []Record) {
	t.Helper()
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	var all []Record
	for records := s.Step(); records != nil; records = s.Step() {
		for _, r := range records {
			r.Data = bytes.Clone(r.Data)
			all = append(all, r)
		}
	}
	return s, all
}

func TestSameSeedSameBytes(t *testing.T) {
	opts := Options{Seed: 7, Devices: 300, Start: testStart, Duration: 12 * time.Minute, Attacks: true}
	dump := func(opts Options) string {
		_, records := play(t, opts)
		var b strings.Builder
		for _, r := range records {
			fmt.Fprintf(&b, "%d %d %d %s\n", r.Time, r.Channel, r.Attack, r.Data)
		}
		return b.String()
	}
	first := dump(opts)
	if first != dump(opts) {
		t.Error("two runs of one seed differ")
	}
	opts.Seed = 8
	if first == dump(opts) {
		t.Error("another seed gives the same")
	}
}

// A larger fleet holds the smaller one unchanged: what a device does must not
// depend on who else is there.
func TestDevicesAreIndependent(t *testing.T) {
	lines := func(devices int) map[string]bool {
		_, records := play(t, Options{Seed: 3, Devices: devices, Start: testStart, Duration: 5 * time.Minute})
		set := map[string]bool{}
		for _, r := range records {
			if r.Channel != ChannelEvents {
				set[string(r.Data)] = true
			}
		}
		return set
	}
	small, large := lines(50), lines(80)
	for line := range small {
		if !large[line] {
			t.Fatalf("only in the smaller fleet: %s", line)
		}
	}
}

// The attributes of AWS's documentation of each event type beyond the common
// ones.
var documented = map[string]string{
	"Connect":               "protocol clientId principalId sourceIp sourcePort reason details",
	"Disconnect":            "protocol clientId principalId sourceIp sourcePort reason details disconnectReason",
	"Ping":                  "protocol latency requestTimestamp responseTimestamp clientId principalId sourceIp sourcePort reason details",
	"Connection.AuthNError": "protocol authenticationType clientId principalId sourceIp sourcePort targetIp targetPort serverNameIndication reason details",
	"Publish-In":            "protocol topicName clientId principalId sourceIp sourcePort retain reason details",
	"Publish-Out":           "protocol topicName clientId principalId sourceIp sourcePort",
	"Queued":                "topicName clientId qos protocol details",
	"Subscribe":             "protocol topicName clientId principalId sourceIp sourcePort subscriptions reason details",
	"GetThingShadow":        "protocol deviceShadowName topicName",
	"UpdateThingShadow":     "protocol deviceShadowName topicName",
	"RuleMatch":             "clientId topicName ruleName principalId",
	"RuleExecution":         "clientId topicName ruleName ruleAction resources principalId",
	"RuleNotFound":          "clientId topicName ruleName principalId reason details",
	"UpdateJobExecution":    "protocol clientId jobId topicName clientToken versionNumber details",
	"GetDeviceCredentials":  "deviceCertificateId details",
}

func TestLinesAreAsDocumented(t *testing.T) {
	s, records := play(t, Options{Seed: 1, Devices: 1000, Start: testStart, Duration: 12 * time.Minute, Attacks: true})
	seen := map[string]int{}
	for _, r := range records {
		var line map[string]any
		if err := json.Unmarshal(r.Data, &line); err != nil {
			t.Fatalf("%v in %s", err, r.Data)
		}
		if r.Time < s.begins || r.Time > s.ends+5000 {
			t.Fatalf("%d is outside of the simulation: %s", r.Time, r.Data)
		}
		if r.Channel != ChannelLogs {
			continue
		}
		kind := line["eventType"].(string)
		fields, ok := documented[kind]
		if !ok {
			t.Fatalf("%s is not an event type", kind)
		}
		seen[kind]++
		allowed := strings.Fields(fields + " timestamp logLevel traceId accountId status eventType")
		for field := range line {
			if !slices.Contains(allowed, field) {
				t.Fatalf("%s has no %s: %s", kind, field, r.Data)
			}
		}
		at, err := time.Parse("2006-01-02 15:04:05.000", line["timestamp"].(string))
		if err != nil || at.UnixMilli() != r.Time {
			t.Fatalf("time %d, %v: %s", r.Time, err, r.Data)
		}
		if id, ok := line["principalId"].(string); ok && len(id) != 64 {
			t.Fatalf("principal %q", id)
		}
		if ip, ok := line["sourceIp"].(string); ok && !isDocumentation(ip) {
			t.Fatalf("address %s is not reserved for documentation", ip)
		}
	}
	for kind := range documented {
		if seen[kind] == 0 {
			t.Errorf("no %s", kind)
		}
	}
	t.Logf("%d records, %v", len(records), seen)
}

func isDocumentation(ip string) bool {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return false
	}
	for _, p := range []string{"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"} {
		if netip.MustParsePrefix(p).Contains(addr) {
			return true
		}
	}
	return false
}

func TestRate(t *testing.T) {
	rate := func(opts Options) float64 {
		opts.Start = testStart
		_, records := play(t, opts)
		n := 0
		for _, r := range records {
			if r.Channel == ChannelLogs {
				n++
			}
		}
		return float64(n) / opts.Duration.Seconds()
	}
	natural := naturalRate(newFleet(1, 2000))
	if got := rate(Options{Seed: 1, Devices: 2000, Duration: 20 * time.Minute}); got < 0.9*natural || got > 1.1*natural {
		t.Errorf("natural: %.0f lines/s, reckoned %.0f", got, natural)
	}
	for _, want := range []float64{100, 2000} {
		if got := rate(Options{Seed: 1, Devices: 2000, Duration: 5 * time.Minute, Rate: want}); got < 0.9*want || got > 1.1*want {
			t.Errorf("want %.0f lines/s, got %.0f", want, got)
		}
	}
}

func TestAttacks(t *testing.T) {
	for seed := range uint64(5) {
		s, records := play(t, Options{Seed: seed, Devices: 400, Start: testStart, Duration: MinAttackDuration, Attacks: true})
		labels := s.Labels()
		count := make([]int, len(labels))
		victims := map[string]string{}
		for i, l := range labels {
			if l.Start.Before(s.Start()) || !l.End.After(l.Start) || l.End.After(s.End()) {
				t.Errorf("seed %d: %s from %s to %s", seed, l.Attack, l.Start, l.End)
			}
			for _, d := range l.Devices {
				if other, ok := victims[d]; ok {
					t.Errorf("seed %d: %s is in %s and %s", seed, d, other, l.Attack)
				}
				victims[d] = l.Attack
			}
			for _, r := range records {
				if r.Attack == i {
					count[i]++
					if r.Time < l.Start.UnixMilli() || r.Time > l.End.UnixMilli()+1000 {
						t.Errorf("seed %d: %s: a record at %d, outside of the label", seed, l.Attack, r.Time)
					}
				}
			}
		}
		for i, least := range []int{5, 9, 20, 1000, 16, 1} {
			if count[i] < least {
				t.Errorf("seed %d: %s has only %d records", seed, labels[i].Attack, count[i])
			}
		}
	}
}

func TestGuardDutyNamesTheDeviceByItsCertificateOnly(t *testing.T) {
	s, records := play(t, Options{Seed: 1, Devices: 400, Start: testStart, Duration: MinAttackDuration, Attacks: true})
	i := slices.IndexFunc(s.Labels(), func(l Label) bool { return l.Attack == "stolen device credentials" })
	label := s.Labels()[i]
	found := 0
	for _, r := range records {
		if r.Attack != i || r.Channel != ChannelEvents {
			continue
		}
		found++
		if !bytes.Contains(r.Data, []byte(`:`+label.Certificates[0]+`"`)) || bytes.Contains(r.Data, []byte(label.Devices[0])) {
			t.Errorf("got %s", r.Data)
		}
	}
	if found != 1 {
		t.Errorf("%d findings", found)
	}
}

func TestLoggingOffSilencesTheLog(t *testing.T) {
	s, records := play(t, Options{Seed: 1, Devices: 400, Start: testStart, Duration: 20 * time.Minute, Attacks: true})
	label := s.Labels()[len(s.Labels())-1]
	during, after := 0, 0
	for _, r := range records {
		switch {
		case r.Channel != ChannelLogs:
		case r.Time >= label.Start.UnixMilli()+5000 && r.Time < label.End.UnixMilli():
			during++
		case r.Time >= label.End.UnixMilli():
			after++
		}
	}
	if during != 0 || after == 0 {
		t.Errorf("%d lines while logging is off, %d after", during, after)
	}
}

func TestIdentities(t *testing.T) {
	devices := newFleet(1, 20_000)
	ids, certs := map[string]bool{}, map[string]bool{}
	perAddress := map[string]int{}
	for i := range devices {
		p := &devices[i].peer
		ids[p.clientID], certs[p.certID] = true, true
		perAddress[p.address]++
		if !isDocumentation(p.address) {
			t.Fatalf("address %s", p.address)
		}
	}
	if len(ids) != len(devices) || len(certs) != len(devices) {
		t.Errorf("%d client IDs, %d certificates", len(ids), len(certs))
	}
	if most := slices.Max(slices.Collect(maps.Values(perAddress))); most > devicesPerSite {
		t.Errorf("%d devices behind one address", most)
	}
}

func TestOptions(t *testing.T) {
	bad := func(opts Options, want string) {
		t.Helper()
		if _, err := New(opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	bad(Options{Devices: -1}, "devices")
	bad(Options{Duration: -1}, "duration")
	bad(Options{Rate: -1}, "rate")
	bad(Options{Attacks: true, Duration: time.Minute}, "10m")
	bad(Options{Attacks: true, Devices: 5}, "100 devices")
}

func TestQueueIsOrdered(t *testing.T) {
	r := newRNG(1, 1)
	var q queue
	var want []entry
	for range 5000 {
		e := entry{at: int64(r.n(300)), who: int32(r.n(50) - 25), what: action(r.n(4))}
		q.push(e)
		want = append(want, e)
	}
	slices.SortFunc(want, func(a, b entry) int {
		switch {
		case a.before(b):
			return -1
		case b.before(a):
			return 1
		}
		return 0
	})
	for i := range want {
		if got, ok := q.pop(); !ok || got != want[i] {
			t.Fatalf("at %d: got %v, want %v", i, got, want[i])
		}
	}
	if _, ok := q.pop(); ok {
		t.Error("not empty")
	}
}
