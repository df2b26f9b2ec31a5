package identity

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/schemas"
)

func TestRevokedSet(t *testing.T) {
	s := newRevokedSet(3)
	first := &schemas.Revocation{Time: epoch, Reason: "keyCompromise", Source: "http://crl.example.com/a.crl"}
	if news, full := s.add("aa", "1f", first); !news || full {
		t.Errorf("news %v, full %v", news, full)
	}
	later := *first
	later.Time = epoch.Add(time.Hour)
	if news, _ := s.add("aa", "1f", &later); news {
		t.Error("a later time is news")
	}
	if got := s.get("aa", "1f"); !cmp.Equal(got, first) {
		t.Errorf("got %+v", got)
	}
	if s.get("bb", "1f") != nil || s.get("aa", "2f") != nil {
		t.Error("another issuer's or another serial number is revoked")
	}
	s.add("aa", "2", first)
	s.add("bb", "1f", first)
	if _, full := s.add("aa", "3", first); !full || s.n != 3 {
		t.Errorf("full %v with %d", full, s.n)
	}
	restored := newRevokedSet(10)
	for id := range s.dirty {
		value, err := s.encode(id)
		if err != nil {
			t.Fatal(err)
		}
		if err := restored.restore(value); err != nil {
			t.Fatal(err)
		}
	}
	if got := restored.get("bb", "1f"); !cmp.Equal(got, first) || restored.n != 3 {
		t.Errorf("restored %d, %+v", restored.n, got)
	}
	for _, bad := range []string{"", "{", `{"issuer_key_id":"aa","entries":"AAAA"}`, `{"entries":""}`} {
		if err := restored.restore([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestRevokedSetMemory has a million serial numbers, and the chunks that they are
// stored as, in the 300 MiB that they may take.
func TestRevokedSetMemory(t *testing.T) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	s := newRevokedSet(2_000_000)
	r := &schemas.Revocation{Time: epoch, Reason: "superseded", Source: "list"}
	for i := range 1_000_000 {
		s.add("aa", fmt.Sprintf("%x", i), r)
	}
	stored := 0
	for id := range s.dirty {
		value, err := s.encode(id)
		if err != nil {
			t.Fatal(err)
		}
		stored += len(value)
		if len(value) > 1<<20 {
			t.Fatalf("a chunk has %d bytes", len(value))
		}
	}
	took := heap() - before
	t.Logf("%.1f MiB in memory, %.1f MiB stored", float64(took)/(1<<20), float64(stored)/(1<<20))
	if took > 100<<20 || stored > 100<<20 {
		t.Errorf("%d bytes in memory, %d stored", took, stored)
	}
	runtime.KeepAlive(s)
}

func FuzzRevokedChunk(f *testing.F) {
	s := newRevokedSet(100)
	s.add("aa", "1f", &schemas.Revocation{Time: epoch, Source: "list"})
	for id := range s.dirty {
		value, err := s.encode(id)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		s := newRevokedSet(100)
		if s.restore(value) != nil {
			return
		}
		if s.n > 100 {
			t.Errorf("%d entries", s.n)
		}
		for id := range s.chunks {
			again := newRevokedSet(100)
			encoded, err := s.encode(id)
			if err != nil {
				t.Fatal(err)
			}
			if err := again.restore(encoded); err != nil {
				t.Errorf("what was encoded is refused: %v", err)
			}
		}
	})
}
