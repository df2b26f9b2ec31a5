package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	kgo "github.com/segmentio/kafka-go"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

const eventsTopic = schemas.TopicEvents

// Result is what came out, held against what went in.
type Result struct {
	Events       int `json:"events"`       // in the ledger
	Acknowledged int `json:"acknowledged"` // of them
	Stored       int `json:"stored"`       // in ClickHouse
	Late         int `json:"late"`         // of them, too late for windows
	Detections   int `json:"detections"`   // that the oracle finds
	Messages     int `json:"messages"`     // webhook messages that must have been taken

	// Lost is what is missing, Duplicated what is there too often or at all: the sums
	// of the next six. Both must be 0.
	Lost       int `json:"lost"`
	Duplicated int `json:"duplicated"`

	EventsLost      int `json:"events_lost"`
	EventsExtra     int `json:"events_extra"`
	DetectionsLost  int `json:"detections_lost"`  // in the topic or in ClickHouse
	DetectionsExtra int `json:"detections_extra"` // likewise
	MessagesLost    int `json:"messages_lost"`
	MessagesExtra   int `json:"messages_extra"`
	DeadLetters     int `json:"dead_letters"`
	ForgedMessages  int `json:"forged_messages"`
	// Differences names some of what is wrong.
	Differences []string `json:"differences,omitempty"`
}

// clean reports whether nothing is wrong.
func (r *Result) clean() bool {
	return r.Lost == 0 && r.Duplicated == 0 && r.DeadLetters == 0 && r.ForgedMessages == 0
}

const maxDifferences = 60

func (r *Result) differ(format string, args ...any) {
	if len(r.Differences) < maxDifferences {
		r.Differences = append(r.Differences, fmt.Sprintf(format, args...))
	}
}

// verifier asks the ends of the pipeline.
type verifier struct {
	client     *kafka.Client
	admin      *kgo.Client
	clickhouse string // URL
	ledger     map[schemas.EventID]entry
	expected   []outcome // the oracle's
	happened   int       // events that it was given
}

func newVerifier(client *kafka.Client, brokers []string, clickhouse string, ledger map[schemas.EventID]entry) *verifier {
	return &verifier{
		client: client, admin: &kgo.Client{Addr: kgo.TCP(brokers...), Timeout: 10 * time.Second},
		clickhouse: clickhouse, ledger: ledger,
	}
}

// expect asks the oracle what must be found in all events that were acknowledged,
// and in those that got in though nobody said so.
func (v *verifier) expect(stored map[string]int) {
	var events []*event
	for id, e := range v.ledger {
		if e.acknowledged || stored[id.String()] > 0 {
			events = append(events, e.event)
		}
	}
	// There can only be more of them than the last time.
	if len(events) > v.happened {
		v.expected, v.happened = oracle(events), len(events)
	}
}

// readers are the consumer groups, and the topics that they must have read.
var readers = map[string][]string{
	"tocsin-correlate":               {schemas.TopicEvents, schemas.TopicMatches},
	"tocsin-clickhouse":              {schemas.TopicEvents},
	"tocsin-clickhouse-detections":   {schemas.TopicDetections},
	"tocsin-clickhouse-certificates": {schemas.TopicIdentities},
	"tocsin-clickhouse-actions":      {schemas.TopicActions},
	"tocsin-clickhouse-deadletters":  {schemas.TopicDeadLetter},
	"tocsin-webhook-chaos":           {schemas.TopicDetections},
}

// lag returns the records that a consumer group has not committed yet, over all.
func (v *verifier) lag(ctx context.Context) (total int64, where string, err error) {
	for group, topics := range readers {
		for _, topic := range topics {
			partitions, err := v.client.Partitions(ctx, topic)
			if err != nil {
				return 0, "", err
			}
			list := make([]int, partitions)
			for p := range list {
				list[p] = p
			}
			res, err := v.admin.OffsetFetch(ctx, &kgo.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: list}})
			if err == nil {
				err = res.Error
			}
			if err != nil {
				return 0, "", fmt.Errorf("offsets of %s: %w", group, err)
			}
			for _, p := range res.Topics[topic] {
				if p.Error != nil {
					return 0, "", fmt.Errorf("offsets of %s: %w", group, p.Error)
				}
				end, err := v.client.LastOffset(ctx, topic, p.Partition)
				if err != nil {
					return 0, "", err
				}
				if behind := end - max(0, p.CommittedOffset); behind > 0 {
					total += behind
					where = fmt.Sprintf("%s has committed %s/%d at %d of %d", group, topic, p.Partition, p.CommittedOffset, end)
				}
			}
		}
	}
	return total, where, nil
}

