package correlate

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	kgo "github.com/segmentio/kafka-go"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// TestBadRecordsAreKeptAside: what cannot be read goes to the dead letter topic,
// with where it came from, and the stream goes on as if it were not there.
func TestBadRecordsAreKeptAside(t *testing.T) {
	t.Parallel()
	set := compileRules(t, fleetRules)
	events := fleetEvents(5, 1500, 30*time.Minute)
	want := expected(t, set, events)
	k := fakeCluster(t, 3)
	k.open()
	c := k.start(set)

	var batch schemas.BatchEncoder
	batch.Append(&schemas.Event{ID: schemas.EventID{1}, Time: fleetStart, IngestTime: fleetStart, Source: []byte("iot"), Message: []byte("{}")}, "lane/iot")
	var match schemas.MatchBatchEncoder
	match.Append(&schemas.Match{Offset: 1, Correlation: 42, Step: 3, Time: fleetStart, Group: []byte("x")})
	known := func(group []byte, step uint32) []byte {
		var enc schemas.MatchBatchEncoder
		enc.Append(&schemas.Match{Correlation: set.Correlations[1].Hash, Step: step, Time: fleetStart, Group: group, Value: []byte("x")})
		return enc.AppendTo(nil, noSource, 0, true)
	}
	bad := map[string][][]byte{
		schemas.TopicEvents: {
			[]byte("\xff\xff\xff\xff"),
			batch.Bytes()[:len(batch.Bytes())-3],
			[]byte{10, 200, 1, 2, 3},
		},
		schemas.TopicMatches: {
			[]byte("\xff\xff\xff\xff"),
			match.AppendTo(nil, 0, 0, false)[:30],
			[]byte{26, 4, 1, 2, 3, 4, 34, 1}, // a match that ends before it begins
		},
	}
	odd := [][]byte{
		nil,
		match.AppendTo(nil, 0, math.MinInt64, false),                                    // of a rule that there is not
		new(schemas.MatchBatchEncoder).AppendTo(nil, 60_000, fleetStart, false),         // of a source that there is not:
		new(schemas.MatchBatchEncoder).AppendTo(nil, math.MaxUint32, fleetStart, false), // waiting for one would be for ever
		new(schemas.MatchBatchEncoder).AppendTo(nil, resultSource(0, 77), 0, false),     //
		new(schemas.MatchBatchEncoder).AppendTo(nil, resultSource(1<<14, 0), 0, false),  //
		known(AppendTuple(nil, []byte("too"), []byte("few"), []byte("or many")), 1<<31), // of a step that there is not
		known(AppendTuple(nil, []byte("lonely")), 0),                                    // a group of other length
		known([]byte("\xff\xffno tuple"), 0),                                            //
	}
	half := len(events) / 2
	k.send(5, events[:half])
	for topic, values := range bad {
		k.produce(topic, 1, values...)
	}
	k.produce(schemas.TopicMatches, 1, odd...)
	k.produce(schemas.TopicEvents, 1, nil)
	k.send(6, events[half:])
	k.close(fleetStart + (30 * time.Minute).Milliseconds())
	k.quiet()
	k.check(want)

	var raw, origins []string
	for _, l := range k.deadLetters() {
		if l.Source != "correlate" || l.Reason != reasonMalformed || l.Error == "" || l.RawSize != len(l.Raw) || l.Truncated {
			t.Errorf("dead letter %+v", l)
		}
		raw, origins = append(raw, string(l.Raw)), append(origins, l.Origin)
	}
	for topic, values := range bad {
		for _, v := range values {
			if !slices.Contains(raw, string(v)) {
				t.Errorf("%x of %s is not among the dead letters", v, topic)
			}
		}
		if !slices.ContainsFunc(origins, func(o string) bool { return strings.HasPrefix(o, topic+"/1@") }) {
			t.Errorf("no origin in %s: %v", topic, origins)
		}
	}
	if n := len(bad[schemas.TopicEvents]) + len(bad[schemas.TopicMatches]); len(raw) != n || c.metric(t, "tocsin_correlate_dead_letters_total", reasonMalformed) != float64(n) {
		t.Errorf("%d dead letters for %d bad records", len(raw), n)
	}
	if n := c.metric(t, "tocsin_correlate_ignored_matches_total", ignoredUnknownRule); n < 2 {
		t.Errorf("%v matches of unknown rules counted", n)
	}
}

