package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// report is all that was measured.
type report struct {
	Started  time.Time  `json:"started"`
	Took     string     `json:"took"`
	Commit   string     `json:"commit"`
	Quick    bool       `json:"quick"`
	Devices  int        `json:"devices"`
	Machine  machine    `json:"machine"`
	Sections []*section `json:"sections"`
}

// section is what one phase measured.
type section struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Rows  []row  `json:"rows"`
	// Notes say how it was measured and what else is worth knowing.
	Notes []string `json:"notes,omitempty"`
}

// row is one figure.
type row struct {
	What  string   `json:"what"`
	Value *float64 `json:"value"` // nil: not measured, Note says why
	Unit  string   `json:"unit,omitempty"`
	Bar   *bar     `json:"bar,omitempty"` // nil for what is only shown
	Note  string   `json:"note,omitempty"`
}

// bar is what a figure has to reach.
type bar struct {
	Least bool    `json:"at_least"` // or at most
	Value float64 `json:"value"`
}

func atLeast(v float64) *bar { return &bar{true, v} }
func atMost(v float64) *bar  { return &bar{false, v} }

func (b *bar) met(v float64) bool {
	if b.Least {
		return v >= b.Value
	}
	return v <= b.Value
}

func (b *bar) String() string {
	if b.Least {
		return ">= " + number(b.Value)
	}
	return "<= " + number(b.Value)
}

func measured(what string, v float64, unit string, b *bar, note string) row {
	return row{What: what, Value: &v, Unit: unit, Bar: b, Note: note}
}

func (s *section) add(rows ...row) { s.Rows = append(s.Rows, rows...) }

func (s *section) note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

// number shows what is significant of v: 561,104, 12.3, 0.00012.
func number(v float64) string {
	switch abs := math.Abs(v); {
	case abs >= 1000:
		s := strconv.FormatFloat(math.Round(v), 'f', 0, 64)
		for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	case abs >= 100 || v == math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 0, 64)
	default:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
}

// cells are a row as it is shown.
func (r *row) cells() [5]string {
	c := [5]string{r.What, "-", "", "", r.Note}
	if r.Value != nil {
		c[1] = strings.TrimSpace(number(*r.Value) + " " + r.Unit)
	}
	if r.Bar == nil {
		return c
	}
	c[2] = r.Bar.String()
	switch {
	case r.Value == nil:
		c[3] = "not measured"
	case r.Bar.met(*r.Value):
		c[3] = "met"
	default:
		c[3] = "MISSED"
	}
	return c
}

func (r *report) head() []string {
	m := r.Machine
	head := []string{
		fmt.Sprintf("%s, %d cores, %s, Linux %s, %s", m.CPU, m.Cores, m.Memory, m.Kernel, m.Go),
		fmt.Sprintf("load average before: %s; commit %s; %s; took %s", m.Load, r.Commit, r.Started.Format(time.RFC3339), r.Took),
	}
	if r.Quick {
		head = append(head, "--quick: short phases, rough figures")
	}
	return head
}

// write prints the report for people.
func (r *report) write(w io.Writer) {
	fmt.Fprintln(w, strings.Join(r.head(), "\n"))
	for _, s := range r.Sections {
		fmt.Fprintf(w, "\n%s\n", s.Title)
		tw := tabwriter.NewWriter(w, 2, 0, 2, ' ', 0)
		for i := range s.Rows {
			c := s.Rows[i].cells()
			fmt.Fprintf(tw, "  %s\n", strings.TrimRight(strings.Join(c[:], "\t"), "\t"))
		}
		_ = tw.Flush()
		for _, n := range s.Notes {
			fmt.Fprintf(w, "  * %s\n", n)
		}
	}
}

func (r *report) markdown(w io.Writer) {
	fmt.Fprintf(w, "# Benchmarks, %s\n\n", r.Started.Format(time.DateOnly))
	for _, line := range r.head() {
		fmt.Fprintf(w, "- %s\n", line)
	}
	for _, s := range r.Sections {
		fmt.Fprintf(w, "\n## %s\n\n| what | value | bar | | note |\n|---|---|---|---|---|\n", s.Title)
		for i := range s.Rows {
			c := s.Rows[i].cells()
			for j := range c {
				c[j] = strings.ReplaceAll(c[j], "|", "\\|")
			}
			fmt.Fprintf(w, "| %s |\n", strings.Join(c[:], " | "))
		}
		if len(s.Notes) > 0 {
			fmt.Fprintln(w)
		}
		for _, n := range s.Notes {
			fmt.Fprintf(w, "- %s\n", n)
		}
	}
}

// save writes the report as JSON and as Markdown and returns their path without
// the ending. A second run on the same day does not replace the first.
func (r *report) save(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	base := filepath.Join(dir, r.Started.Format(time.DateOnly)+"-"+r.Machine.short())
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
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := errors.Join(enc.Encode(r), f.Close()); err != nil {
			return "", err
		}
		break
	}
	var md strings.Builder
	r.markdown(&md)
	return path, os.WriteFile(path+".md", []byte(md.String()), 0o644)
}
