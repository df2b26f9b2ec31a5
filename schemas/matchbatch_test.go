package schemas

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/schemas/eventpb"
)

func TestMatchBatchEqualsGenerated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		optional := func(label string) []byte {
			b := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, label)
			if len(b) == 0 {
				return nil
			}
			return b
		}
		var enc MatchBatchEncoder
		want := &eventpb.MatchBatch{
			SourcePartition: rapid.Uint32().Draw(t, "partition"),
			Watermark:       rapid.Int64().Draw(t, "watermark"),
			Idle:            rapid.Bool().Draw(t, "idle"),
		}
		var matches []Match
		for range rapid.IntRange(0, 6).Draw(t, "n") {
			m := Match{
				Offset:      rapid.Int64Min(0).Draw(t, "offset"),
				Correlation: rapid.Uint64Range(1, 3).Draw(t, "correlation"),
				Step:        rapid.Uint32().Draw(t, "step"),
				Time:        rapid.Int64().Draw(t, "time"),
				Group:       optional("group"),
				Value:       optional("value"),
				Evidence:    optional("evidence"),
			}
			copy(m.ID[:], optional("id"))
			if m.HasNumber = rapid.Bool().Draw(t, "numeric"); m.HasNumber {
				m.Number = rapid.Float64().Draw(t, "number")
			}
			enc.Append(&m)
			matches = append(matches, m)

			index := -1
			for i, c := range want.Correlations {
				if c == m.Correlation {
					index = i
				}
			}
			if index < 0 {
				index = len(want.Correlations)
				want.Correlations = append(want.Correlations, m.Correlation)
			}
			p := &eventpb.Match{
				Offset: m.Offset, Correlation: uint32(index), Step: m.Step, Time: m.Time,
				Id: m.ID[:], Group: m.Group, Value: m.Value, Evidence: m.Evidence,
			}
			if m.HasNumber {
				p.Number = &m.Number
			}
			want.Matches = append(want.Matches, p)
		}
		encoded := enc.AppendTo(nil, int(want.SourcePartition), want.Watermark, want.Idle)

		got := &eventpb.MatchBatch{}
		if err := proto.Unmarshal(encoded, got); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, want) {
			t.Fatalf("generated code read\n%v\nwant\n%v", got, want)
		}

		var r MatchBatchReader
		if err := r.Reset(encoded); err != nil {
			t.Fatal(err)
		}
		if r.SourcePartition != int(want.SourcePartition) || r.Watermark != want.Watermark || r.Idle != want.Idle {
			t.Fatalf("header read as %d %d %v", r.SourcePartition, r.Watermark, r.Idle)
		}
		var read []Match
		var m Match
		for r.Next(&m) {
			read = append(read, m)
		}
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
		if diff := cmp.Diff(matches, read); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzMatchBatchReader(f *testing.F) {
	var enc MatchBatchEncoder
	enc.Append(&Match{Offset: 5, Correlation: 9, Group: []byte("g"), HasNumber: true, Number: 1.5})
	f.Add(enc.AppendTo(nil, 3, -7, true))
	f.Add([]byte{0x2a, 0x02, 0x10, 0x05}) // a match that names a correlation nobody listed
	f.Fuzz(func(t *testing.T, b []byte) {
		var r MatchBatchReader
		var m Match
		err := r.Reset(b)
		for err == nil && r.Next(&m) {
		}
		if err == nil {
			err = r.Err()
		}
		if err != nil && !errors.Is(err, ErrMatchBatchMalformed) {
			t.Errorf("error outside the declared kind: %v", err)
		}
	})
}
