package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// TestChaos is the short form of `make chaos`. CHAOS_SEED replays its load and its
// choice of faults.
func TestChaos(t *testing.T) {
	seed := rand.Uint64() >> 16
	if s := os.Getenv("CHAOS_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "tocsin")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/tocsin-io/tocsin/cmd/tocsin").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r, err := Run(t.Context(), Options{
		Program: []string{program}, Seed: seed, Kills: 10, Within: 25 * time.Second, Rate: 100, SnapshotInterval: time.Second,
		// Each broker that comes back takes the cores for ten seconds.
		Targets: []string{kindIngest, kindCorrelate, kindClickHouse, kindSink, "broker-1"},
		Settle:  3 * time.Minute, Dir: dir, Log: t.Logf,
	})
	if err != nil || !r.OK() {
		logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
		for _, log := range logs {
			t.Logf("--- %s\n%s", filepath.Base(log), troubles(log, 20))
		}
	}
	if err != nil {
		t.Fatalf("CHAOS_SEED=%d: %v", seed, err)
	}
	t.Logf("%d kills %v, %d stalls %v, %d events, %d detections, %d webhooks of which %d were taken again though they had been answered for, settled in %.0f s",
		r.Kills, r.KillsOf, r.Stalls, r.StallsOf, r.Events, r.Detections, r.Messages, r.Repeated, r.Settled)
	for _, e := range r.Exits {
		t.Log("ended by itself: ", e)
	}
	if !r.OK() {
		t.Errorf("CHAOS_SEED=%d: lost %d, duplicated %d:\n%s", seed, r.Lost, r.Duplicated, strings.Join(append(r.Complaints, r.Differences...), "\n"))
	}
	if r.Events < 1000 || r.Detections < 30 || r.Messages < 30 || r.Kills < 6 {
		t.Errorf("nothing was tested: %+v", r)
	}
}

