package decode

import (
	"time"

	"github.com/tocsin-io/tocsin/internal/jsonscan"
)

// earliest is the time before which no event is believed to have happened: AWS
// had none of these logs. A zero or a count of seconds in the wrong unit falls
// before it.
var earliest = time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

// ParseTime reads a time in any of the forms that AWS logs have it in, as Unix
// milliseconds: "2017-08-10 15:37:23.476" (UTC), RFC 3339 with or without
// fraction and zone, zones without a colon; Unix seconds, milliseconds,
// microseconds or nanoseconds, told apart by their size, as a number or a
// string of digits.
func ParseTime(v jsonscan.Value) (ms int64, ok bool) {
	switch v.Kind {
	case jsonscan.Number:
		return parseEpoch(v.Raw)
	case jsonscan.String:
		if len(v.Raw) >= 19 && v.Raw[4] == '-' {
			return parseCalendar(v.Raw)
		}
		return parseEpoch(v.Raw)
	}
	return 0, false
}

func parseEpoch(b []byte) (ms int64, ok bool) {
	var whole int64
	i := 0
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		if i == 19 {
			return 0, false
		}
		whole = whole*10 + int64(b[i]-'0')
	}
	if i == 0 {
		return 0, false
	}
	fraction := b[i:]
	if len(fraction) > 0 && fraction[0] != '.' {
		// 1.5e9 and the like are not written by anybody.
		return 0, false
	}
	switch {
	case whole < 1e11: // seconds until the year 5138
		return whole*1000 + millis(fraction), true
	case whole < 1e14:
		return whole, true
	case whole < 1e17:
		return whole / 1e3, true
	}
	return whole / 1e6, true
}

// millis reads ".476" as 476; digits beyond the third do not count.
func millis(fraction []byte) (ms int64) {
	scale := int64(100)
	for i := 1; i < len(fraction) && fraction[i]-'0' <= 9; i++ {
		ms += int64(fraction[i]-'0') * scale
		scale /= 10
	}
	return ms
}

func parseCalendar(b []byte) (ms int64, ok bool) {
	if b[4] != '-' || b[7] != '-' || b[13] != ':' || b[16] != ':' || b[10] != ' ' && b[10] != 'T' && b[10] != 't' {
		return 0, false
	}
	century, ok1 := twoDigits(b[0:])
	yy, ok2 := twoDigits(b[2:])
	month, ok3 := twoDigits(b[5:])
	day, ok4 := twoDigits(b[8:])
	hour, ok5 := twoDigits(b[11:])
	minute, ok6 := twoDigits(b[14:])
	second, ok7 := twoDigits(b[17:])
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || !ok7 ||
		month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60 {
		return 0, false
	}
	seconds := daysSinceEpoch(century*100+yy, month, day)*86400 + hour*3600 + minute*60 + second
	rest := b[19:]
	if len(rest) > 0 && (rest[0] == '.' || rest[0] == ',') {
		ms = millis(rest)
		n := 1
		for n < len(rest) && rest[n]-'0' <= 9 {
			n++
		}
		rest = rest[n:]
	}
	zone, ok := parseZone(rest)
	return (seconds-zone)*1000 + ms, ok
}

// parseZone reads "", "Z", "+hh:mm", "+hhmm" or "+hh" as seconds east of UTC.
func parseZone(b []byte) (seconds int64, ok bool) {
	if len(b) == 0 || len(b) == 1 && b[0]|0x20 == 'z' {
		return 0, true
	}
	if len(b) < 3 || b[0] != '+' && b[0] != '-' {
		return 0, false
	}
	hours, ok := twoDigits(b[1:])
	if !ok {
		return 0, false
	}
	seconds = hours * 3600
	if rest := b[3:]; len(rest) > 0 {
		if rest[0] == ':' {
			rest = rest[1:]
		}
		minutes, ok := twoDigits(rest)
		if !ok || len(rest) != 2 {
			return 0, false
		}
		seconds += minutes * 60
	}
	if b[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

func twoDigits(b []byte) (n int64, ok bool) {
	if len(b) < 2 || b[0]-'0' > 9 || b[1]-'0' > 9 {
		return 0, false
	}
	return int64(b[0]-'0')*10 + int64(b[1]-'0'), true
}

// daysSinceEpoch counts the days from 1970-01-01 to a date of the Gregorian
// calendar; the algorithm is days_from_civil of Howard Hinnant's "chrono-
// Compatible Low-Level Date Algorithms".
func daysSinceEpoch(year, month, day int64) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	era := year / 400
	yearOfEra := year - era*400
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	dayOfEra := yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear
	return era*146097 + dayOfEra - 719468
}
