package simulate

import "time"

// Label is the ground truth about one attack: what an operator should be told
// of, and when.
type Label struct {
	Attack      string `json:"attack"` // short name
	Description string `json:"description"`
	// Whom a detection may name. A detection of the attack names one of these and
	// nobody else's; one that names anybody else is false.
	Devices      []string `json:"devices,omitempty"` // client IDs
	Certificates []string `json:"certificates,omitempty"`
	Addresses    []string `json:"addresses,omitempty"`
	Accounts     []string `json:"accounts,omitempty"`
	// From the first record of the attack to the last.
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

const minAttackDevices = 100

// attack is an attacker at work.
type attack struct {
	rng   rng
	index int // of its label
	until int64
	done  int
	do    func(a *attack, s *Simulator, now int64) (next int64)
}

func (a *attack) step(s *Simulator, now int64) int64 {
	next := a.do(a, s, now)
	if next > a.until {
		return never
	}
	return next
}

// plantAttacks spreads the attacks over the duration. Each picks its victims at
// random, none the same device twice.
func (s *Simulator) plantAttacks() {
	r := newRNG(s.opts.Seed, 3)
	taken := map[int]bool{}
	victim := func(fits func(*device) bool) *device {
		for try := 0; ; try++ {
			i := r.n(len(s.devices))
			d := &s.devices[i]
			// A small fleet may have none that fits.
			if !taken[i] && (fits(d) || try > 1000) {
				taken[i] = true
				return d
			}
		}
	}
	steady := func(d *device) bool { return d.connected && d.kind.uptime > 3600 }
	quiet := func(d *device) bool { return steady(d) && d.interval > 5 }
	for i, plant := range []struct {
		at float64 // share of the duration
		by func(*Simulator, *attack, *device) (Label, time.Duration)
		on func(*device) bool
	}{
		{0.12, revokedCertificate, steady},
		{0.25, sharedCertificate, steady},
		{0.40, failingAddress, quiet},
		{0.52, publishFlood, quiet},
		{0.62, stolenCredentials, quiet},
		{0.90, loggingOff, quiet},
	} {
		a := &attack{rng: newRNG(s.opts.Seed, 10+uint64(i)), index: i}
		begins := s.begins + int64(float64(s.ends-s.begins)*r.about(plant.at, 0.03))
		label, length := plant.by(s, a, victim(plant.on))
		a.until = min(begins+length.Milliseconds(), s.ends-1)
		label.Start, label.End = time.UnixMilli(begins).UTC(), time.UnixMilli(a.until).UTC()
		s.labels = append(s.labels, label)
		s.addActor(a, begins)
	}
}

// within returns length, or the share of the duration that there is room for.
func (s *Simulator) within(length time.Duration, share float64) time.Duration {
	return min(length, time.Duration(float64(s.opts.Duration)*share))
}
