package correlate

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tocsin-io/tocsin/schemas"
)

// TestEvidenceIsReadFromItsPlace: of places that there are, the evidence; of all
// others nothing, and never that of another event.
func TestEvidenceIsReadFromItsPlace(t *testing.T) {
	t.Parallel()
	k := fakeCluster(t, 2)
	id := func(record, index int) schemas.EventID { return eventID(fmt.Sprint(record, "/", index)) }
	for record := range 3 {
		var enc schemas.BatchEncoder
		for index := range 4 {
			enc.Append(&schemas.Event{ID: id(record, index), Source: []byte("iot"), Device: fmt.Appendf(nil, "%d/%d", record, index)}, "lane")
		}
		k.produce(schemas.TopicEvents, 1, enc.Bytes())
	}
	k.produce(schemas.TopicEvents, 1, []byte("no batch"))
	metrics := newMetrics(nil)
	r := evidenceReader{client: k.client, looks: metrics.evidence, patience: time.Minute}
	place := func(id schemas.EventID, partition int, offset int64, index uint32) EvidenceEvent {
		return EvidenceEvent{ID: id, Blob: appendPlace(nil, eventPlace{partition, offset, index})}
	}
	events := []EvidenceEvent{
		place(id(2, 3), 1, 2, 3),
		place(id(0, 1), 1, 0, 1),
		{ID: id(1, 0), Blob: appendEvidence(nil, &schemas.Event{Device: []byte("its own")})},
		place(id(2, 0), 1, 2, 0),
		place(id(0, 2), 1, 0, 1), // another event stands there
		place(id(1, 4), 1, 1, 4), // beyond the record
		place(id(0, 0), 1, 3, 0), // in what is no batch
		place(id(0, 0), 1, 99, 0),
		place(id(0, 0), 0, 0, 0), // of an empty partition
		{ID: id(0, 0)},
	}
	devices := func(events []EvidenceEvent) (out []string) {
		for _, e := range events {
			out = append(out, decodeEvidence(e.Blob).Device)
		}
		return out
	}
	want := []string{"2/3", "0/1", "its own", "2/0", "", "", "", "", "", ""}
	for range 2 {
		if diff := cmp.Diff(want, devices(r.resolve(t.Context(), events))); diff != "" {
			t.Errorf("devices (-want +got):\n%s", diff)
		}
	}
	if d := devices(events); d[0] != "" {
		t.Error("the windows' own evidence was changed")
	}
	// What is known needs no broker; what is not, does not stop the partition.
	away := k.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.NotLeaderForPartition, Count: -1})
	defer away.Remove()
	r.patience = 200 * time.Millisecond
	if diff := cmp.Diff(want[:4], devices(r.resolve(t.Context(), events[:4]))); diff != "" {
		t.Errorf("known (-want +got):\n%s", diff)
	}
	if got := devices(r.resolve(t.Context(), []EvidenceEvent{place(id(1, 1), 1, 1, 1), events[2]})); got[0] != "" || got[1] != "its own" {
		t.Errorf("without a broker: %q", got)
	}
	away.Remove()
	r.patience = time.Minute
	if got := devices(r.resolve(t.Context(), []EvidenceEvent{place(id(1, 1), 1, 1, 1)})); got[0] != "1/1" {
		t.Errorf("with the broker back: %q", got)
	}
}
