package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// table is text in columns.
type table struct {
	head []string
	rows [][]string
	// right marks the columns that are aligned to the right: numbers.
	right []bool
}

// maxCell bounds a column's width, so that one long value does not push the
// rest off the screen.
const maxCell = 56

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) error {
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, c := range row {
			widths[i] = max(widths[i], min(utf8.RuneCountInString(c), maxCell))
		}
	}
	var b strings.Builder
	line := func(cells []string, pad string) {
		var l strings.Builder
		for i, c := range cells {
			c = clip(c, widths[i])
			fill := strings.Repeat(pad, widths[i]-utf8.RuneCountInString(c))
			if i < len(t.right) && t.right[i] {
				c = fill + c
			} else {
				c += fill
			}
			l.WriteString("  " + c)
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	line(t.head, " ")
	line(make([]string, len(t.head)), "-")
	for _, row := range t.rows {
		line(row, " ")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// clip shortens s to at most n runes.
func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	if n <= 3 {
		return string([]rune(s)[:n])
	}
	return string([]rune(s)[:n-3]) + "..."
}

// grouped writes n with a comma between thousands.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	start := len(s) % 3
	if start == 0 || n < 0 && start == 1 {
		start += 3
	}
	for i := start; i < len(s); i += 4 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
