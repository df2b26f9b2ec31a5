package kinesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/ingest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	moto.Stop()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Println(err)
		code = 1
	}
	os.Exit(code)
}

// read runs a source for a time, within a bubble.
func read(t *testing.T, opts Options, k *sink, d time.Duration) {
	t.Helper()
	if opts.Stream == "" {
		opts.Stream = "s"
	}
	if opts.Checkpoints == nil {
		opts.Checkpoints = newMemory()
	}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := s.Run(ctx, k.hand); err != nil {
		t.Error(err)
	}
}

// bubble is a test with a clock of its own.
func bubble(name string, t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestReadsAllShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeStream("a", "b", "c")
		f.put("a", 20)
		f.put("b", 5)
		go func() {
			time.Sleep(5 * time.Second)
			f.put("c", 4)
		}()
		k := &sink{delay: func() time.Duration { return rand.N(300 * time.Millisecond) }}
		store := newMemory()
		read(t, Options{Client: f, Checkpoints: store}, k, 20*time.Second)
		if diff := cmp.Diff(f.all(), k.sorted(&k.acked)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		want := map[string]Checkpoint{"a": {Sequence: "19"}, "b": {Sequence: "4"}, "c": {Sequence: "3"}}
		if diff := cmp.Diff(want, store.points); diff != "" {
			t.Errorf("checkpoints (-want +got)\n%s", diff)
		}
		for id, calls := range f.calls {
			for i := 5; i < len(calls); i++ {
				if gap := calls[i].Sub(calls[i-5]); gap < time.Second {
					t.Errorf("shard %s: six calls within %v", id, gap)
				}
			}
		}
	})
}

// The records of a child come after those of its parents are acknowledged.
func TestResharding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeStream("a", "b")
		f.put("a", 7)
		f.put("b", 2)
		go func() {
			time.Sleep(3 * time.Second)
			f.put("a", 4)
			f.split("a", "c", "d")
			f.put("c", 5)
			f.put("d", 5)
			time.Sleep(5 * time.Second)
			f.split("d", "e")
			f.split("b", "e") // a merge
			f.put("e", 3)
		}()
		k := &sink{delay: func() time.Duration { return 2 * time.Second }}
		acked := map[string]int{}
		k.answer = func(d *ingest.Delivery) error {
			shard, _, _ := strings.Cut(string(d.Data), "/")
			for _, done := range k.acked {
				from, _, _ := strings.Cut(done, "/")
				acked[from]++
			}
			if need := map[string]int{"c": 11, "d": 11}[shard]; acked["a"] < need {
				t.Errorf("%s taken when %d of %d records of a were acknowledged", d.Data, acked["a"], need)
			}
			if shard == "e" && (acked["d"] < 5 || acked["b"] < 2) {
				t.Errorf("%s taken when %d of 5 and %d of 2 were acknowledged", d.Data, acked["d"], acked["b"])
			}
			clear(acked)
			return nil
		}
		store := newMemory()
		read(t, Options{Client: f, Checkpoints: store, RefreshInterval: time.Second}, k, 60*time.Second)
		if diff := cmp.Diff(f.all(), k.sorted(&k.acked)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if !store.points["a"].Done || !store.points["b"].Done || !store.points["d"].Done || store.points["c"].Done {
			t.Errorf("checkpoints %+v", store.points)
		}
		// Once more: nothing is read again, and what retention takes is forgotten.
		delete(f.shards, "a")
		again := &sink{}
		read(t, Options{Client: f, Checkpoints: store}, again, 10*time.Second)
		if len(again.taken) > 0 {
			t.Errorf("read again: %q", again.taken)
		}
		if _, ok := store.points["a"]; ok {
			t.Error("the checkpoint of a shard that is gone is kept")
		}
	})
}

