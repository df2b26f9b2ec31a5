package firehose

import (
	"strings"
	"sync"
	"sync/atomic"
)

// budget bounds bytes held at once. It never waits: a request that does not fit
// is better repeated later by its sender than held half-read.
type budget struct {
	limit int64
	used  atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// origin is what a delivery stream's ARN says.
type origin struct {
	stream, account, region string
}

// parseARN reads arn:aws:firehose:REGION:ACCOUNT:deliverystream/NAME; the name is
// "unknown" when arn is not one.
func parseARN(arn string) origin {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "firehose" {
		return origin{stream: "unknown"}
	}
	name, ok := strings.CutPrefix(parts[5], "deliverystream/")
	if !ok || !plain(name) || !plain(parts[3]) || !plain(parts[4]) {
		return origin{stream: "unknown"}
	}
	return origin{stream: name, account: parts[4], region: parts[3]}
}

// plain reports whether s has the characters and length of a stream name.
func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-', c == '.':
		default:
			return false
		}
	}
	return 0 < len(s) && len(s) <= 64
}

// lanes names the lane of a delivery stream, and bounds their number.
type lanes struct {
	limit int
	mu    sync.Mutex
	known map[string]string
}

func (l *lanes) of(stream string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lane, ok := l.known[stream]; ok {
		return lane
	}
	if len(l.known) >= l.limit {
		return "firehose/other"
	}
	lane := "firehose/" + stream
	l.known[stream] = lane
	return lane
}
