package simulate

import "time"

// revokedCertificate: an operator revokes a certificate; whoever holds its key
// tries on, for hours.
func revokedCertificate(s *Simulator, a *attack, d *device) (Label, time.Duration) {
	p := d.peer
	a.do = func(a *attack, s *Simulator, now int64) int64 {
		a.done++
		switch a.done {
		case 1:
			s.cloudTrail(&a.rng, now, call{
				by: &operators[0], name: "UpdateCertificate",
				request: map[string]any{"certificateId": p.certID, "newStatus": "REVOKED"},
			}, benign)
			return after(now, a.rng.about(40, 0.3))
		case 2:
			// AWS IoT ends the connections some minutes after the change.
			d.cutOff(s, now, "SERVER_INITIATED_DISCONNECT", benign)
			return after(now, a.rng.about(5, 0.3))
		}
		p.port = 32768 + a.rng.n(28232)
		s.authNError(&a.rng, now, &p, "DEVICE_CERTIFICATE_REVOKED", "Device certificate is revoked", a.index)
		return after(now, a.rng.about(25, 0.4))
	}
	return Label{
		Attack:       "revoked certificate",
		Description:  "A certificate was revoked; its key keeps connecting.",
		Devices:      []string{p.clientID},
		Certificates: []string{p.certID},
	}, s.opts.Duration
}