// Errors of the API delay reading, and neither lose nor repeat a record.
func TestFaults(t *testing.T) {
	faults := []error{
		&types.ExpiredIteratorException{}, &types.ProvisionedThroughputExceededException{}, &types.LimitExceededException{},
		&types.KMSThrottlingException{}, &types.AccessDeniedException{}, errors.New("connection reset"),
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFakeStream("a", "b")
		f.put("a", 50)
		f.put("b", 50)
		n := 0
		f.fault = func(call, _ string) error {
			if call == "ListShards" {
				return nil
			}
			if n++; n%2 == 0 {
				return faults[n/2%len(faults)]
			}
			return nil
		}
		k := &sink{}
		read(t, Options{Client: f}, k, 10*time.Minute)
		if diff := cmp.Diff(f.all(), k.sorted(&k.taken)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

// A record that is given back is read again, with what follows it.
func TestGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeStream("a")
		f.put("a", 10)
		bad := 3
		k := &sink{
			answer: func(d *ingest.Delivery) error {
				if string(d.Data) == "a/4" && bad > 0 {
					bad--
					return errors.New("no")
				}
				return nil
			},
			delay: func() time.Duration { return rand.N(time.Second) },
		}
		store := newMemory()
		read(t, Options{Client: f, Checkpoints: store}, k, time.Minute)
		if got := slices.Compact(k.sorted(&k.acked)); !slices.Equal(got, f.all()) {
			t.Errorf("acknowledged %q", got)
		}
		n := 0
		for _, d := range k.taken {
			if d < "a/4" {
				n++
			}
		}
		if n != 4 {
			t.Errorf("records before the one given back were taken %d times, want once each", n)
		}
		if store.points["a"].Sequence != "9" {
			t.Errorf("checkpoints %+v", store.points)
		}
	})
}

// A crash costs what was not acknowledged, and the checkpoint stops before the
// first gap.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeStream("a")
		f.put("a", 10)
		k := &sink{answer: func(d *ingest.Delivery) error {
			if string(d.Data) == "a/5" {
				return errNever
			}
			return nil
		}}
		store := newMemory()
		start := time.Now()
		read(t, Options{Client: f, Checkpoints: store, StopTimeout: 3 * time.Second}, k, time.Minute)
		if took := time.Since(start); took != time.Minute+3*time.Second {
			t.Errorf("stopped after %v", took)
		}
		if store.points["a"].Sequence != "4" || len(k.taken) != 10 {
			t.Errorf("took %d, checkpoints %+v", len(k.taken), store.points)
		}
		again := &sink{}
		read(t, Options{Client: f, Checkpoints: store}, again, time.Minute)
		if want := f.all()[5:]; !slices.Equal(again.taken, want) {
			t.Errorf("took %q, want %q", again.taken, want)
		}
	})
}

// Stopping waits for acknowledgements and saves them.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeStream("a")
		f.put("a", 3)
		k := &sink{delay: func() time.Duration { return 4 * time.Second }}
		store := newMemory()
		read(t, Options{Client: f, Checkpoints: store, CheckpointInterval: time.Hour}, k, time.Second)
		if store.points["a"].Sequence != "2" {
			t.Errorf("checkpoints %+v", store.points)
		}
	})
}