// troubles returns the last n lines of a log that are no mere information.
func troubles(file string, n int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if !strings.Contains(line, `"level":"info"`) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// made returns events by kind, seconds and device.
func made(list ...any) (out []*event) {
	for i := 0; i < len(list); i += 3 {
		out = append(out, &event{
			id: schemas.NewEventID([]byte(strconv.Itoa(i))), kind: list[i].(kind), time: int64(list[i+1].(int)) * 1000,
			device: list[i+2].(string), certificate: "c", address: "a", account: "x",
		})
	}
	return out
}

// The oracle by hand, so that it is wrong in nothing that the correlator is wrong
// in, too.
func TestOracle(t *testing.T) {
	for _, c := range []struct {
		name   string
		events []*event
		want   []string // rule, group, first..last, count
	}{
		{"single", made(revoked, 5, "d"), []string{"revoked d 5..5 1"}},
		{"too few", made(refused, 0, "d", refused, 5, "d", refused, 10, "d", refused, 11, "d"), nil},
		{"both ends included", made(refused, 0, "d", refused, 5, "d", refused, 10, "d", refused, 10, "d"), []string{"refusals d 0..10 4"}},
		{"of two devices", made(refused, 0, "d", refused, 1, "d", refused, 2, "e", refused, 3, "e"), nil},
		{
			"a gap between episodes", made(refused, 0, "d", refused, 0, "d", refused, 1, "d", refused, 1, "d",
				refused, 12, "d", refused, 12, "d", refused, 12, "d", refused, 13, "d"),
			[]string{"refusals d 0..1 4", "refusals d 12..13 4"},
		},
		{"distinct clients", made(connected, 0, "d", connected, 1, "d", connected, 2, "e"), nil},
		{"three clients", made(connected, 0, "d", connected, 1, "d", connected, 2, "e", connected, 3, "f"), []string{"shared c 0..3 4"}},
		{"in order", made(refused, 0, "d", connected, 10, "e"), []string{"guessed a 0..10 2"}},
		{"at the same time", made(connected, 3, "e", refused, 3, "d"), []string{"guessed a 3..3 2"}},
		{"out of order", made(connected, 0, "d", refused, 1, "d"), nil},
		{"silent", made(websocket, 0, "d", published, 6, "d"), []string{"silent d 0..0 1"}},
		{"not silent", made(websocket, 0, "d", published, 5, "d", published, 0, "e"), nil},
		{"fading", made(alive, 0, "d", alive, 1, "d", alive, 2, "d"), []string{"fading d 1..2 2"}},
		{"noise", made(noise, 0, "d"), nil},
	} {
		var got []string
		for _, o := range oracle(c.events) {
			got = append(got, fmt.Sprintf("%s %s %d..%d %d", o.Rule, o.Group, o.First/1000, o.Last/1000, o.Count))
			if n := len(strings.Fields(o.Evidence)); int64(n) != o.Count {
				t.Errorf("%s: %d events, %d IDs", c.name, o.Count, n)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// What is missing or too much in any place must be seen.
func TestCompare(t *testing.T) {
	want := oracle(made(revoked, 1, "d", revoked, 2, "d"))
	v := &verifier{expected: want}
	for _, c := range []struct {
		name        string
		got         map[string]outcome
		lost, extra int
	}{
		{"equal", map[string]outcome{"1": want[0], "2": want[1]}, 0, 0},
		{"one lost", map[string]outcome{"1": want[0]}, 1, 0},
		{"one twice", map[string]outcome{"1": want[0], "2": want[1], "3": want[1]}, 0, 1},
		{"one wrong", map[string]outcome{"1": want[0], "2": {Rule: "revoked", Group: "d", First: 2000, Last: 2000, Count: 2}}, 1, 1},
	} {
		var r Result
		v.compare(&r, "here", c.got)
		if r.DetectionsLost != c.lost || r.DetectionsExtra != c.extra || len(r.Differences) != c.lost+c.extra {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
	if o := outcomeOf("refusals", "d", "New", 1, 2, []string{"a"}, 1); o == outcomeOf("refusals", "d", "Resolved", 1, 2, []string{"a"}, 1) {
		t.Error("a detection that has not ended is one that has")
	}

	findings := []*schemas.Finding{
		{ActivityID: schemas.ActivityCreate, FindingInfo: schemas.FindingInfo{UID: "x"}},
		{ActivityID: schemas.ActivityUpdate, FindingInfo: schemas.FindingInfo{UID: "x"}},
		{ActivityID: schemas.ActivityClose, FindingInfo: schemas.FindingInfo{UID: "x"}},
	}
	var r Result
	messages(&r, findings, map[string]int{"x_created": 2, "y_created": 1})
	if r.Messages != 2 || r.MessagesLost != 1 || r.MessagesExtra != 1 {
		t.Errorf("%+v", r)
	}
}

// Faults are drawn evenly, one broker at a time, and only from what is whole.
func TestInjector(t *testing.T) { synctest.Test(t, testInjector) }

func testInjector(t *testing.T) {
	var targets []*target
	brokersDown, times := make(chan struct{}, 1), map[string]int{}
	add := func(name, kind string) {
		targets = append(targets, &target{
			name: name, kind: kind,
			kill: func() {
				times[name]++
				if kind != kindBroker {
					return
				}
				select {
				case brokersDown <- struct{}{}:
				default:
					t.Error("two brokers at once")
				}
			},
			start:  func(context.Context) error { return nil },
			freeze: func() error { return fmt.Errorf("%s cannot be frozen", name) },
			thaw:   func() error { return nil },
			whole: func(context.Context) error {
				if kind == kindBroker {
					<-brokersDown
				}
				return nil
			},
		})
	}
	for i := range 3 {
		add(fmt.Sprint("broker-", i), kindBroker)
	}
	add("ingest", kindIngest)
	add("sink", kindSink)
	in := newInjector(targets, 1, t.Logf)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 5 * 4 {
		before := in.kills()
		in.kill(ctx)
		in.work.Wait()
		if in.kills() != before+1 {
			t.Fatal("nothing was killed")
		}
	}
	for name, n := range times {
		if n != 4 {
			t.Errorf("%s was killed %d times of 20", name, n)
		}
	}
	in.stall(ctx)
	if err := in.run(ctx, 100, time.Minute); err == nil || !strings.Contains(err.Error(), "cannot be frozen") {
		t.Errorf("a target that cannot be frozen: %v", err)
	}
}
