package rules

import (
	"time"
)

// timePart is what the modifiers minute to year take out of a timestamp.
type timePart uint8

const (
	partMinute timePart = iota + 1
	partHour
	partDay
	partWeek
	partMonth
	partYear
)

var timeParts = map[string]timePart{
	"minute": partMinute, "hour": partHour, "day": partDay,
	"week": partWeek, "month": partMonth, "year": partYear,
}

// of returns the part of the timestamp in text, as it is written there: there
// is no conversion between time zones. Day is that of the month, week is ISO
// 8601's.
func (p timePart) of(text []byte) (int, bool) {
	t, ok := parseTimestamp(text)
	if !ok {
		return 0, false
	}
	switch p {
	case partMinute:
		return t.Minute(), true
	case partHour:
		return t.Hour(), true
	case partDay:
		return t.Day(), true
	case partWeek:
		_, week := t.ISOWeek()
		return week, true
	case partMonth:
		return int(t.Month()), true
	default:
		return t.Year(), true
	}
}

// parseTimestamp reads YYYY-MM-DD[(T| )hh:mm[:ss...]], ignoring the fraction and
// the zone, and Unix times in seconds, milliseconds, microseconds or
// nanoseconds, told apart by their magnitude.
func parseTimestamp(s []byte) (time.Time, bool) {
	if len(s) >= 10 && s[4] == '-' && s[7] == '-' {
		year, ok1 := digits(s[0:4])
		month, ok2 := digits(s[5:7])
		day, ok3 := digits(s[8:10])
		hour, minute := 0, 0
		ok4, ok5 := true, true
		if len(s) > 10 {
			if len(s) < 16 || s[10] != 'T' && s[10] != 't' && s[10] != ' ' || s[13] != ':' {
				return time.Time{}, false
			}
			hour, ok4 = digits(s[11:13])
			minute, ok5 = digits(s[14:16])
		}
		if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 {
			return time.Time{}, false
		}
		return time.Date(year, time.Month(month), day, hour, minute, 0, 0, time.UTC), true
	}
	f, ok := parseNumber(s)
	if !ok || f < 0 {
		return time.Time{}, false
	}
	switch {
	case f < 1e11:
		return time.Unix(int64(f), 0).UTC(), true
	case f < 1e14:
		return time.UnixMilli(int64(f)).UTC(), true
	case f < 1e17:
		return time.UnixMicro(int64(f)).UTC(), true
	case f < 9e18:
		return time.Unix(0, int64(f)).UTC(), true
	}
	return time.Time{}, false
}

func digits(s []byte) (int, bool) {
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
