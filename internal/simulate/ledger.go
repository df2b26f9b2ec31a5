package simulate

import (
	"slices"
	"sync"
	"time"
)

// Ledger is what a player did: the other side of the account for a test or a
// benchmark. It is safe for concurrent use.
type Ledger struct {
	mu     sync.Mutex
	totals Totals
	marks  []mark
}

// Totals are a ledger's sums.
type Totals struct {
	Events   int64 // acknowledged, repeated ones included
	Distinct int64 // acknowledged, each counted once
	Logs     int64 // of Distinct, log lines
	Requests int64 // acknowledged
	Retries  int64
	Bytes    int64 // of acknowledged request bodies
	Lost     int64 // events of requests that were given up
}

// mark is the moment at which everything up to an event time had been handed
// to the network.
type mark struct {
	event int64 // Unix milliseconds
	wall  time.Time
}

// Totals returns the sums so far.
func (l *Ledger) Totals() Totals {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.totals
}

// SentAt returns when the event of this time had been sent at the latest, and
// false when it has not been.
func (l *Ledger) SentAt(event time.Time) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, _ := slices.BinarySearchFunc(l.marks, event.UnixMilli(), func(m mark, t int64) int {
		switch {
		case m.event < t:
			return -1
		case m.event > t:
			return 1
		}
		return 0
	})
	if i == len(l.marks) {
		return time.Time{}, false
	}
	return l.marks[i].wall, true
}

func (l *Ledger) sent(r *request, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range r.payloads {
		t := r.payloads[i].LastTime
		// Only what is later than all before: the marks stay sorted.
		if n := len(l.marks); n == 0 || t > l.marks[n-1].event {
			l.marks = append(l.marks, mark{t, at})
		}
	}
}

func (l *Ledger) retried() {
	l.mu.Lock()
	l.totals.Retries++
	l.mu.Unlock()
}

func (l *Ledger) done(r *request, repeated bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range r.payloads {
		p := &r.payloads[i]
		if err != nil {
			l.totals.Lost += int64(p.Events)
			continue
		}
		l.totals.Events += int64(p.Events)
		if repeated {
			continue
		}
		l.totals.Distinct += int64(p.Events - p.Repeated)
		if p.Channel == ChannelLogs {
			l.totals.Logs += int64(p.Events - p.Repeated)
		}
	}
	if err == nil {
		l.totals.Requests++
		l.totals.Bytes += int64(len(r.body))
	}
}
