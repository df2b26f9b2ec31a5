package simulate

import "time"

// failingAddress: somebody goes through the fleet's client IDs, which are easy
// to guess, with certificates of his own making.
func failingAddress(s *Simulator, a *attack, _ *device) (Label, time.Duration) {
	address := attackerAddress(&a.rng)
	a.do = func(a *attack, s *Simulator, now int64) int64 {
		p := peer{
			clientID: s.devices[a.rng.n(len(s.devices))].peer.clientID,
			certID:   certificateID(s.opts.Seed, 10_000_000+a.done/20), // he has a few
			address:  address,
			port:     32768 + a.rng.n(28232),
		}
		a.done++
		if a.rng.chance(0.3) {
			p.certID = "" // "if available"
		}
		s.authNError(&a.rng, now, &p, "DEVICE_CERTIFICATE_NOT_REGISTERED", "Device certificate is not registered", a.index)
		return after(now, a.rng.exp(2))
	}
	certificates := make([]string, 20)
	for i := range certificates {
		certificates[i] = certificateID(s.opts.Seed, 10_000_000+i)
	}
	return Label{
		Attack:       "client ID guessing",
		Description:  "One address tries many client IDs with certificates that are not registered.",
		Addresses:    []string{address},
		Certificates: certificates,
	}, s.within(4*time.Minute, 0.2)
}
