package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what was measured.
type report struct {
	Started  time.Time `json:"started"`
	Commit   string    `json:"commit"`
	CPU      string    `json:"cpu"`
	Load     string    `json:"load_before"`
	Go       string    `json:"go"`
	Rules    int       `json:"rules"`
	Rows     []row     `json:"rows"`
	OwnPacks float64   `json:"own_packs_events_per_cpu_second"`
	Bars     []string  `json:"bars"`
	// Correlations are windows beside windows.
	Correlations []correlationRow `json:"correlations"`
}

// row is one engine in one mode.
type row struct {
	Mode        string  `json:"mode"`
	Engine      string  `json:"engine"`
	Loaded      int     `json:"loaded"`
	LoadSeconds float64 `json:"load_cpu_seconds"`
	Events      int     `json:"events"`
	Rate        float64 `json:"events_per_cpu_second"`
	Ratio       float64 `json:"tocsin_over_this"`
	Matches     int     `json:"matches"`
	OwnMatches  int     `json:"tocsin_matches_on_the_same_events"`
	// Differences are the rules that matched another number of events.
	Differences []difference `json:"differences,omitempty"`
}

// difference is a rule on which an engine and tocsin disagree.
type difference struct {
	Rule   string `json:"rule"`
	Theirs int    `json:"theirs"`
	Ours   int    `json:"tocsin"`
}

func (d difference) size() int { return max(d.Theirs-d.Ours, d.Ours-d.Theirs) }

func (r *report) describeMachine() {
	r.Go, r.CPU = runtime.Version(), runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				r.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		r.Load = strings.Join(strings.Fields(string(b))[:3], " ")
	}
}

// conclude adds ratios and compares with the bars.
func (r *report) conclude() {
	bar := func(what string, value, least float64, unit string) {
		verdict := "met"
		if value < least {
			verdict = "MISSED"
		}
		r.Bars = append(r.Bars, fmt.Sprintf("%s: %s%s, bar >= %s%s, %s", what, thousands(value), unit, thousands(least), unit, verdict))
	}
	own := map[string]float64{}
	for i := range r.Rows {
		row := &r.Rows[i]
		if row.Engine == "tocsin" {
			own[row.Mode] = row.Rate
		}
		row.Ratio = own[row.Mode] / row.Rate
		switch {
		case row.Mode != modes[0].name:
		case row.Engine == "tocsin":
			bar("events/s of one core, all rules", row.Rate, 20_000, "")
		case row.Engine == "rsigma":
			bar("tocsin over rsigma", row.Ratio, 1, "x")
		}
	}
	for i := range r.Correlations {
		if row := &r.Correlations[i]; row.Engine == "rsigma" {
			bar("tocsin over rsigma, "+row.Correlation, row.Ratio, 1.5, "x")
		}
	}
	bar("events/s of one core, own packs on IoT logs", r.OwnPacks, 500_000, "")
}

// thousands shows three digits, or all before the point: 7.93, 2,320, 253,984.
func thousands(v float64) string {
	if v < 100 {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// explained says why engines disagree about a rule, where that is known.
var explained = map[string]string{
	"9705a6a1-6db6-4a16-a987-15b7151e299b": "its keyword dir is in the field name CurrentDirectory; rsigma's keywords see values only, tocsin's the text of the message",
	"6d844f0f-1c18-41af-8f19-33e7654edfc3": "its keyword username is in field names; rsigma's keywords see values only, tocsin's the text of the message",
	"c248c896-e412-4279-8c15-1c558067b6fa": "it uses windash, which the Go libraries do not know",
	"f305fd62-beca-47da-ad95-7690a0620084": "its filter reads userIdentity.type, a path that sigma-go does not follow",
	"dd8756e7-a3a0-4768-b47e-8f545d1a751c": "it looks for many spaces, which go-sigma-rule-engine makes one",
}

var columns = []string{"engine", "rules loaded", "loading (CPU s)", "events", "events/s of one core", "tocsin is", "matches", "tocsin's", "rules that differ"}

func (r *row) cells() []string {
	return []string{
		r.Engine, fmt.Sprint(r.Loaded), fmt.Sprintf("%.2f", r.LoadSeconds), fmt.Sprint(r.Events), thousands(r.Rate),
		thousands(r.Ratio) + "x", fmt.Sprint(r.Matches), fmt.Sprint(r.OwnMatches), fmt.Sprint(len(r.Differences)),
	}
}

// write prints the report as Markdown that can also be read as it is.
func (r *report) write(w io.Writer) {
	fmt.Fprintf(w, "# Sigma engines side by side, %s\n\n", r.Started.Format(time.DateOnly))
	fmt.Fprintf(w, "- %s, %s; load average before: %s; commit %s\n", r.CPU, r.Go, r.Load, r.Commit)
	fmt.Fprintf(w, "- %d SigmaHQ rules, %d distinct events; CPU time of one process on one core less that of loading the rules\n", r.Rules, distinct)
	for _, mode := range modes {
		fmt.Fprintf(w, "\n## %s\n\n", mode.name)
		tw := tabwriter.NewWriter(w, 2, 0, 1, ' ', 0)
		line := func(cells []string) { fmt.Fprintf(tw, "| %s |\n", strings.Join(cells, "\t| ")) }
		line(columns)
		dashes := make([]string, len(columns))
		for i := range dashes {
			dashes[i] = "---"
		}
		line(dashes)
		for i := range r.Rows {
			if r.Rows[i].Mode == mode.name {
				line(r.Rows[i].cells())
			}
		}
		_ = tw.Flush()
		for i := range r.Rows {
			row := &r.Rows[i]
			if row.Mode != mode.name || len(row.Differences) == 0 {
				continue
			}
			fmt.Fprintf(w, "\n%s differs in:\n\n", row.Engine)
			for _, d := range row.Differences[:min(len(row.Differences), 20)] {
				fmt.Fprintf(w, "- %s: %d matches, tocsin %d", d.Rule, d.Theirs, d.Ours)
				if why := explained[d.Rule]; why != "" {
					fmt.Fprintf(w, " (%s)", why)
				}
				fmt.Fprintln(w)
			}
		}
	}
	fmt.Fprint(w, "\n## Correlations\n\nThe same JSON lines in the order of time, each parsed, matched by a detection rule and counted in a window.\n\n")
	writeCorrelations(w, r.Correlations)
	fmt.Fprint(w, "\n## Bars\n\n")
	for _, b := range r.Bars {
		fmt.Fprintf(w, "- %s\n", b)
	}
}

// save writes the report and returns its path without the ending. A second run
// on the same day does not replace the first.
func (r *report) save(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	base := filepath.Join(dir, r.Started.Format(time.DateOnly)+"-peers")
	path := base
	for n := 2; ; n++ {
		f, err := os.OpenFile(path+".json", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if errors.Is(err, os.ErrExist) {
			path = fmt.Sprintf("%s-%d", base, n)
			continue
		}
		if err != nil {
			return "", err
		}
		enc := json.NewEncoder(f)
		enc.SetIndent("", "  ")
		if err := errors.Join(enc.Encode(r), f.Close()); err != nil {
			return "", err
		}
		break
	}
	var md strings.Builder
	r.write(&md)
	return path, os.WriteFile(path+".md", []byte(md.String()), 0o644)
}
