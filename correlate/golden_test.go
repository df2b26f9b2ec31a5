package correlate

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write the output of the scripts in testdata anew")

// TestScripts runs testdata/*.txt: a script, a line of dashes, and what its
// commands print. They are named after the line of the design that they show.
//
//	rule type=event_count timespan=60s gte=4 [steps=1] [expr=and(a,not(b))] [percentile=95]
//	     [suppress=1m] [realert=each] [evidence=20] [lateness=10m] [update=1m] [maxgroups=n] [maxevents=n]
//	event t=seconds [id=name] [step=a] [group=g] [value=x,y] [number=n]   step=ab: it matched both
//	advance seconds   the watermark
//	snapshot
//	restore           into fresh windows
//	detections        what was reported since the last time
//	stats             what is held and what was given up
//	final             advance past everything; the detections left, which must be the oracle's too
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, _ := strings.Cut(string(text), "----\n")
			s, err := parseScript(input)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			got := output(t, s)
			if *rewrite {
				if err := os.WriteFile(file, []byte(input+"----\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		})
	}
}

// output is what the commands of a script print.
func output(t *testing.T, s *script) string {
	t.Helper()
	var b strings.Builder
	r := newRunner(s, t.Errorf)
	shown := 0
	show := func() {
		if shown == len(r.r.episodes) {
			b.WriteString("nothing\n")
		}
		for ; shown < len(r.r.episodes); shown++ {
			b.WriteString(r.episodeText(&r.r.episodes[shown]) + "\n")
		}
	}
	for i := range s.ops {
		o := &s.ops[i]
		switch o.kind {
		case "detections":
			b.WriteString("detections\n")
			show()
		case "stats":
			st := r.w.Stats()
			fmt.Fprintf(&b, "stats\ngroups=%d events=%d evicted=%d late=%d\n", st.Groups, st.Events, st.EvictedGroups, st.Late)
		case "final":
			b.WriteString("final\n")
			r.finish()
			live := r.r.live()
			for i := range live {
				b.WriteString(r.episodeText(&live[i]) + "\n")
			}
			if len(live) == 0 {
				b.WriteString("nothing\n")
			}
		default:
			r.step(o)
		}
	}
	return b.String()
}