func TestStart(t *testing.T) {
	bubble("latest", t, func(t *testing.T) {
		f := newFakeStream("a", "b", "c")
		f.put("a", 3)
		f.put("b", 2)
		f.put("c", 2)
		f.split("a", "c")
		time.Sleep(time.Hour)
		store := newMemory()
		k := &sink{}
		go func() {
			time.Sleep(5 * time.Second)
			f.put("b", 1)
		}()
		read(t, Options{Client: f, Checkpoints: store, Start: StartLatest}, k, 20*time.Second)
		if want := []string{"b/2"}; !slices.Equal(k.taken, want) {
			t.Errorf("took %q, want %q", k.taken, want)
		}
		// While nobody reads, records come in for the shard that had none and for a
		// new one.
		f.put("c", 1)
		f.split("b", "d")
		f.put("d", 1)
		k = &sink{}
		read(t, Options{Client: f, Checkpoints: store, Start: StartLatest}, k, 20*time.Second)
		if want := []string{"c/2", "d/0"}; !slices.Equal(k.sorted(&k.taken), want) {
			t.Errorf("after a restart took %q, want %q", k.taken, want)
		}
	})
	bubble("latest, and the first iterator expires", t, func(t *testing.T) {
		f := newFakeStream("a")
		f.put("a", 2)
		time.Sleep(time.Hour)
		f.fault = func(call, _ string) error {
			if call != "GetRecords" || len(f.calls["a"]) != 1 {
				return nil
			}
			s := f.shards["a"]
			s.records = append(s.records, fakeRecord{"a/2", time.Now()})
			return &types.ExpiredIteratorException{}
		}
		k := &sink{}
		read(t, Options{Client: f, Start: StartLatest}, k, 20*time.Second)
		if want := []string{"a/2"}; !slices.Equal(k.taken, want) {
			t.Errorf("took %q, want %q", k.taken, want)
		}
	})
	bubble("timestamp", t, func(t *testing.T) {
		f := newFakeStream("a", "b")
		f.put("a", 2)
		time.Sleep(time.Minute)
		from := time.Now()
		f.put("a", 1)
		f.put("b", 1)
		f.split("b", "c")
		f.put("c", 1)
		k := &sink{}
		read(t, Options{Client: f, Start: StartAtTimestamp, StartTime: from}, k, 20*time.Second)
		if want := []string{"a/2", "b/0", "c/0"}; !slices.Equal(k.sorted(&k.taken), want) {
			t.Errorf("took %q, want %q", k.taken, want)
		}
	})
	bubble("checkpoint of another stream", t, func(t *testing.T) {
		f := newFakeStream("a")
		f.put("a", 2)
		store := newMemory()
		store.points["a"] = Checkpoint{Sequence: "77"}
		k := &sink{}
		read(t, Options{Client: f, Checkpoints: store}, k, 20*time.Second)
		if want := f.all(); !slices.Equal(k.taken, want) {
			t.Errorf("took %q, want %q", k.taken, want)
		}
	})
}

func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ids []string
		for i := range 12 {
			ids = append(ids, fmt.Sprintf("shardId-%012d", i))
		}
		f := newFakeStream(ids...)
		for _, id := range ids {
			f.put(id, 1)
		}
		k := &sink{}
		for w := range 3 {
			before := len(k.taken)
			read(t, Options{Client: f, Worker: w, Workers: 3}, k, 5*time.Second)
			if n := len(k.taken) - before; n == 0 || n == 12 {
				t.Errorf("worker %d read %d shards", w, n)
			}
		}
		if diff := cmp.Diff(f.all(), k.sorted(&k.taken)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

func TestDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeStream("a")
		f.put("a", 1)
		k := &sink{answer: func(d *ingest.Delivery) error {
			if d.Source != "kinesis" || d.Lane != "kinesis/fleet/a" || d.Origin != "fleet/a@0" || !d.Ordered ||
				d.Account != "111122223333" || d.Region != "eu-west-1" || d.Received.IsZero() {
				t.Errorf("%+v", d)
			}
			return nil
		}}
		read(t, Options{Client: f, Stream: "arn:aws:kinesis:eu-west-1:111122223333:stream/fleet"}, k, time.Second)
		if len(k.taken) != 1 {
			t.Errorf("took %q", k.taken)
		}
	})
}

// A store that is away does not stop reading, and gets everything later.
func TestStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeStream("a")
		f.put("a", 5)
		store := newMemory()
		k := &sink{answer: func(*ingest.Delivery) error {
			store.mu.Lock()
			store.fail = errors.New("disk full")
			store.mu.Unlock()
			return nil
		}}
		time.AfterFunc(10*time.Second, func() {
			store.mu.Lock()
			defer store.mu.Unlock()
			if len(store.points) > 0 {
				t.Error("saved without a store")
			}
			store.fail = nil
		})
		read(t, Options{Client: f, Checkpoints: store}, k, 15*time.Second)
		if store.points["a"].Sequence != "4" {
			t.Errorf("checkpoints %+v", store.points)
		}
	})
}

