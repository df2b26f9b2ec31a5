package simulate

import (
	"fmt"
	"time"
)

// sharedCertificate: a key was copied out of a device. Clones with invented
// client IDs connect with its certificate from elsewhere.
func sharedCertificate(s *Simulator, a *attack, d *device) (Label, time.Duration) {
	const clones = 8
	label := Label{
		Attack:       "cloned certificate",
		Description:  "The key of one device is used by clones under other client IDs.",
		Devices:      []string{d.peer.clientID},
		Certificates: []string{d.peer.certID},
	}
	peers := make([]peer, clones)
	for i := range peers {
		peers[i] = peer{
			clientID: fmt.Sprintf("%s-r%c", d.peer.clientID, 'a'+i),
			certID:   d.peer.certID,
			address:  attackerAddress(&a.rng),
			port:     32768 + a.rng.n(28232),
		}
		label.Devices = append(label.Devices, peers[i].clientID)
		label.Addresses = append(label.Addresses, peers[i].address)
	}
	a.do = func(a *attack, s *Simulator, now int64) int64 {
		p := &peers[a.done%clones]
		if a.done < clones {
			s.connect(&a.rng, now, p, false, a.index)
			s.presence(&a.rng, now, p, 1, "")
		} else {
			s.publishIn(&a.rng, now, p, d.topic, a.index)
		}
		a.done++
		return after(now, a.rng.about(15, 0.5))
	}
	return label, s.within(6*time.Minute, 0.3)
}
