package correlate

import (
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// TestReloadKeepsUnchangedWindows: SetRules, and a restart with other rules, keep
// the windows of rules that are the same, start those of new ones empty and drop
// those of rules that are gone, here and behind the shuffle.
func TestReloadKeepsUnchangedWindows(t *testing.T) {
	t.Parallel()
	before := fleetRules + `---
title: Refusals by account
id: c-gone
name: gone
correlation: {type: event_count, rules: [refused], group-by: [tocsin.account], timespan: 1h, condition: {gte: 4}}
`
	added := `---
title: Refusals by account, twice
id: c-added
name: added
correlation: {type: event_count, rules: [refused], group-by: [tocsin.account], timespan: 1h, condition: {gte: 3}}
---
title: Refusals by account and device, again
id: c-refusals-twin
name: refusals_twin
correlation: {type: event_count, rules: [refused], group-by: [tocsin.device, tocsin.account], timespan: 1m, condition: {gte: 3}}
---
title: Certificate shared, again
id: c-shared-twin
name: shared_twin
correlation: {type: value_count, rules: [connect], group-by: [tocsin.certificate_id, tocsin.account], timespan: 1m, condition: {field: clientId, gte: 3}}
`
	// A changed level changes nothing of what is found.
	after := strings.Replace(fleetRules, "level: critical", "level: low", 1) + added
	for _, restart := range []bool{false, true} {
		t.Run(map[bool]string{false: "reload", true: "restart"}[restart], func(t *testing.T) {
			k := fakeCluster(t, 2)
			k.open()
			c := k.start(compileRules(t, before))
			n := byte(0)
			send := func(status, device string) {
				n++
				at := fleetStart + int64(n)*1000
				k.send(uint64(n), []*schemas.Event{{
					ID: schemas.EventID{n}, Time: at, IngestTime: at, Source: []byte("iot"), Account: []byte("1"), Device: []byte(device), CertificateID: []byte("cert"),
					Message: []byte(`{"eventType":"Connect","status":"` + status + `","clientId":"` + device + `"}`),
				}})
				k.quiet()
			}
			for range 2 {
				send("Failure", "pump")
			}
			send("Success", "a")
			send("Success", "b")
			if restart {
				c.stop(t)
				c = k.start(compileRules(t, after))
			} else {
				c.SetRules(compileRules(t, after))
			}
			send("Failure", "pump")
			send("Success", "c")
			for _, device := range []string{"pump", "pump"} {
				send("Failure", device)
			}
			if restart {
				// Twins have windows of their own, in snapshots too.
				c.stop(t)
				k.start(compileRules(t, after))
			}
			k.close(fleetStart + time.Hour.Milliseconds())
			k.quiet()
			count := make(map[string]int64)
			for _, f := range newest(k.detections()) {
				if f.Status == "Resolved" {
					count[f.FindingInfo.Analytic.UID] += f.Count
				}
			}
			for rule, want := range map[string]int64{
				"c-refusals": 5, "c-shared": 3, "c-added": 3, "c-refusals-twin": 3, "c-shared-twin": 0, "c-gone": 0,
			} {
				if count[rule] != want {
					t.Errorf("%s: %d events in detections, want %d", rule, count[rule], want)
				}
			}
		})
	}
}
