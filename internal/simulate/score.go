package simulate

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// Detection is a finding and when it arrived.
type Detection struct {
	Finding  *schemas.Finding
	Received time.Time
}

// Hit is a detection of an attack.
type Hit struct {
	Detection
	// After is the event time between the first record of the attack and the one that made the
	// rule's condition true: how long the attack had to go on.
	After time.Duration
	// Latency is the time between the sending of that record and the arrival of the detection; 0
	// when the ledger does not know.
	Latency time.Duration
}

// Result is what became of one attack.
type Result struct {
	Label Label
	Hits  []Hit // the most severe first, then the earliest; none: the attack was missed
}

// Score compares detections with the labels.
type Score struct {
	Results []Result
	// False are the detections that fit no label: they accuse who did nothing.
	False []Detection
}

// Missed returns the attacks that no detection names.
func (s *Score) Missed() int {
	n := 0
	for i := range s.Results {
		if len(s.Results[i].Hits) == 0 {
			n++
		}
	}
	return n
}

// scoreSlack is how far a detection's time may be from its label's interval:
// lines of one action are milliseconds apart.
const scoreSlack = 2 * time.Second

// NewScore scores detections. Those with the same ID count once, in their first
// form. ledger may be nil.
func NewScore(labels []Label, detections []Detection, ledger *Ledger) *Score {
	s := &Score{Results: make([]Result, len(labels))}
	for i, l := range labels {
		s.Results[i].Label = l
	}
	seen := map[string]bool{}
	for _, d := range detections {
		if seen[d.Finding.FindingInfo.UID] {
			continue
		}
		seen[d.Finding.FindingInfo.UID] = true
		found := false
		for i := range s.Results {
			if r := &s.Results[i]; r.Label.names(d.Finding) {
				found = true
				r.Hits = append(r.Hits, newHit(&r.Label, d, ledger))
			}
		}
		if !found {
			s.False = append(s.False, d)
		}
	}
	for i := range s.Results {
		slices.SortStableFunc(s.Results[i].Hits, func(a, b Hit) int {
			return cmp.Or(cmp.Compare(b.Finding.SeverityID, a.Finding.SeverityID), cmp.Compare(a.After, b.After))
		})
	}
	return s
}

func newHit(l *Label, d Detection, ledger *Ledger) Hit {
	at := time.UnixMilli(d.Finding.EndTime)
	h := Hit{Detection: d, After: max(at.Sub(l.Start), 0)}
	if ledger != nil {
		if sent, ok := ledger.SentAt(at); ok {
			h.Latency = max(d.Received.Sub(sent), 0)
		}
	}
	return h
}

// names reports whether a finding is about the attack: at its time, and about
// whom the label names and nobody else.
func (l *Label) names(f *schemas.Finding) bool {
	at := time.UnixMilli(f.EndTime)
	if at.Before(l.Start.Add(-scoreSlack)) || at.After(l.End.Add(scoreSlack)) {
		return false
	}
	s := SubjectOf(f)
	fits := false
	for _, part := range []struct {
		value   string
		allowed []string
	}{{s.Device, l.Devices}, {s.Certificate, l.Certificates}, {s.Address, l.Addresses}} {
		if part.value != "" && slices.Contains(part.allowed, part.value) {
			fits = true
		}
	}
	switch {
	// A device of the fleet is never named for somebody else's deeds.
	case s.Device != "" && len(l.Devices) > 0:
		return fits && slices.Contains(l.Devices, s.Device)
	case s.Device != "":
		return false
	case s.Certificate != "" && len(l.Certificates) > 0:
		return fits && slices.Contains(l.Certificates, s.Certificate)
	case s.Certificate == "" && s.Address == "":
		return s.Account != "" && slices.Contains(l.Accounts, s.Account)
	}
	return fits
}

// Subject is whom a finding accuses.
type Subject struct {
	Device      string // client ID or thing name
	Certificate string
	Address     string
	Account     string

	group string // the value of the rule's group-by, when there is one
}

// String returns what the rule's group was, or else the most telling of the
// names.
func (s Subject) String() string {
	switch {
	case s.group != "" && s.group == s.Certificate:
		return shortCertificate(s.group)
	case s.group != "":
		return s.group
	case s.Device != "":
		return s.Device
	case s.Certificate != "":
		return shortCertificate(s.Certificate)
	case s.Address != "":
		return s.Address
	case s.Account != "":
		return "account " + s.Account
	}
	return "nobody"
}

func shortCertificate(id string) string {
	const enough = 12
	return "certificate " + id[:min(enough, len(id))] + "..."
}

// SubjectOf returns whom f accuses. Its device may be a device key that stands
// for something else: "cert:", "ip:", "account:".
func SubjectOf(f *schemas.Finding) Subject {
	s := Subject{Certificate: f.Unmapped.CertificateID}
	for _, o := range f.Observables {
		if o.TypeID == 2 { // IP Address
			s.Address = o.Value
		}
	}
	if len(f.Unmapped.Group) == 1 {
		for _, value := range f.Unmapped.Group {
			s.group = value
		}
	}
	if f.Device != nil {
		kind, id, _ := strings.Cut(f.Device.UID, ":")
		switch kind {
		case "cert":
			s.Certificate = cmp.Or(s.Certificate, id)
		case "ip":
			s.Address = cmp.Or(s.Address, id)
		case "account":
			s.Account = id
		default:
			s.Device = f.Device.UID
		}
	}
	if s.Account == "" && f.Cloud != nil && f.Cloud.Account != nil {
		s.Account = f.Cloud.Account.UID
	}
	return s
}
