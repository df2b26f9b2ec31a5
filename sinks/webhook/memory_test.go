package webhook

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
)

func TestMemoryEncoding(t *testing.T) {
	for _, c := range []struct {
		next    int64
		arrived []int64
	}{
		{0, nil},
		{7, []int64{7}},
		{7, []int64{8, 9, 500}},
		{0, []int64{math.MaxInt64}},
	} {
		if diff := cmp.Diff(c.arrived, decodeMemory(encodeMemory(c.next, c.arrived))); diff != "" {
			t.Errorf("%v: (-want +got)\n%s", c, diff)
		}
	}
	var many []int64
	for i := range int64(10_000) {
		many = append(many, 1_000_000*i)
	}
	memory := encodeMemory(0, many)
	got := decodeMemory(memory)
	if len(memory) > kafka.MaxNote || len(got) < 500 || !slices.Equal(got, many[:len(got)]) {
		t.Errorf("%d bytes, %d offsets", len(memory), len(got))
	}
	for _, bad := range []string{"", "x", "v1:", "v1:3", "v1:-1:1", "v1:1:", "v1:1:-1", "v2:1:1", "v1:9223372036854775807:1", "v1:1:1..1"} {
		if got := decodeMemory(bad); got != nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func FuzzMemory(f *testing.F) {
	f.Add("v1:10:0.1.z")
	f.Add("another program's")
	f.Fuzz(func(t *testing.T, note string) {
		arrived := decodeMemory(note)
		if len(arrived) > maxArrived || !slices.IsSorted(arrived) {
			t.Fatal(arrived)
		}
		if len(arrived) == 0 {
			return
		}
		again := decodeMemory(encodeMemory(arrived[0], arrived))
		if len(again) > len(arrived) || !slices.Equal(again, arrived[:len(again)]) {
			t.Fatalf("%v, then %v", arrived, again)
		}
	})
}

// What was taken behind a message that was not is not sent again by the next
// owner of the partition, nor by the one after it.
func TestTakenOutOfOrderIsRemembered(t *testing.T) {
	var open atomic.Bool
	r := newReceiver(t, func(_ int, g *received, w http.ResponseWriter) {
		if g.id == "slow_created" && !open.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	records := []*sinks.Record{record(t, 10, finding("slow", schemas.ActivityCreate, "high"))}
	h := start(t, r.URL, func(o *Options) { o.Concurrency = 8 })
	for i := int64(11); len(records) < 6; i++ {
		f := finding(fmt.Sprintf("d%d", i), schemas.ActivityCreate, "high")
		if h.sink.queue(f.FindingInfo.UID) != h.sink.queue("slow") {
			records = append(records, record(t, i, f))
		}
	}
	run := func(memory string, taken int) string {
		t.Helper()
		p := h.open(t, 10).(*partition)
		p.Recall(memory)
		for _, rec := range records {
			write(t, p, rec)
		}
		eventually(t, "the others", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return countDone(p) == taken })
		if next, idle := p.Stored(); next != 10 || idle {
			t.Fatalf("stored up to %d, idle %v, before the first is done", next, idle)
		}
		memory = p.Memory(10)
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		return memory
	}
	memory := run("", 5)
	if memory == "" || strings.Contains(memory, "slow") {
		t.Fatalf("memory %q", memory)
	}
	if again := run(memory, 5); again != memory {
		t.Errorf("the second owner remembers %q, the first %q", again, memory)
	}
	open.Store(true)
	p := h.open(t, 10).(*partition)
	p.Recall(memory)
	for _, rec := range records {
		write(t, p, rec)
	}
	waitIdle(t, p)
	times := map[string]int{}
	for _, id := range r.ids() {
		times[id]++
	}
	delete(times, "slow_created")
	for id, n := range times {
		if n != 1 {
			t.Errorf("%s was sent %d times", id, n)
		}
	}
	if len(times) != 5 {
		t.Errorf("%d messages besides the slow one", len(times))
	}
}

func countDone(p *partition) (n int) {
	for _, s := range p.pending {
		if s.done {
			n++
		}
	}
	return n
}
