package benchmarks

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
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

// fleetRegistry is filled once: that takes most of a minute.
var fleetRegistry = sync.OnceValue(func() *registryFleet {
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
})

func heapInUse() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkRegistryMemory reports the heap that a certificate takes; the bar is
// 200 B at 10,000,000 certificates.
func BenchmarkRegistryMemory(b *testing.B) {
	f := fleetRegistry()
	for b.Loop() {
		_ = f.table.Len()
	}
	s := f.table.Stats()
	b.ReportMetric(f.perEach, "B/certificate")
	b.ReportMetric(float64(s.Bytes)/float64(s.Certificates), "accounted-B/certificate")
	b.ReportMetric(float64(s.Certificates), "certificates")
}

// BenchmarkRegistryStamp stamps events of certificates that are drawn from all
// there are, which is the worst that can be: nothing is in a cache. The bar is 50 ns
// at 10,000,000 certificates. "few" is a fleet of which 4,096 talk at a time,
// "unknown" are certificates that nobody has heard of. "bloom" is, for comparison,
// what it costs to ask a Bloom filter (1 %) of those that need attention first.
func BenchmarkRegistryStamp(b *testing.B) {
	f := fleetRegistry()
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
			start := cpuTime(b)
			for range b.N {
				ev.CertificateID = ids[i*64 : i*64+64]
				f.table.Stamp(&ev)
				if i++; i == n {
					i = 0
				}
			}
			b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N), "cpu-ns/event")
		}
	}
	b.Run("all", stamp(f.ids, sampledIDs))
	b.Run("few", stamp(f.ids, 4096))
	b.Run("unknown", stamp(strangers, 1<<16))
	b.Run("bloom", func(b *testing.B) {
		filter := bloom.NewWithEstimates(uint(len(f.attention)), 0.01)
		for _, id := range f.attention {
			filter.Add(id)
		}
		b.ReportAllocs()
		hits, i, n := 0, 0, len(f.ids)/64
		start := cpuTime(b)
		for range b.N {
			if filter.Test(f.ids[i*64 : i*64+64]) {
				hits++
			}
			if i++; i == n {
				i = 0
			}
		}
		b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N), "cpu-ns/event")
		b.ReportMetric(float64(hits)/float64(b.N)*100, "%hits")
	})
}