// TestTimesThatCannotBe: events from the far future, or from before there were
// clocks, are matched by themselves, disturb nothing and are counted.
func TestTimesThatCannotBe(t *testing.T) {
	t.Parallel()
	set := compileRules(t, fleetRules)
	events := fleetEvents(6, 1000, 30*time.Minute)
	want := expected(t, set, events)
	k := fakeCluster(t, 2)
	k.open()
	c := k.start(set)
	future := fleetStart + (365 * 24 * time.Hour).Milliseconds()
	var odd []*schemas.Event
	for i, at := range []int64{future, math.MaxInt64, math.MinInt64, -1} {
		for p := range 4 {
			ev := &schemas.Event{
				ID: schemas.EventID{byte(i), byte(p)}, Time: at, IngestTime: fleetStart, Source: []byte("iot"),
				Account: []byte(wavesAccount), Device: fmt.Appendf(nil, "odd-%d", p), CertificateID: []byte("cert-00"),
				Message: []byte(`{"eventType":"Connect","status":"Failure"}`),
			}
			if p == 3 {
				ev.IngestTime = 0 // then the record's own time tells
			}
			odd = append(odd, ev)
		}
	}
	const tenth = 10
	for i := range tenth {
		k.send(uint64(i), events[i*len(events)/tenth:(i+1)*len(events)/tenth])
		k.send(uint64(i), odd)
	}
	k.close(fleetStart + (30 * time.Minute).Milliseconds())
	k.quiet()
	findings := k.detections()
	var normal []*schemas.Finding
	alerts := make(map[string]bool)
	for _, f := range findings {
		if f.Device != nil && strings.HasPrefix(f.Device.UID, "odd-") {
			if f.FindingInfo.Analytic.UID != "r-refused" {
				t.Errorf("%s found with an impossible time", f.FindingInfo.Analytic.UID)
			}
			alerts[f.FindingInfo.UID] = true
			continue
		}
		normal = append(normal, f)
	}
	if diff := difference(want, outcomes(newest(normal))); diff != "" {
		t.Error(diff)
	}
	if len(alerts) != len(odd) {
		t.Errorf("%d of %d events alerted by themselves", len(alerts), len(odd))
	}
	// Each as often as it was sent: it takes no part, so nothing remembers it.
	if n := c.metric(t, "tocsin_correlate_ignored_matches_total", ignoredFuture); n != float64(tenth*len(odd)) {
		t.Errorf("%v ignored, want %d", n, tenth*len(odd))
	}
	for _, s := range c.Status() {
		if limit := fleetStart + 2*time.Hour.Milliseconds(); s.Watermark > limit {
			t.Errorf("watermark of %s/%d is %d, beyond %d", s.Topic, s.Partition, s.Watermark, limit)
		}
	}
}

// TestLateEventsAreCounted: an event behind the allowed lateness alerts by itself,
// takes no part in windows, here or behind the shuffle, and is counted.
func TestLateEventsAreCounted(t *testing.T) {
	t.Parallel()
	set := compileRules(t, fleetRules)
	k := fakeCluster(t, 2)
	k.open()
	c := k.start(set)
	refused := func(id byte, at time.Duration) *schemas.Event {
		return &schemas.Event{
			ID: schemas.EventID{id}, Time: fleetStart + at.Milliseconds(), IngestTime: fleetStart + at.Milliseconds(), Source: []byte("iot"),
			Account: []byte("1"), Device: []byte("pump"), CertificateID: []byte("cert"), Message: []byte(`{"eventType":"Connect","status":"Failure"}`),
		}
	}
	k.send(1, []*schemas.Event{refused(1, 0), refused(2, time.Second)})
	k.quiet()
	k.markers("later", fleetStart+(30*time.Second+10*time.Minute).Milliseconds()+2000)
	k.quiet()
	// The watermark is 10 min and 2 s after the start, so 2 s is just in time.
	k.send(1, []*schemas.Event{refused(3, 1999*time.Millisecond)})
	k.quiet()
	if n := c.metric(t, "tocsin_correlate_late_events_total"); n != 2 {
		t.Errorf("%v late matches, want one for each of two rules", n)
	}
	k.send(1, []*schemas.Event{refused(4, 2000*time.Millisecond)})
	k.close(fleetStart)
	k.quiet()
	count := make(map[string]int64)
	for _, f := range newest(k.detections()) {
		count[f.FindingInfo.Analytic.UID] += f.Count
	}
	if count["r-refused"] != 4 || count["c-refusals"] != 3 {
		t.Errorf("events in detections: %v", count)
	}
	if n := c.metric(t, "tocsin_correlate_late_events_total"); n != 2 {
		t.Errorf("%v late matches in the end", n)
	}
	var late int64
	for _, s := range c.Status() {
		late += s.Late
	}
	if late != 2 {
		t.Errorf("%d late in the status", late)
	}
}

