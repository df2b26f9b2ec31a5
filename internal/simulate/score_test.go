package simulate

import (
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

func TestScore(t *testing.T) {
	start := testStart
	at := func(minutes int) int64 { return start.Add(time.Duration(minutes) * time.Minute).UnixMilli() }
	labels := []Label{
		{Attack: "clone", Devices: []string{"pump-1", "pump-1-ra"}, Certificates: []string{"c1"}, Addresses: []string{"203.0.113.1"}, Start: start, End: start.Add(10 * time.Minute)},
		{Attack: "scan", Addresses: []string{"203.0.113.2"}, Start: start, End: start.Add(10 * time.Minute)},
		{Attack: "off", Accounts: []string{"111"}, Addresses: []string{"203.0.113.3"}, Start: start.Add(20 * time.Minute), End: start.Add(21 * time.Minute)},
	}
	finding := func(uid string, end int64, severity int, device, certificate, address, account string) Detection {
		f := &schemas.Finding{EndTime: end, SeverityID: severity, FindingInfo: schemas.FindingInfo{UID: uid}}
		if device != "" {
			f.Device = &schemas.FindingDevice{UID: device}
		}
		if address != "" {
			f.Observables = []schemas.Observable{{TypeID: 2, Value: address}}
		}
		if account != "" {
			f.Cloud = &schemas.FindingCloud{Account: &schemas.FindingAccount{UID: account}}
		}
		f.Unmapped.CertificateID = certificate
		return Detection{Finding: f, Received: start.Add(time.Hour)}
	}
	var ledger Ledger
	ledger.sent(&request{payloads: []Payload{{LastTime: at(6)}}}, start.Add(time.Hour-time.Second))

	one := func(name string, d Detection, want string) {
		t.Helper()
		s := NewScore(labels, []Detection{d}, &ledger)
		got := "false alarm"
		for _, r := range s.Results {
			if len(r.Hits) > 0 {
				got = r.Label.Attack
			}
		}
		if got != want || (len(s.False) == 1) != (want == "false alarm") || s.Missed() != len(labels)-(1-len(s.False)) {
			t.Errorf("%s: got %s (%d false, %d missed), want %s", name, got, len(s.False), s.Missed(), want)
		}
	}
	one("by certificate", finding("a", at(5), 4, "", "c1", "", "111"), "clone")
	one("by certificate as the device key", finding("a", at(5), 4, "cert:c1", "", "", "111"), "clone")
	one("by device", finding("a", at(5), 4, "pump-1", "c1", "198.51.100.1", "111"), "clone")
	one("by a clone", finding("a", at(5), 4, "pump-1-ra", "", "", ""), "clone")
	one("too late", finding("a", at(11), 4, "pump-1", "c1", "", ""), "false alarm")
	one("too early", finding("a", at(-1), 4, "pump-1", "c1", "", ""), "false alarm")
	one("another device", finding("a", at(5), 4, "pump-2", "", "", ""), "false alarm")
	one("another device with the attacker's address", finding("a", at(5), 4, "pump-2", "", "203.0.113.2", ""), "false alarm")
	one("another certificate", finding("a", at(5), 4, "", "c2", "", ""), "false alarm")
	one("by address", finding("a", at(5), 4, "", "", "203.0.113.2", "111"), "scan")
	one("by address as the device key", finding("a", at(5), 4, "ip:203.0.113.2", "", "", "111"), "scan")
	one("another address", finding("a", at(5), 4, "", "", "198.51.100.9", "111"), "false alarm")
	one("by account", finding("a", at(20), 5, "account:111", "", "", ""), "off")
	one("by account of the cloud", finding("a", at(20), 5, "", "", "", "111"), "off")
	one("by the thief's address", finding("a", at(20), 5, "ip:203.0.113.3", "", "", "111"), "off")
	one("an operator at the time of the thief", finding("a", at(20), 5, "ip:198.51.100.250", "", "", "111"), "false alarm")
	one("the account at another time", finding("a", at(5), 5, "", "", "", "111"), "false alarm")

	s := NewScore(labels, []Detection{
		finding("a", at(3), 3, "pump-1", "", "", ""),
		finding("b", at(6), 5, "", "c1", "", ""),
		finding("b", at(9), 5, "", "c1", "", ""), // the same again
		finding("c", at(8), 5, "", "c1", "", ""),
	}, &ledger)
	hits := s.Results[0].Hits
	if len(hits) != 3 || hits[0].Finding.FindingInfo.UID != "b" || hits[0].After != 6*time.Minute || hits[0].Latency != time.Second {
		t.Errorf("got %+v", hits)
	}
	if s.Missed() != 2 {
		t.Errorf("%d missed", s.Missed())
	}
}
