package behavior

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// testStart is the beginning of an interval, long ago.
var testStart = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)

const testCertificate = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"

// sent is what a worker has derived, acknowledged at once.
type sent struct {
	mu         sync.Mutex
	events     []*schemas.Event
	lanes      []string
	identities map[string]string // newest value by key
	partitions map[string]int    // that it went to
}

func (s *sent) ProduceAsync(_ context.Context, topic string, partition int, rec kafka.Record, done func(int64, error)) {
	s.mu.Lock()
	if topic == schemas.TopicEvents {
		var r schemas.BatchReader
		r.Reset(rec.Value)
		var ev schemas.Event
		for r.Next(&ev) {
			s.events = append(s.events, ev.Clone())
			s.lanes = append(s.lanes, string(r.Lane(ev.Lane)))
		}
	} else {
		if s.identities == nil {
			s.identities, s.partitions = make(map[string]string), make(map[string]int)
		}
		s.identities[string(rec.Key)], s.partitions[string(rec.Key)] = string(rec.Value), partition
	}
	s.mu.Unlock()
	done(0, nil)
}

// rig is the worker of one partition, fed by hand.
type rig struct {
	t      *testing.T
	replay *Replay
	sent   *sent
	offset int64
}

func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, sent: &sent{}}
	opts := Options{Producer: r.sent, Logger: zaptest.NewLogger(t), LeastFleet: 1, Now: func() time.Time { return testStart }}
	if change != nil {
		change(&opts)
	}
	r.replay = NewReplay(opts, 0, 1, 1)
	return r
}

// event is one in the making.
type event struct {
	schemas.Event
	lane string
}

// at returns an event of a device, seconds after testStart.
func at(seconds float64, device, typ string, change ...func(*event)) *event {
	ms := testStart.UnixMilli() + int64(seconds*1000)
	e := &event{lane: "firehose/logs", Event: schemas.Event{
		ID: schemas.NewEventID([]byte(fmt.Sprint(seconds, device, typ))), Time: ms, IngestTime: ms + 500, Source: []byte(schemas.SourceIoT), Type: []byte(typ),
		Account: []byte("111122223333"), Region: []byte("eu-west-1"), Device: []byte(device), ClientID: []byte(device),
		CertificateID: []byte(testCertificate), SourceIP: []byte("198.51.100.7"), Outcome: schemas.OutcomeSuccess, Message: []byte(`{}`),
	}}
	for _, f := range change {
		f(e)
	}
	return e
}

func from(ip string) func(*event) { return func(e *event) { e.SourceIP = []byte(ip) } }
func by(lane string) func(*event) { return func(e *event) { e.lane = lane } }
func source(s string) func(*event) {
	return func(e *event) { e.Source = []byte(s) }
}

func saying(message string) func(*event) {
	return func(e *event) { e.Message = []byte(message) }
}

func failing(message string) func(*event) {
	return func(e *event) { e.Outcome, e.Message = schemas.OutcomeFailure, []byte(message) }
}

func encode(events ...*event) []byte {
	var b schemas.BatchEncoder
	for _, e := range events {
		b.Append(&e.Event, e.lane)
	}
	return append([]byte(nil), b.Bytes()...)
}

// feed gives the worker a record of each event.
func (r *rig) feed(events ...*event) {
	r.t.Helper()
	for _, e := range events {
		r.replay.Record(r.t.Context(), &kafka.FetchedRecord{Offset: r.offset, Value: encode(e)})
		r.offset++
	}
}

// derived flushes and returns the messages of the derived events of a type, in order.
func (r *rig) derived(typ string) []map[string]any {
	r.t.Helper()
	if err := r.replay.Flush(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return messages(r.t, r.sent.events, typ)
}

func messages(t *testing.T, events []*schemas.Event, typ string) []map[string]any {
	t.Helper()
	var out []map[string]any
	for _, e := range events {
		if string(e.Source) != schemas.SourceBehavior {
			t.Errorf("an event of source %s", e.Source)
		}
		if string(e.Type) != typ {
			continue
		}
		var m map[string]any
		if err := json.Unmarshal(e.Message, &m); err != nil {
			t.Fatalf("%s: %v", e.Message, err)
		}
		m["time"] = time.UnixMilli(e.Time).Sub(testStart).Seconds()
		out = append(out, m)
	}
	return out
}

func only(m map[string]any, names string) string {
	var b strings.Builder
	for name := range strings.FieldsSeq(names) {
		fmt.Fprintf(&b, "%s=%v ", name, m[name])
	}
	return strings.TrimSpace(b.String())
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}
