package schemas

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/schemas/eventpb"
)

// TestMatchBatchEqualsGenerated: what the encoder writes, generated code and the
// reader read as the same matches, alone and in runs.
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
		if rapid.Bool().Draw(t, "reused") {
			enc.Append(&Match{Correlation: 77, Group: []byte("before"), Value: []byte("x")})
			enc.Reset()
		}
		partition, watermark, idle := rapid.Uint32().Draw(t, "partition"), rapid.Int64().Draw(t, "watermark"), rapid.Bool().Draw(t, "idle")
		var matches []Match
		heavyStep := rapid.Uint32Range(0, 1).Draw(t, "heavy step")
		for range rapid.IntRange(0, 3*RunLength).Draw(t, "n") {
			m := Match{
				Offset:      rapid.Int64Min(0).Draw(t, "offset"),
				Index:       rapid.Uint32().Draw(t, "index"),
				Correlation: rapid.Uint64Range(1, 2).Draw(t, "correlation"),
				Step:        rapid.Uint32Range(0, 1).Draw(t, "step"),
				Time:        rapid.Int64().Draw(t, "time"),
				Group:       rapid.SampledFrom([][]byte{nil, []byte("g"), []byte("long group")}).Draw(t, "group"),
				Value:       rapid.SampledFrom([][]byte{nil, []byte("v"), []byte("w")}).Draw(t, "value"),
				Evidence:    optional("evidence"),
			}
			if rapid.IntRange(0, 4).Draw(t, "heavy") > 0 {
				m.Correlation, m.Step, m.Group = 1, heavyStep, []byte("g")
			}
			copy(m.ID[:], optional("id"))
			if m.HasNumber = m.Step == 1; m.HasNumber {
				m.Number = rapid.Float64().Draw(t, "number")
			}
			if m.Correlation == 2 {
				m.Value = nil
			}
			enc.Append(&m)
			matches = append(matches, m)
		}
		encoded := enc.AppendTo(nil, int(partition), watermark, idle)
		got := &eventpb.MatchBatch{}
		if err := proto.Unmarshal(encoded, got); err != nil {
			t.Fatal(err)
		}
		if got.GetSourcePartition() != partition || got.GetWatermark() != watermark || got.GetIdle() != idle {
			t.Fatalf("generated code read %v", got)
		}
		var r MatchBatchReader
		if err := r.Reset(encoded); err != nil {
			t.Fatal(err)
		}
		if r.SourcePartition != int(partition) || r.Watermark != watermark || r.Idle != idle {
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
		want := encodedOrder(matches)
		text := func(a, b Match) bool { return fmt.Sprint(a) < fmt.Sprint(b) }
		if diff := cmp.Diff(want, generatedMatches(got), cmpopts.EquateEmpty(), cmpopts.SortSlices(text)); diff != "" {
			t.Fatalf("generated code (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, read); diff != "" {
			t.Fatalf("reader (-want +got):\n%s", diff)
		}
	})
}

// encodedOrder puts matches into the order of their steps and groups, and takes
// from those of runs the evidence.
func encodedOrder(matches []Match) (out []Match) {
	type key struct {
		correlation uint64
		step        uint32
		group       string
	}
	groups := make(map[key][]Match)
	var order []key
	for _, m := range matches {
		k := key{m.Correlation, m.Step, string(m.Group)}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], m)
	}
	for _, k := range order {
		for _, m := range groups[k] {
			if len(groups[k]) >= RunLength {
				m.Evidence = nil
			}
			out = append(out, m)
		}
	}
	return out
}

// generatedMatches spells a batch out.
func generatedMatches(b *eventpb.MatchBatch) []Match {
	var out []Match
	for _, p := range b.GetMatches() {
		m := Match{
			Offset: p.GetOffset(), Index: p.GetIndex(), Correlation: b.GetCorrelations()[p.GetCorrelation()], Step: p.GetStep(), Time: p.GetTime(),
			Group: p.GetGroup(), Value: p.GetValue(), Evidence: p.GetEvidence(), HasNumber: p.Number != nil, Number: p.GetNumber(),
		}
		copy(m.ID[:], p.GetId())
		out = append(out, m)
	}
	for _, r := range b.GetRuns() {
		var m Match
		next := uint32(0)
		for i, ids := 0, r.GetIds(); i < len(ids)/len(m.ID); i++ {
			m.Correlation, m.Step, m.Group = b.GetCorrelations()[r.GetCorrelation()], r.GetStep(), r.GetGroup()
			copy(m.ID[:], ids[i*len(m.ID):])
			m.Time += r.GetTimes()[i]
			m.Offset += r.GetOffsets()[i]
			m.Index += uint32(r.GetIndexes()[i])
			if values := r.GetValue(); values != nil {
				at := values[i]
				if at == 0 {
					next++
					at = next
				}
				m.Value = r.GetValues()[at-1]
			}
			if numbers := r.GetNumbers(); numbers != nil {
				m.HasNumber, m.Number = true, numbers[i]
			}
			out = append(out, m)
		}
	}
	return out
}

func FuzzMatchBatchReader(f *testing.F) {
	var enc MatchBatchEncoder
	enc.Append(&Match{Offset: 5, Correlation: 9, Group: []byte("g"), HasNumber: true, Number: 1.5})
	f.Add(enc.AppendTo(nil, 3, -7, true))
	for i := range uint32(2 * RunLength) {
		enc.Append(&Match{Index: i, Correlation: 9, Group: []byte("run"), Value: []byte{byte(i % 5)}})
	}
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