// verify compares everything.
func (v *verifier) verify(ctx context.Context, taken map[string]int, forged int) (*Result, error) {
	r := &Result{Events: len(v.ledger), ForgedMessages: forged}
	for _, e := range v.ledger {
		if e.acknowledged {
			r.Acknowledged++
		}
	}
	if err := v.events(ctx, r); err != nil {
		return nil, err
	}
	findings, err := v.topic(ctx)
	if err != nil {
		return nil, err
	}
	v.compare(r, "topic", outcomesOf(findings))
	stored, err := v.stored(ctx)
	if err != nil {
		return nil, err
	}
	v.compare(r, "ClickHouse", stored)
	messages(r, findings, taken)
	letters, err := v.ask(ctx, "SELECT reason, origin, error FROM dead_letters FINAL")
	if err != nil {
		return nil, err
	}
	r.DeadLetters = len(letters)
	for _, l := range letters {
		r.differ("dead letter: %s", strings.Join(l, " "))
	}
	r.Lost = r.EventsLost + r.DetectionsLost + r.MessagesLost
	r.Duplicated = r.EventsExtra + r.DetectionsExtra + r.MessagesExtra
	return r, nil
}

// events compares the stored events with the ledger. What the pipeline itself has
// to say of devices (source behavior) is in no ledger; it must be there once for
// each device and interval.
func (v *verifier) events(ctx context.Context, r *Result) error {
	own, err := v.ask(ctx, `SELECT device, event_type, time, count() FROM events_distinct WHERE source = 'behavior' GROUP BY ALL HAVING count() > 1`)
	if err != nil {
		return err
	}
	for _, row := range own {
		r.EventsExtra++
		r.differ("%s of %s at %s is %s times in events_distinct", row[1], row[0], row[2], row[3])
	}
	rows, err := v.ask(ctx, "SELECT lower(replaceAll(toString(id), '-', '')), late FROM events_distinct WHERE source != 'behavior'")
	if err != nil {
		return err
	}
	times := map[string]int{}
	for _, row := range rows {
		times[row[0]]++
		if row[1] == "true" {
			r.Late++
		}
	}
	r.Stored = len(times)
	v.expect(times)
	r.Detections = len(v.expected)
	for id, e := range v.ledger {
		n := times[id.String()]
		delete(times, id.String())
		// One that was never acknowledged may be there or not.
		if n == 0 && e.acknowledged {
			r.EventsLost++
			r.differ("event %s of %s at %d was acknowledged and is not in ClickHouse", id, e.event.device, e.event.time)
		}
		if n > 1 {
			r.EventsExtra++
			r.differ("event %s is %d times in events_distinct", id, n)
		}
	}
	for id := range times {
		r.EventsExtra++
		r.differ("event %s is in ClickHouse and was never sent", id)
	}
	return nil
}

