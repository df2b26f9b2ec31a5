package correlate

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"runtime"
	"testing"
)

// fuzzScripts leave windows with something of everything in them.
var fuzzScripts = []string{
	"rule type=event_count timespan=60s gte=2 lateness=10s evidence=2\nevent t=1000\nevent t=1001\nevent t=1002\nadvance 1030\nevent t=1100 group=h\n",
	"rule type=value_count timespan=60s gte=2 suppress=1m\nevent t=1000 value=x\nevent t=1001 value=y\nevent t=1002 value=z group=h\nadvance 1062\n",
	"rule type=value_percentile percentile=50 timespan=60s gt=2\nevent t=1000 number=2\nevent t=1001 number=3\nadvance 1061.5\n",
	"rule type=temporal timespan=60s steps=3 expr=or(and(a,not(b)),c)\nevent t=1000 step=a\nevent t=1010 step=c\nadvance 1061\n",
	"rule type=temporal_ordered timespan=60s steps=3 realert=each\nevent t=1000 step=ab\nevent t=1000 step=bc id=y\nevent t=1010 step=c\n",
}

func fuzzScript(tb testing.TB, i int) *script {
	s, err := parseScript(fuzzScripts[i%len(fuzzScripts)])
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// FuzzRestore: bytes that are no snapshot give an error, or windows that work;
// never a panic, nor memory out of proportion to them. The checksum is put right,
// or nothing behind it would ever be reached.
func FuzzRestore(f *testing.F) {
	for i := range fuzzScripts {
		s := fuzzScript(f, i)
		r := newRunner(s, f.Errorf)
		for j := range s.ops {
			r.step(&s.ops[j])
		}
		b := r.w.AppendSnapshot(nil)
		b = b[:len(b)-4]
		f.Add(byte(i), b)
		f.Add(byte(i+1), b)
		f.Add(byte(i), b[:len(b)/2])
		f.Add(byte(i), append(bytes.Clone(b), 0))
	}
	f.Add(byte(0), []byte{})
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		s := fuzzScript(t, int(which))
		_ = s.windows().Restore(b)
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
		w := s.windows()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := w.Restore(b)
		runtime.ReadMemStats(&after)
		if got, most := after.TotalAlloc-before.TotalAlloc, uint64(1<<20+1000*len(b)); got > most {
			t.Errorf("%d bytes took %d bytes of memory", len(b), got)
		}
		if err != nil {
			return
		}
		// What it took must be whole enough to go on, and to be saved again.
		w.Drain(func(*Episode) {})
		for i := range s.ops {
			if o := &s.ops[i]; o.kind == "event" {
				m := o.event.match()
				w.Add(&m)
			} else if o.kind == "advance" {
				w.Advance(o.time)
			}
		}
		w.Drain(func(*Episode) {})
		again := w.AppendSnapshot(nil)
		if err := s.windows().Restore(again); err != nil {
			t.Errorf("what it saved after that cannot be restored: %v", err)
		}
		w.Advance(1 << 60)
		w.Drain(func(*Episode) {})
	})
}

// FuzzDecodeTuple: an error, or a tuple that is written back as it was read,
// but for lengths that were longer than need be.
func FuzzDecodeTuple(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendTuple(nil, []byte("device"), nil, []byte("198.51.100.1")))
	f.Add([]byte{5, 'x'})
	f.Add([]byte{0x80, 0x00})
	f.Add(bytes.Repeat([]byte{0xff}, 11))
	f.Add(make([]byte, 300))
	f.Fuzz(func(t *testing.T, b []byte) {
		values, err := DecodeTuple(b)
		if err != nil {
			return
		}
		encoded := AppendTuple(nil, values...)
		if len(encoded) > len(b) {
			t.Fatalf("%x became %x", b, encoded)
		}
		again, err := DecodeTuple(encoded)
		if err != nil || len(again) != len(values) {
			t.Fatalf("%x: %d values, then %d: %v", b, len(values), len(again), err)
		}
		for i := range again {
			if !bytes.Equal(again[i], values[i]) {
				t.Fatalf("value %d: %x, then %x", i, values[i], again[i])
			}
		}
	})
}
