package schemas

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/schemas/eventpb"
)

// genEvent draws events with any combination of present and absent fields.
// Strings are valid UTF-8, as the decoders promise.
func genEvent(t *rapid.T) Event {
	text := func(label string) []byte {
		s := rapid.StringN(0, 12, 40).Draw(t, label)
		if s == "" {
			return nil
		}
		return []byte(s)
	}
	ev := Event{
		Time:              rapid.Int64().Draw(t, "time"),
		IngestTime:        rapid.Int64().Draw(t, "ingest"),
		Source:            text("source"),
		Type:              text("type"),
		Account:           text("account"),
		Region:            text("region"),
		Device:            text("device"),
		ClientID:          text("client"),
		ThingName:         text("thing"),
		CertificateID:     text("certificate"),
		SourceIP:          text("ip"),
		RoleSession:       text("session"),
		Message:           text("message"),
		Outcome:           Outcome(rapid.IntRange(0, 2).Draw(t, "outcome")),
		CertificateStatus: CertificateStatus(rapid.IntRange(0, 8).Draw(t, "status")),
	}
	copy(ev.ID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	if rapid.Bool().Draw(t, "expiry") {
		ev.HasExpiry = true
		ev.DaysToExpiry = rapid.Int32().Draw(t, "days")
	}
	return ev
}

// toProto is the envelope as the generated code has it.
func toProto(ev *Event, lane uint32) *eventpb.Event {
	p := &eventpb.Event{
		Id: ev.ID[:], Time: ev.Time, IngestTime: ev.IngestTime,
		Source: string(ev.Source), EventType: string(ev.Type), Account: string(ev.Account),
		Region: string(ev.Region), Device: string(ev.Device), ClientId: string(ev.ClientID),
		ThingName: string(ev.ThingName), CertificateId: string(ev.CertificateID),
		SourceIp: string(ev.SourceIP), RoleSession: string(ev.RoleSession),
		Outcome:           eventpb.Outcome(ev.Outcome),
		CertificateStatus: eventpb.CertificateStatus(ev.CertificateStatus),
		Message:           ev.Message, Lane: lane,
	}
	if ev.HasExpiry {
		p.CertificateDaysToExpiry = &ev.DaysToExpiry
	}
	return p
}

// The hand-written codec and the generated one must be interchangeable.
func TestBatchEqualsGenerated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lanes := []string{"firehose/a", "kinesis/b/shardId-000000000001", "file"}
		var enc BatchEncoder
		want := &eventpb.EventBatch{}
		index := map[string]uint32{}
		var events []Event
		for range rapid.IntRange(0, 8).Draw(t, "n") {
			ev := genEvent(t)
			lane := rapid.SampledFrom(lanes).Draw(t, "lane")
			if _, ok := index[lane]; !ok {
				index[lane] = uint32(len(want.Lanes))
				want.Lanes = append(want.Lanes, lane)
			}
			ev.Lane = index[lane]
			enc.Append(&ev, lane)
			want.Events = append(want.Events, toProto(&ev, ev.Lane))
			events = append(events, ev)
		}

		got := &eventpb.EventBatch{}
		if err := proto.Unmarshal(enc.Bytes(), got); err != nil {
			t.Fatalf("generated code cannot read the hand-written encoding: %v", err)
		}
		if !proto.Equal(got, want) {
			t.Fatalf("generated code read\n%v\nwant\n%v", got, want)
		}

		// The other way round, and with fields in the generated code's order.
		b, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		for _, encoded := range [][]byte{enc.Bytes(), b} {
			var r BatchReader
			r.Reset(encoded)
			var ev Event
			var read []Event
			for r.Next(&ev) {
				read = append(read, *ev.Clone())
			}
			if r.Err() != nil {
				t.Fatal(r.Err())
			}
			if diff := cmp.Diff(events, read); diff != "" {
				t.Fatalf("read back (-want +got):\n%s", diff)
			}
		}
	})
}

func TestBatchReaderKnowsLaneBeforeEvent(t *testing.T) {
	var enc BatchEncoder
	enc.Append(&Event{Time: 1}, "a")
	enc.Append(&Event{Time: 2}, "b")
	enc.Append(&Event{Time: 3}, "a")
	var r BatchReader
	r.Reset(enc.Bytes())
	var ev Event
	var got []string
	for r.Next(&ev) {
		got = append(got, string(r.Lane(ev.Lane)))
	}
	if diff := cmp.Diff([]string{"a", "b", "a"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestBatchReaderSkipsFieldsOfLaterVersions(t *testing.T) {
	later := toProto(&Event{Time: 7}, 0)
	later.ProtoReflect().SetUnknown([]byte{
		0xa0, 0x06, 0x05, // field 100, varint
		0xad, 0x06, 1, 2, 3, 4, // field 101, fixed32
		0xa9, 0x07, 1, 2, 3, 4, 5, 6, 7, 8, // field 117, fixed64
		0xb2, 0x06, 2, 'h', 'i', // field 102, bytes
	})
	b, err := proto.Marshal(&eventpb.EventBatch{Events: []*eventpb.Event{later}})
	if err != nil {
		t.Fatal(err)
	}
	var r BatchReader
	r.Reset(b)
	var ev Event
	if !r.Next(&ev) || ev.Time != 7 || r.Err() != nil {
		t.Errorf("got time %d, err %v", ev.Time, r.Err())
	}
}

func TestBatchCodecDoesNotAllocate(t *testing.T) {
	ev := Event{
		Time: 1, Source: []byte(SourceIoT), Type: []byte("Connect"), Device: []byte("pump-1"),
		Message: bytes.Repeat([]byte("x"), 400),
	}
	var enc BatchEncoder
	var r BatchReader
	var out Event
	n := testing.AllocsPerRun(100, func() {
		enc.Reset()
		for range 100 {
			enc.Append(&ev, "firehose/fleet")
		}
		r.Reset(enc.Bytes())
		for r.Next(&out) {
		}
	})
	if n > 0 {
		t.Errorf("%v allocations for 100 events, want 0", n)
	}
}

func TestEventIDSeparatesParts(t *testing.T) {
	a := NewEventID([]byte("ab"), []byte("c"))
	b := NewEventID([]byte("a"), []byte("bc"))
	if a == b {
		t.Error("parts run into each other")
	}
	if a != NewEventID([]byte("ab"), []byte("c")) {
		t.Error("not stable")
	}
}

func TestPartitionSpreadsAndStays(t *testing.T) {
	counts := make([]int, 16)
	for i := range 16000 {
		key := []byte{byte(i), byte(i >> 8), 'x'}
		p := Partition(key, len(counts))
		if p != Partition(key, len(counts)) {
			t.Fatal("not stable")
		}
		counts[p]++
	}
	for p, n := range counts {
		if math.Abs(float64(n)-1000) > 200 {
			t.Errorf("partition %d got %d of 16000 keys", p, n)
		}
	}
}

func FuzzBatchReader(f *testing.F) {
	var enc BatchEncoder
	enc.Append(&Event{Time: 1, Source: []byte("iot"), HasExpiry: true, DaysToExpiry: -3}, "lane")
	f.Add(enc.Bytes())
	f.Add([]byte{0x0a, 0x05, 0x0a})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r BatchReader
		r.Reset(b)
		var ev Event
		for r.Next(&ev) {
			_ = r.Lane(ev.Lane)
		}
		if err := r.Err(); err != nil && !errors.Is(err, ErrBatchMalformed) {
			t.Errorf("error outside the declared kind: %v", err)
		}
	})
}
