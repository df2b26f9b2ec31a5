package pcareport

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
)

// BadEntry is the error of one entry that cannot be read. The others can.
type BadEntry struct {
	Line int // of the file in CSV, number of the entry in JSON; from 1
	Err  error
}

func (b *BadEntry) Error() string { return fmt.Sprintf("entry %d: %v", b.Line, b.Err) }

// Unwrap returns the cause.
func (b *BadEntry) Unwrap() error { return b.Err }

// Read yields the entries of a report, JSON or CSV, one at a time. After a
// *BadEntry it goes on; any other error ends it.
func Read(r io.Reader) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		b := bufio.NewReaderSize(r, 64<<10)
		if mark, err := b.Peek(3); err == nil && string(mark) == "\xef\xbb\xbf" {
			_, _ = b.Discard(3) // they are there
		}
		first, err := firstByte(b)
		switch {
		case errors.Is(err, io.EOF):
			yield(Entry{}, errors.New("the report is empty"))
		case err != nil:
			yield(Entry{}, err)
		case first == '[':
			readJSON(b, yield)
		default:
			readCSV(b, yield)
		}
	}
}

// firstByte returns the first byte that is not white space, and leaves it.
func firstByte(b *bufio.Reader) (byte, error) {
	for {
		c, err := b.ReadByte()
		if err != nil {
			return 0, err
		}
		if !bytes.ContainsRune([]byte(" \t\r\n"), rune(c)) {
			return c, b.UnreadByte()
		}
	}
}

func readJSON(r io.Reader, yield func(Entry, error) bool) {
	d := json.NewDecoder(r)
	if _, err := d.Token(); err != nil { // the [
		yield(Entry{}, err)
		return
	}
	for n := 1; d.More(); n++ {
		var w row
		err := d.Decode(&w)
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !ok {
			yield(Entry{}, fmt.Errorf("entry %d: %w", n, truncated(err)))
			return
		}
		if !give(yield, &w, n, err) {
			return
		}
	}
	if _, err := d.Token(); err != nil { // the ]
		yield(Entry{}, truncated(err))
	}
}

// truncated makes the end of the input, where more should be, an error of its own.
func truncated(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func readCSV(r io.Reader, yield func(Entry, error) bool) {
	c := csv.NewReader(r)
	c.ReuseRecord = true
	header, err := c.Read()
	if err != nil {
		yield(Entry{}, fmt.Errorf("neither JSON nor CSV: %w", err))
		return
	}
	columns := make([]string, len(header))
	copy(columns, header)
	if !slices.Contains(columns, "serial") || !slices.Contains(columns, "revokedAt") {
		yield(Entry{}, errors.New("not an audit report: no columns serial and revokedAt"))
		return
	}
	for {
		record, err := c.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		line := 0
		if len(record) > 0 {
			line, _ = c.FieldPos(0)
		}
		if err != nil && !errors.Is(err, csv.ErrFieldCount) {
			yield(Entry{}, err) // it has the line
			return
		}
		var w row
		if err == nil {
			w = fromCSV(columns, record)
		}
		if !give(yield, &w, line, err) {
			return
		}
	}
}

func fromCSV(columns, record []string) (w row) {
	for i, name := range columns {
		switch name {
		case "certificateArn":
			w.CertificateARN = record[i]
		case "serial":
			w.Serial = record[i]
		case "subject":
			w.Subject = record[i]
		case "notBefore":
			w.NotBefore = record[i]
		case "notAfter":
			w.NotAfter = record[i]
		case "issuedAt":
			w.IssuedAt = record[i]
		case "revokedAt":
			w.RevokedAt = record[i]
		case "revocationReason":
			w.RevocationReason = record[i]
		}
	}
	return w
}

func give(yield func(Entry, error) bool, w *row, line int, err error) bool {
	var e Entry
	if err == nil {
		e, err = w.entry()
	}
	if err != nil {
		return yield(Entry{}, &BadEntry{Line: line, Err: err})
	}
	return yield(e, nil)
}
