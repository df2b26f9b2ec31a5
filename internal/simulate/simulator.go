// Package simulate plays an AWS IoT fleet: what its devices do, written as the
// services write it, in simulated event time, the same for the same seed. It
// knows what the logs look like and what attackers do; it knows nothing of
// rules.
package simulate

import (
	"fmt"
	"time"
)

// Options of a Simulator. The zero value of a field takes its default.
type Options struct {
	// Seed makes all the difference: equal options give equal bytes.
	Seed uint64
	// Devices in the fleet. Default 2,000.
	Devices int
	// Start is the event time at which it begins, Duration how long it lasts. Default 30 minutes
	// that end now.
	Start    time.Time
	Duration time.Duration
	// Rate is the mean number of log lines per second of event time. The devices do more or less
	// of everything to give it; 0 lets them do what they do, about a quarter line per second each.
	Rate float64
	// Attacks hides the attacks among the benign traffic. They need a Duration of 10 minutes.
	Attacks bool
}

// MinAttackDuration is the least Duration with Attacks.
const MinAttackDuration = 10 * time.Minute

func (o Options) withDefaults() (Options, error) {
	if o.Devices == 0 {
		o.Devices = 2000
	}
	if o.Duration == 0 {
		o.Duration = 30 * time.Minute
	}
	if o.Start.IsZero() {
		o.Start = time.Now().Add(-o.Duration)
	}
	const most = 10_000_000
	switch {
	case o.Devices < 0 || o.Devices > most:
		return o, fmt.Errorf("%d devices; want 1 to %d", o.Devices, most)
	case o.Duration < 0:
		return o, fmt.Errorf("a duration of %s", o.Duration)
	case o.Rate < 0:
		return o, fmt.Errorf("a rate of %g lines per second", o.Rate)
	case o.Attacks && o.Duration < MinAttackDuration:
		return o, fmt.Errorf("the attacks need %s of event time, not %s; use a longer duration or no attacks", MinAttackDuration, o.Duration)
	case o.Attacks && o.Devices < minAttackDevices:
		return o, fmt.Errorf("the attacks need %d devices, not %d; use more or no attacks", minAttackDevices, o.Devices)
	}
	return o, nil
}

// Channel is the way by which a record leaves AWS.
type Channel uint8

const (
	// ChannelLogs is a line of the log group AWSIotLogsV2.
	ChannelLogs Channel = iota
	// ChannelLifecycle is a message on $aws/events/..., taken from there by a topic rule.
	ChannelLifecycle
	// ChannelEvents is an EventBridge event: CloudTrail, GuardDuty.
	ChannelEvents
)

// benign is the Attack of a record that belongs to none.
const benign = -1

// Record is one log line or event.
type Record struct {
	Time    int64 // event time, Unix milliseconds
	Channel Channel
	Attack  int    // index into Labels, -1 for benign
	Data    []byte // one JSON object; valid until the next Step

	start, end int // of Data in the buffer, while that may still move
}

// Simulator is a fleet being played. It is not safe for concurrent use.
type Simulator struct {
	opts     Options
	begins   int64
	ends     int64
	devices  []device
	actors   []actor
	labels   []Label
	activity float64 // how much busier than by nature
	queue    queue

	// From the moment that logging is switched off until it is back on there are
	// no log lines.
	silentFrom, silentTo int64

	line    line
	stamp   stamp
	buf     []byte
	records []Record
}

// actor is whoever is not a device: operators, attackers.
type actor interface {
	// step does what is due at now and returns when it wants to be called next,
	// never to end.
	step(s *Simulator, now int64) (next int64)
}

const never = 1<<63 - 1

// New returns a simulator at its start.
func New(opts Options) (*Simulator, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Simulator{opts: opts, begins: opts.Start.UnixMilli(), activity: 1}
	s.ends = s.begins + opts.Duration.Milliseconds()
	s.silentFrom, s.silentTo = never, never
	s.devices = newFleet(opts.Seed, opts.Devices)
	if opts.Rate > 0 {
		s.activity = opts.Rate / naturalRate(s.devices)
	}
	for i := range s.devices {
		s.devices[i].start(s, i)
	}
	s.addActor(newOperator(opts.Seed), s.begins)
	s.addActor(newGuardDutyNoise(opts.Seed), s.begins)
	if opts.Attacks {
		s.plantAttacks()
	}
	return s, nil
}

func (s *Simulator) addActor(a actor, at int64) {
	s.actors = append(s.actors, a)
	s.queue.push(entry{at: at, who: int32(-len(s.actors))})
}

// Labels are the attacks that the simulation holds: the ground truth.
func (s *Simulator) Labels() []Label { return s.labels }

// Start returns the event time of the beginning, End that of the end.
func (s *Simulator) Start() time.Time { return time.UnixMilli(s.begins) }

// End returns the event time of the end.
func (s *Simulator) End() time.Time { return time.UnixMilli(s.ends) }

// Step returns the records of the next thing that happens, nil at the end.
// Their times run forward but for the fractions of a second by which the lines
// of one action follow it.
func (s *Simulator) Step() []Record {
	s.buf, s.records = s.buf[:0], s.records[:0]
	for len(s.records) == 0 {
		e, ok := s.queue.pop()
		if !ok || e.at >= s.ends {
			return nil
		}
		if e.who >= 0 {
			s.devices[e.who].act(s, int(e.who), e)
			continue
		}
		if next := s.actors[-e.who-1].step(s, e.at); next != never {
			s.queue.push(entry{at: max(next, e.at+1), who: e.who})
		}
	}
	for i := range s.records {
		r := &s.records[i]
		r.Data = s.buf[r.start:r.end:r.end]
	}
	return s.records
}

// emit adds a record that was not built by begin and end.
func (s *Simulator) emit(at int64, channel Channel, attack int, data []byte) {
	start := len(s.buf)
	s.buf = append(s.buf, data...)
	s.records = append(s.records, Record{Time: at, Channel: channel, Attack: attack, start: start, end: len(s.buf)})
}

// after returns the time that is a number of seconds after now.
func after(now int64, seconds float64) int64 { return now + max(int64(seconds*1000), 1) }
