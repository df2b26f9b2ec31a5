package correlate

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

const (
	// maxKnownEvidence bounds the evidence that an evidenceReader remembers. A
	// detection names the same first events again and again.
	maxKnownEvidence = 4096
	// evidencePatience is how long a detection waits for the brokers that have its
	// evidence. Without it the detection names events by their IDs and times alone.
	evidencePatience = 5 * time.Second
)

// What came of a look for evidence; values of the label result.
const (
	evidenceRead    = "read"
	evidenceKnown   = "known"
	evidenceMissing = "missing" // retention took the record, or nobody answered in time
)

// eventPlace is where an event stands in tocsin.events. Matches of heavy groups
// come with it in place of their evidence: of a thousand of them a detection
// names twenty.
type eventPlace struct {
	partition int
	offset    int64
	index     uint32 // in the record
}

func (p eventPlace) compare(o eventPlace) int {
	return cmp.Or(cmp.Compare(p.partition, o.partition), cmp.Compare(p.offset, o.offset), cmp.Compare(p.index, o.index))
}

// appendPlace encodes a place so that the windows can keep it as evidence: a
// tuple of one, which no evidence is.
func appendPlace(dst []byte, p eventPlace) []byte {
	var buf [3 * binary.MaxVarintLen64]byte
	b := binary.AppendUvarint(buf[:0], uint64(p.partition))
	b = binary.AppendUvarint(b, uint64(p.offset))
	b = binary.AppendUvarint(b, uint64(p.index))
	return AppendTuple(dst, b)
}

// decodePlace is appendPlace's inverse; false for evidence.
func decodePlace(blob []byte) (eventPlace, bool) {
	fields, err := DecodeTuple(blob)
	if err != nil || len(fields) != 1 {
		return eventPlace{}, false
	}
	var v [3]uint64
	rest := fields[0]
	for i := range v {
		value, n := binary.Uvarint(rest)
		if n <= 0 {
			return eventPlace{}, false
		}
		v[i], rest = value, rest[n:]
	}
	return eventPlace{partition: int(v[0]), offset: int64(v[1]), index: uint32(v[2])}, true
}

// evidenceReader puts evidence where the windows have places. It is for one
// goroutine.
type evidenceReader struct {
	client   *kafka.Client
	looks    *prometheus.CounterVec
	patience time.Duration // how long one detection waits
	known    map[eventPlace]knownEvidence
	buf      kafka.FetchBuffer
	reader   schemas.BatchReader
}

type knownEvidence struct {
	id   schemas.EventID
	blob []byte
}

// resolve returns the events with evidence for places. What cannot be read stays
// a place, of which a finding says nothing; so does that of an event with another
// ID, which is of a topic that was made anew since.
func (r *evidenceReader) resolve(ctx context.Context, events []EvidenceEvent) []EvidenceEvent {
	if len(r.known)+len(events) > maxKnownEvidence || r.known == nil {
		r.known = make(map[eventPlace]knownEvidence)
	}
	var unknown []eventPlace
	for i := range events {
		if place, ok := decodePlace(events[i].Blob); ok {
			if known, ok := r.known[place]; ok && known.id == events[i].ID {
				r.looks.WithLabelValues(evidenceKnown).Inc()
			} else {
				unknown = append(unknown, place)
			}
		}
	}
	if len(unknown) > 0 {
		r.read(ctx, unknown)
	}
	out := slices.Clone(events)
	for i := range out {
		if place, ok := decodePlace(out[i].Blob); ok {
			if known, ok := r.known[place]; ok && known.id == out[i].ID {
				out[i].Blob = known.blob
			}
		}
	}
	return out
}

// read looks for the events at these places, record by record.
func (r *evidenceReader) read(ctx context.Context, places []eventPlace) {
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	slices.SortFunc(places, eventPlace.compare)
	places = slices.Compact(places)
	for len(places) > 0 {
		n := 1
		for n < len(places) && places[n].partition == places[0].partition && places[n].offset == places[0].offset {
			n++
		}
		found := r.readRecord(ctx, places[:n])
		r.looks.WithLabelValues(evidenceRead).Add(float64(found))
		r.looks.WithLabelValues(evidenceMissing).Add(float64(n - found))
		places = places[n:]
	}
}

// readRecord remembers the evidence of the events at places, which are of one
// record and in order, and returns how many there were.
func (r *evidenceReader) readRecord(ctx context.Context, places []eventPlace) (found int) {
	batch, err := r.client.FetchFrom(ctx, schemas.TopicEvents, places[0].partition, places[0].offset, &r.buf)
	if err != nil {
		return 0
	}
	at := slices.IndexFunc(batch.Records, func(rec kafka.FetchedRecord) bool { return rec.Offset == places[0].offset })
	if at < 0 {
		return 0
	}
	r.reader.Reset(batch.Records[at].Value)
	var ev schemas.Event
	for i := uint32(0); len(places) > 0 && r.reader.Next(&ev); i++ {
		if i == places[0].index {
			r.known[places[0]] = knownEvidence{ev.ID, appendEvidence(nil, &ev)}
			places = places[1:]
			found++
		}
	}
	return found
}