// TestEventsTopicMadeAnew: offsets start over at 0, behind those of the snapshots.
// What is there has never been read.
func TestEventsTopicMadeAnew(t *testing.T) {
	t.Parallel()
	set := compileRules(t, fleetRules)
	k := fakeCluster(t, 2)
	k.open()
	first := k.start(set)
	k.send(1, fleetEvents(7, 2000, 30*time.Minute))
	k.quiet()
	first.stop(t)
	k.recreate(schemas.TopicEvents)
	before := len(newest(k.detections()))
	events := fleetEvents(8, 500, 5*time.Minute)
	for i, ev := range events {
		events[i] = ev.Clone() // one that came twice is in the list twice
		events[i].Time += (24 * time.Hour).Milliseconds()
		events[i].IngestTime += (24 * time.Hour).Milliseconds()
	}
	// What is expected of the new ones is what stands besides the old ones.
	var alone []*schemas.Finding
	r := NewReplay(set, ReplayOptions{Reorder: 1 << 20}, func(f *schemas.Finding) { alone = append(alone, f) })
	for _, ev := range events {
		r.Event(ev)
	}
	r.Finish()
	k.markers("anew", events[0].Time-time.Hour.Milliseconds())
	k.start(set)
	k.send(1, events)
	k.close(events[len(events)-1].Time)
	k.quiet()
	var fresh []*schemas.Finding
	for _, f := range newest(k.detections()) {
		if f.StartTime >= events[0].Time-time.Hour.Milliseconds() {
			fresh = append(fresh, f)
		}
	}
	if diff := difference(outcomes(newest(alone)), outcomes(newest(fresh))); diff != "" || before == 0 {
		t.Errorf("%d before; after:\n%s", before, diff)
	}
}

// recreate deletes a topic and makes it again.
func (c *cluster) recreate(topic string) {
	c.t.Helper()
	c.withAdmin(func(ctx context.Context, admin *kgo.Client) error {
		res, err := admin.DeleteTopics(ctx, &kgo.DeleteTopicsRequest{Topics: []string{topic}})
		if err != nil {
			return err
		}
		return res.Errors[topic]
	})
	await(c.t, 20*time.Second, func() string {
		err := c.client.EnsureTopics(c.t.Context(), []kafka.TopicSpec{{Name: topic, Partitions: c.partitions}})
		if err != nil {
			return err.Error()
		}
		for _, end := range c.ends(topic) {
			if end != 0 {
				return "still the old topic"
			}
		}
		return ""
	})
}

func TestDeadLetterOfALargeRecordIsCut(t *testing.T) {
	t.Parallel()
	k := fakeCluster(t, 1)
	k.start(compileRules(t, fleetRules))
	value := []byte(strings.Repeat("\xff", 900<<10))
	k.produce(schemas.TopicEvents, 0, value)
	k.quiet()
	letters := k.deadLetters()
	if len(letters) != 1 || !letters[0].Truncated || letters[0].RawSize != len(value) || len(letters[0].Raw) != schemas.MaxDeadLetterRaw {
		b, _ := json.Marshal(letters)
		t.Errorf("dead letters: %.300s", b)
	}
}
