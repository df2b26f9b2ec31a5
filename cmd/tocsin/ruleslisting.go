package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// listing is rows of text under headings that fit the terminal, whatever is in them.
type listing struct {
	heads []string
	rows  [][]string
	// flexible are the columns that give way where a terminal is too narrow, one
	// after the other.
	flexible []int
}

func (t *listing) add(cells ...string) { t.rows = append(t.rows, cells) }

// minFlexible is how narrow a flexible column may become.
const minFlexible = 12

// write writes the table; width is the terminal's, 0 for no limit.
func (t *listing) write(w io.Writer, width int) error {
	widths := make([]int, len(t.heads))
	for _, row := range append([][]string{t.heads}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	total := 2 * (len(widths) - 1)
	for _, n := range widths {
		total += n
	}
	for _, i := range t.flexible {
		if width > 0 && total > width {
			narrow := max(min(minFlexible, widths[i]), widths[i]-(total-width))
			total -= widths[i] - narrow
			widths[i] = narrow
		}
	}
	var b strings.Builder
	for _, row := range append([][]string{t.heads}, t.rows...) {
		for i, cell := range row {
			cell = printable(cell)
			n := utf8.RuneCountInString(cell)
			if n > widths[i] {
				cell = string([]rune(cell)[:widths[i]-3]) + "..."
				n = widths[i]
			}
			b.WriteString(cell)
			if i+1 < len(row) {
				b.WriteString(strings.Repeat(" ", widths[i]-n+2))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printable replaces what could move a terminal's cursor: group values come from
// the logs, which means from devices.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// wrap breaks text into lines of at most width characters where words end.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// terminalWidth returns the width of the terminal that w is, 0 if it is none.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// plural writes a count with its noun.
func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
