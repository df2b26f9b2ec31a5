package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/internal/simulate"
)

// demoReport is what the demo has to say at its end.
type demoReport struct {
	score   *simulate.Score
	totals  simulate.Totals
	devices int
	span    time.Duration // event time that was played
	playing time.Duration // from the first request to the last acknowledgement
	stored  uint64        // events in the store
	answers []demoAnswer
}

// ok reports whether every attack was found and nobody else accused.
func (r *demoReport) ok() bool { return r.score.Missed() == 0 && len(r.score.False) == 0 }

func (r *demoReport) perSecond() float64 {
	return float64(r.totals.Distinct) / max(r.playing.Seconds(), 0.001)
}

func (r *demoReport) write(w io.Writer) error {
	var b strings.Builder
	b.WriteString("\nAttacks\n\n")
	t := &table{head: []string{"attack", "found by rule", "about", "after", "alert in", "evidence"}}
	for _, res := range r.score.Results {
		t.add(attackRow(res)...)
	}
	if err := t.write(&b); err != nil {
		return err
	}
	b.WriteString("\n  after: event time from the first record of the attack; alert in: from the sending of the record\n" +
		"  that made the rule fire to the signed webhook, through Kafka twice.\n")

	fmt.Fprintf(&b, "\nFalse alarms among %s devices: %d\n", grouped(int64(r.devices)), len(r.score.False))
	if len(r.score.False) > 0 {
		t := &table{head: []string{"rule", "about", "at", "evidence"}}
		for _, d := range r.score.False {
			t.add(d.Finding.FindingInfo.Title, simulate.SubjectOf(d.Finding).String(),
				time.UnixMilli(d.Finding.EndTime).UTC().Format("15:04:05"), evidence(d))
		}
		b.WriteString("\n")
		if err := t.write(&b); err != nil {
			return err
		}
	}
	fmt.Fprintf(&b, "\n%s events of %s in %s: %s events/s from HTTP to Kafka; %s in ClickHouse\n", grouped(r.totals.Distinct),
		minutes(r.span), r.playing.Round(100*time.Millisecond), grouped(int64(r.perSecond())), grouped(int64(r.stored)))

	for _, a := range r.answers {
		fmt.Fprintf(&b, "\n%s (%d ms)\n\n", a.Question, a.Millis)
		for line := range strings.Lines(a.SQL) {
			b.WriteString("  > " + line)
		}
		b.WriteString("\n\n")
		if err := a.table().write(&b); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// minutes writes whole minutes without their zero seconds.
func minutes(d time.Duration) string {
	s := d.Round(time.Second).String()
	if short, ok := strings.CutSuffix(s, "m0s"); ok {
		return short + "m"
	}
	return s
}

func attackRow(r simulate.Result) []string {
	if len(r.Hits) == 0 {
		return []string{r.Label.Attack, "MISSED", "", "", "", ""}
	}
	best := r.Hits[0]
	rule := best.Finding.FindingInfo.Title
	if n := len(r.Hits) - 1; n > 0 {
		rule += fmt.Sprintf(" (+%d)", n)
	}
	latency := "?"
	if best.Latency > 0 {
		latency = best.Latency.Round(time.Millisecond).String()
	}
	return []string{
		r.Label.Attack, rule, simulate.SubjectOf(best.Finding).String(),
		minutes(best.After), latency, evidence(best.Detection),
	}
}

// evidence says what a detection rests on, in a few words.
func evidence(d simulate.Detection) string {
	f := d.Finding
	kinds := map[string]bool{}
	var order []string
	for _, e := range f.Evidences {
		if !kinds[e.Data.EventType] {
			kinds[e.Data.EventType] = true
			order = append(order, e.Data.EventType)
		}
	}
	return fmt.Sprintf("%d x %s", f.Count, strings.Join(order, ", "))
}

// jsonReport is the report for --json.
type jsonReport struct {
	OK              bool            `json:"ok"`
	Attacks         []jsonAttack    `json:"attacks"`
	FalseAlarms     []jsonDetection `json:"false_alarms"`
	Devices         int             `json:"devices"`
	Events          int64           `json:"events"`
	EventsStored    uint64          `json:"events_stored"`
	EventsPerSecond float64         `json:"events_per_second"`
	Seconds         float64         `json:"seconds"`
	SimulatedFor    float64         `json:"simulated_seconds"`
	Queries         []demoAnswer    `json:"queries"`
}

type jsonAttack struct {
	simulate.Label
	Found      bool            `json:"found"`
	Detections []jsonDetection `json:"detections"`
}

type jsonDetection struct {
	ID             string  `json:"id"`
	Rule           string  `json:"rule"`
	Severity       string  `json:"severity"`
	Subject        string  `json:"subject"`
	Time           string  `json:"time"`
	AfterSeconds   float64 `json:"after_seconds"`   // of event time since the attack's start
	LatencySeconds float64 `json:"latency_seconds"` // since the record was sent
	Evidence       string  `json:"evidence"`
	Message        string  `json:"message"`
}

func newJSONDetection(d simulate.Detection) jsonDetection {
	return jsonDetection{
		ID: d.Finding.FindingInfo.UID, Rule: d.Finding.FindingInfo.Title, Severity: d.Finding.Severity,
		Subject: simulate.SubjectOf(d.Finding).String(), Time: rfc3339(d.Finding.EndTime), Evidence: evidence(d), Message: d.Finding.Message,
	}
}

func (r *demoReport) writeJSON(w io.Writer) error {
	out := jsonReport{
		OK: r.ok(), Attacks: []jsonAttack{}, FalseAlarms: []jsonDetection{}, Devices: r.devices,
		Events: r.totals.Distinct, EventsStored: r.stored, EventsPerSecond: r.perSecond(),
		Seconds: r.playing.Seconds(), SimulatedFor: r.span.Seconds(), Queries: r.answers,
	}
	for _, res := range r.score.Results {
		a := jsonAttack{Label: res.Label, Found: len(res.Hits) > 0, Detections: []jsonDetection{}}
		for _, h := range res.Hits {
			d := newJSONDetection(h.Detection)
			d.AfterSeconds, d.LatencySeconds = h.After.Seconds(), h.Latency.Seconds()
			a.Detections = append(a.Detections, d)
		}
		out.Attacks = append(out.Attacks, a)
	}
	for _, d := range r.score.False {
		out.FalseAlarms = append(out.FalseAlarms, newJSONDetection(d))
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}
