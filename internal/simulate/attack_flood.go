package simulate

import "time"

// publishFlood: a device that sends every few seconds sends as fast as AWS IoT
// lets a connection, which is a hundred messages a second.
func publishFlood(s *Simulator, a *attack, d *device) (Label, time.Duration) {
	a.do = func(a *attack, s *Simulator, now int64) int64 {
		d.publish(s, now, a.index)
		return after(now, a.rng.exp(1.0/60))
	}
	return Label{
		Attack:       "publish flood",
		Description:  "A device sends hundreds of times as much as it ever did.",
		Devices:      []string{d.peer.clientID},
		Certificates: []string{d.peer.certID},
	}, s.within(150*time.Second, 0.15)
}
