// Package blastradius bounds how much of a fleet automated actions may touch. A
// rule that is wrong, a clock that is wrong or a revocation list that is wrong
// must not take a whole fleet off the air before somebody has looked.
//
// A Breaker counts the targets that were acted on within a window of time. The
// first one beyond the share of the fleet that is allowed is refused and opens
// the breaker: from then on everything is refused, until a person resumes it or a
// trial after a cool-down shows that the flood is over.
//
//	closed ──the share is used up──► open ──Cooldown──► half-open
//	   ▲                              │ ▲                   │ │
//	   └─────────── Resume ───────────┘ └── more than Trial ┘ │
//	   └────────────── another Cooldown without that ─────────┘
package blastradius

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// State of a breaker.
type State uint8

// The states.
const (
	Closed State = iota
	HalfOpen
	Open
)

// String returns closed, half-open or open.
func (s State) String() string { return [...]string{"closed", "half-open", "open"}[s] }

// Options of a Breaker. The zero value is usable.
type Options struct {
	// MaxShare is how much of the fleet may be touched within Window, in percent.
	// Default 1.
	MaxShare float64
	// Least is how many targets may be touched whatever the share: of 100 devices
	// 1 % would be one. Default 5; negative for none.
	Least int
	// Window is the time that MaxShare is for. Default 1 h.
	Window time.Duration
	// Cooldown is how long the breaker stays open before it tries again, and how
	// long the trial lasts. 0: it stays open until Resume.
	Cooldown time.Duration
	// Trial is how many targets may be touched during the trial. Default 1.
	Trial int
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.MaxShare <= 0 {
		o.MaxShare = 1
	}
	switch {
	case o.Least == 0:
		o.Least = 5
	case o.Least < 0:
		o.Least = 0
	}
	if o.Window <= 0 {
		o.Window = time.Hour
	}
	if o.Trial <= 0 {
		o.Trial = 1
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Breaker decides whether one more target may be acted on. It is safe for
// concurrent use. Its memory is bounded by the number of targets allowed.
type Breaker struct {
	opts Options

	mu      sync.Mutex
	fleet   int
	touched map[string]time.Time // when each target was last acted on
	oldest  time.Time            // no entry of touched is older
	state   State
	since   time.Time // of state
	trial   int       // targets touched while half-open
}

// New returns a closed breaker for a fleet of unknown size, of which Least
// targets may be touched.
func New(o Options) *Breaker {
	return &Breaker{opts: o.withDefaults(), touched: make(map[string]time.Time)}
}

// Refused is the error of Allow.
type Refused struct {
	// Opened says that this refusal opened the breaker: whoever gets it must alert.
	Opened bool
	Since  time.Time // when the breaker opened
	Used   int       // targets touched within the window
	Limit  int       // targets that may be
	Fleet  int       // 0: not known
}

// Error says what was exceeded.
func (r *Refused) Error() string {
	return fmt.Sprintf("the breaker is open since %s: %d targets were acted on within the window and %d may be, of a fleet of %d",
		r.Since.UTC().Format(time.RFC3339), r.Used, r.Limit, r.Fleet)
}

// Allow counts a target, or refuses it with a *Refused. A target that was touched
// within the window counts once.
func (b *Breaker) Allow(target string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.advance()
	_, again := b.touched[target]
	full := !again && len(b.touched) >= b.limit()
	switch b.state {
	case Open:
		return b.refused(false)
	case HalfOpen:
		if full || b.trial >= b.opts.Trial {
			return b.open(now)
		}
		b.trial++
	case Closed:
		if full {
			return b.open(now)
		}
	}
	b.touch(target, now)
	return nil
}

// SetFleet sets how many devices there are.
func (b *Breaker) SetFleet(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fleet = max(n, 0)
}

// Restore counts a target that was acted on at t, before a restart or by somebody
// else. It never opens the breaker.
func (b *Breaker) Restore(target string, t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.opts.Now().Sub(t) < b.opts.Window && t.After(b.touched[target]) {
		b.touch(target, t)
	}
}

// RestoreOpen opens the breaker, which opened at t, before a restart or for
// somebody else.
func (b *Breaker) RestoreOpen(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state, b.since = Open, t
}

// Resume closes the breaker and lets it count from zero: a person has looked.
func (b *Breaker) Resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state, b.since = Closed, b.opts.Now()
	clear(b.touched)
}

// Status is what a breaker says of itself.
type Status struct {
	State State
	Since time.Time // of State; zero when it never changed
	Used  int       // targets touched within the window
	Limit int       // targets that may be
	Fleet int       // 0: not known
}

// Status returns the state of now.
func (b *Breaker) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance()
	return Status{State: b.state, Since: b.since, Used: len(b.touched), Limit: b.limit(), Fleet: b.fleet}
}

// limit is rounded down: 1 % of 199 devices is one.
func (b *Breaker) limit() int {
	share := math.Floor(float64(b.fleet) * b.opts.MaxShare / 100)
	return max(int(share), b.opts.Least)
}

// advance does what time does: targets leave the window, an open breaker becomes
// half-open, and a half-open one closes.
func (b *Breaker) advance() time.Time {
	now := b.opts.Now()
	start := now.Add(-b.opts.Window)
	if len(b.touched) > 0 && !b.oldest.After(start) {
		b.oldest = now
		for target, t := range b.touched {
			switch {
			case !t.After(start):
				delete(b.touched, target)
			case t.Before(b.oldest):
				b.oldest = t
			}
		}
	}
	if b.opts.Cooldown <= 0 {
		return now
	}
	// A long silence may take it through both steps.
	if end := b.since.Add(b.opts.Cooldown); b.state == Open && !now.Before(end) {
		b.state, b.since, b.trial = HalfOpen, end, 0
	}
	if end := b.since.Add(b.opts.Cooldown); b.state == HalfOpen && !now.Before(end) {
		b.state, b.since = Closed, end
	}
	return now
}

func (b *Breaker) touch(target string, t time.Time) {
	if len(b.touched) == 0 || t.Before(b.oldest) {
		b.oldest = t
	}
	b.touched[target] = t
}

func (b *Breaker) open(now time.Time) error {
	b.state, b.since = Open, now
	return b.refused(true)
}

func (b *Breaker) refused(opened bool) error {
	return &Refused{Opened: opened, Since: b.since, Used: len(b.touched), Limit: b.limit(), Fleet: b.fleet}
}