func TestFatal(t *testing.T) {
	run := func(t *testing.T, f *fakeStream, store CheckpointStore, k *sink) error {
		s, err := New(Options{Stream: "s", Client: f, Checkpoints: store})
		if err != nil {
			t.Fatal(err)
		}
		return s.Run(t.Context(), k.hand)
	}
	bubble("no stream", t, func(t *testing.T) {
		f := newFakeStream()
		f.fault = func(string, string) error { return &types.ResourceNotFoundException{} }
		var gone *types.ResourceNotFoundException
		if err := run(t, f, newMemory(), &sink{}); !errors.As(err, &gone) {
			t.Errorf("error %v", err)
		}
	})
	bubble("no checkpoints", t, func(t *testing.T) {
		store := newMemory()
		store.fail = errors.New("damaged")
		if err := run(t, newFakeStream("a"), store, &sink{}); !errors.Is(err, store.fail) {
			t.Errorf("error %v", err)
		}
	})
	bubble("pipeline stopped", t, func(t *testing.T) {
		f := newFakeStream("a", "b")
		f.put("a", 1)
		if err := run(t, f, newMemory(), &sink{refuse: ingest.ErrStopped}); !errors.Is(err, ingest.ErrStopped) {
			t.Errorf("error %v", err)
		}
	})
}

func TestOptions(t *testing.T) {
	f := newFakeStream("a")
	bad := func(opts Options, want string) {
		t.Helper()
		if _, err := New(opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	ok := Options{Stream: "s", Client: f, Checkpoints: newMemory()}
	bad(Options{}, "must be set")
	o := ok
	o.Start = "EARLIEST"
	bad(o, "not one of TRIM_HORIZON")
	o.Start = StartAtTimestamp
	bad(o, "needs a time")
	o = ok
	o.Worker, o.Workers = 2, 2
	bad(o, "worker 2 is not between 0 and 1")
	o = ok
	o.PollInterval = 100 * time.Millisecond
	bad(o, "less than 200ms")
}

// Whatever the order of the acknowledgements, the checkpoint is the last record
// before the first gap.
func TestWindow(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		checkpoint := -1
		w := newWindow(func(sequence string) {
			n, _ := strconv.Atoi(sequence)
			if n <= checkpoint {
				t.Errorf("checkpoint went from %d to %d", checkpoint, n)
			}
			checkpoint = n
		})
		acked := map[int]bool{}
		var open []int
		next := 0
		bad := -1
		for range 100 {
			if rng.IntN(2) == 0 || len(open) == 0 {
				if n := w.add(strconv.Itoa(next)); n != uint64(next) {
					t.Fatalf("number %d, want %d", n, next)
				}
				open = append(open, next)
				next++
				continue
			}
			i := rng.IntN(len(open))
			n := open[i]
			open = slices.Delete(open, i, i+1)
			if rng.IntN(50) == 0 {
				w.ack(uint64(n), errors.New("no"))
				if bad < 0 || n < bad {
					bad = n
				}
			} else {
				w.ack(uint64(n), nil)
				acked[n] = true
			}
			want := -1
			for acked[want+1] {
				want++
			}
			if checkpoint != want {
				t.Fatalf("checkpoint %d, want %d", checkpoint, want)
			}
		}
		select {
		case <-w.failed:
			if bad < 0 || w.failure() == nil {
				t.Error("failed without a failure")
			}
		default:
			if bad >= 0 {
				t.Error("a failure went unnoticed")
			}
		}
		settled := w.settled()
		for _, n := range open {
			select {
			case <-settled:
				t.Fatal("settled with records open")
			default:
			}
			w.ack(uint64(n), nil)
		}
		<-settled
	}
}