// topic reads all of tocsin.detections.
func (v *verifier) topic(ctx context.Context) ([]*schemas.Finding, error) {
	partitions, err := v.client.Partitions(ctx, schemas.TopicDetections)
	if err != nil {
		return nil, err
	}
	var out []*schemas.Finding
	for p := range partitions {
		err := v.client.ReadAll(ctx, schemas.TopicDetections, p, func(rec *kafka.FetchedRecord) error {
			f := new(schemas.Finding)
			if err := json.Unmarshal(rec.Value, f); err != nil {
				return fmt.Errorf("%s/%d@%d: %w", schemas.TopicDetections, p, rec.Offset, err)
			}
			out = append(out, f)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// outcomesOf returns the newest state of every detection, but for those that late
// events made a part of others or showed to be wrong.
func outcomesOf(findings []*schemas.Finding) map[string]outcome {
	newest := map[string]*schemas.Finding{}
	for _, f := range findings {
		if b := newest[f.FindingInfo.UID]; b == nil || f.Unmapped.Revision >= b.Unmapped.Revision {
			newest[f.FindingInfo.UID] = f
		}
	}
	out := map[string]outcome{}
	for id, f := range newest {
		if f.Status == "Suppressed" {
			continue
		}
		var ids []string
		for _, e := range f.FindingInfo.RelatedEvents {
			ids = append(ids, e.UID)
		}
		if !f.Unmapped.EvidenceComplete {
			ids = make([]string, evidenceBound+1)
		}
		group := ""
		for _, value := range f.Unmapped.Group {
			group = value // there is one
		}
		out[id] = outcomeOf(f.FindingInfo.Analytic.UID, group, f.Status, f.StartTime, f.EndTime, ids, f.Count)
	}
	return out
}

// outcomeOf is newOutcome for a detection that must have come to its end.
func outcomeOf(rule, group, status string, first, last int64, ids []string, count int64) outcome {
	o := newOutcome(rule, group, first, last, ids, count)
	if rule != "revoked" && status != "Resolved" {
		o.Evidence += " (" + status + ")" // equal to nothing that is expected
	}
	return o
}

// stored returns the detections that ClickHouse shows, by ID.
func (v *verifier) stored(ctx context.Context) (map[string]outcome, error) {
	rows, err := v.ask(ctx, `SELECT detection_id, toJSONString(tuple(rule_id, mapValues(group_values)[1], status, toUnixTimestamp64Milli(first_seen),
		toUnixTimestamp64Milli(last_seen), arrayMap(x -> lower(replaceAll(toString(x), '-', '')), evidence_ids), count, evidence_complete))
		FROM detections_current WHERE status != 'Suppressed' SETTINGS output_format_json_quote_64bit_integers = 0`)
	if err != nil {
		return nil, err
	}
	out := map[string]outcome{}
	for _, row := range rows {
		var rule, group, status string
		var first, last, count int64
		var ids []string
		var complete bool
		if err := json.Unmarshal([]byte(row[1]), &[]any{&rule, &group, &status, &first, &last, &ids, &count, &complete}); err != nil {
			return nil, fmt.Errorf("%w in %s", err, row[1])
		}
		if !complete {
			ids = make([]string, evidenceBound+1)
		}
		out[row[0]] = outcomeOf(rule, group, status, first, last, ids, count)
	}
	return out, nil
}

// compare holds detections against the oracle's.
func (v *verifier) compare(r *Result, where string, got map[string]outcome) {
	ids := map[outcome][]string{}
	for id, o := range got {
		ids[o] = append(ids[o], id)
	}
	for _, o := range v.expected {
		if n := len(ids[o]); n > 0 {
			ids[o] = ids[o][:n-1]
			continue
		}
		r.DetectionsLost++
		r.differ("%s: no detection %s", where, o)
	}
	for o, left := range ids {
		for _, id := range left {
			r.DetectionsExtra++
			r.differ("%s: detection %s too many: %s", where, id, o)
		}
	}
}

// messages compares what the receiver took with what the topic says that it must
// have: for each detection that it began, and that it ended.
func messages(r *Result, findings []*schemas.Finding, taken map[string]int) {
	want := map[string]bool{}
	for _, f := range findings {
		switch f.ActivityID {
		case schemas.ActivityCreate:
			want[f.FindingInfo.UID+"_created"] = true
		case schemas.ActivityClose:
			want[f.FindingInfo.UID+"_closed"] = true
		}
	}
	r.Messages = len(want)
	for id := range want {
		if taken[id] == 0 {
			r.MessagesLost++
			r.differ("the webhook %s was never taken", id)
		}
	}
	for id := range taken {
		if !want[id] {
			r.MessagesExtra++
			r.differ("the webhook %s is about nothing in tocsin.detections", id)
		}
	}
}

// ask sends a query and returns the rows.
func (v *verifier) ask(ctx context.Context, sql string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.clickhouse+"/?database=tocsin&default_format=TSVRaw", strings.NewReader(sql))
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("ClickHouse: %s: %.500s", res.Status, body)
	}
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for line := range strings.Lines(string(body)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return slices.Clip(rows), nil
}
