package benchmarks

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bits-and-blooms/bloom/v3"

	"github.com/tocsin-io/tocsin/internal/registry"
	"github.com/tocsin-io/tocsin/schemas"
)

// registrySize is how many certificates the registry's benchmarks are about.
func registrySize() int {
	if testing.Short() {
		return 200_000
	}
	return 10_000_000
}

// registryFleet is a table of certificates, with the IDs of some of them.
type registryFleet struct {
	table     *registry.Table
	ids       []byte   // 64 bytes each
	attention [][]byte // IDs of those that are not ACTIVE or expire within 90 days
	perEach   float64  // bytes of heap per certificate
}

const sampledIDs = 1 << 18

func newRegistryFleet() *registryFleet {
	n := registrySize()
	rng := rand.New(rand.NewPCG(1, 2))
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	f := &registryFleet{table: registry.New(registry.Options{})}
	before := heapInUse()
	random := func(b []byte) string {
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return hex.EncodeToString(b)
	}
	var id, key [32]byte
	var serial [20]byte
	for i := range n {
		name := fmt.Sprintf("pump-%08d", i)
		issued := now.AddDate(0, 0, -rng.IntN(640)).Add(-time.Duration(rng.IntN(86400)) * time.Second)
		c := schemas.Certificate{
			ID: random(id[:]), Serial: strings.TrimLeft(random(serial[:]), "0"),
			Issuer: fmt.Sprintf("CN=Fleet CA %d,O=Example", i%4), IssuerKeyID: fmt.Sprintf("5f0a3b%034d", i%4), CAID: fmt.Sprintf("%064d", i%4),
			Subject: "CN=" + name, NotBefore: issued, NotAfter: issued.AddDate(2, 0, 0),
			Key:    schemas.KeyInfo{Type: "ECDSA", Bits: 256, SHA256: random(key[:])},
			Status: schemas.CertActive, StatusReason: "inventory", StatusSince: issued.Add(3 * time.Second),
			Things: []string{name}, ClientIDs: []string{name}, SourceIP: fmt.Sprintf("198.%d.%d.%d", rng.IntN(256), rng.IntN(256), rng.IntN(256)),
			LastSeen: now.Add(-time.Duration(rng.IntN(1e9)) * time.Millisecond), Created: issued.Add(3 * time.Second), Updated: now.Add(-time.Duration(rng.IntN(1e8)) * time.Millisecond),
		}
		if rng.IntN(100) == 0 {
			c.Status = schemas.CertInactive
		}
		if err := f.table.Put(&c); err != nil {
			panic(err)
		}
		if c.Status != schemas.CertActive || c.NotAfter.Before(now.AddDate(0, 0, 90)) {
			f.attention = append(f.attention, []byte(c.ID))
		}
		if i%max(n/sampledIDs, 1) == 0 && len(f.ids) < sampledIDs*64 {
			f.ids = append(f.ids, c.ID...)
		}
	}
	held := heapInUse() - before - float64(len(f.ids)) - float64(len(f.attention))*(24+64)
	f.perEach = held / float64(n)
	rng.Shuffle(len(f.ids)/64, func(i, j int) {
		var swap [64]byte
		copy(swap[:], f.ids[i*64:])
		copy(f.ids[i*64:(i+1)*64], f.ids[j*64:])
		copy(f.ids[j*64:(j+1)*64], swap[:])
	})
	f.table.SetComplete(time.UnixMilli(1))
	return f
}

func heapInUse() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// bursts times events in bursts that are shorter than the scheduler's time slice:
// the median is what an event takes while nobody else has the core.
type bursts struct {
	n     int
	start time.Time
	took  []time.Duration
}

const burst = 4096

func newBursts() *bursts { return &bursts{start: time.Now(), took: make([]time.Duration, 0, 1<<16)} }

func (r *bursts) event() {
	if r.n++; r.n < burst {
		return
	}
	now := time.Now()
	if len(r.took) < cap(r.took) {
		r.took = append(r.took, now.Sub(r.start))
	}
	r.n, r.start = 0, now
}

func (r *bursts) median() float64 {
	if len(r.took) == 0 {
		return float64(time.Since(r.start)) / float64(max(r.n, 1))
	}
	slices.Sort(r.took)
	return float64(r.took[len(r.took)/2]) / burst
}

// BenchmarkRegistry is about 10,000,000 certificates. Filling the table takes most
// of a minute.
//
// "memory" reports the heap that a certificate takes; the bar is 200 B.
//
// "stamp" stamps events, of certificates drawn from "all" there are, which is the
// worst that can be: nothing is in a cache, and how long it takes is how long memory
// takes. The bar is 50 ns, of the median burst. "few" is a fleet of which 4,096 talk at a time, "unknown"
// are certificates that nobody has heard of. "bloom" is, for comparison, what it costs
// to ask a Bloom filter (1 %) of those that need attention before anything else.
func BenchmarkRegistry(b *testing.B) {
	f := newRegistryFleet()
	b.Run("memory", func(b *testing.B) {
		for b.Loop() {
			_ = f.table.Len()
		}
		s := f.table.Stats()
		b.ReportMetric(f.perEach, "B/certificate")
		b.ReportMetric(float64(s.Bytes)/float64(s.Certificates), "accounted-B/certificate")
		b.ReportMetric(float64(s.Certificates), "certificates")
	})
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixMilli()
	strangers := make([]byte, 0, 64*(1<<16))
	rng := rand.New(rand.NewPCG(3, 4))
	for range cap(strangers) / 64 {
		strangers = fmt.Appendf(strangers, "%016x%016x%016x%016x", rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64())
	}
	stamp := func(ids []byte, among int) func(*testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			ev := schemas.Event{Time: now, IngestTime: now}
			i, n := 0, min(len(ids)/64, among)
			r := newBursts()
			for range b.N {
				ev.CertificateID = ids[i*64 : i*64+64]
				f.table.Stamp(&ev)
				if i++; i == n {
					i = 0
				}
				r.event()
			}
			b.ReportMetric(r.median(), "burst-ns/event")
		}
	}
	b.Run("stamp/all", stamp(f.ids, sampledIDs))
	b.Run("stamp/few", stamp(f.ids, 4096))
	b.Run("stamp/unknown", stamp(strangers, 1<<16))
	b.Run("stamp/bloom", func(b *testing.B) {
		filter := bloom.NewWithEstimates(uint(len(f.attention)), 0.01)
		for _, id := range f.attention {
			filter.Add(id)
		}
		b.ReportAllocs()
		hits, i, n := 0, 0, len(f.ids)/64
		r := newBursts()
		for range b.N {
			if filter.Test(f.ids[i*64 : i*64+64]) {
				hits++
			}
			if i++; i == n {
				i = 0
			}
			r.event()
		}
		b.ReportMetric(r.median(), "burst-ns/event")
		b.ReportMetric(float64(hits)/float64(b.N)*100, "%hits")
	})
}
