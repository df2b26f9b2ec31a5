package simulate

import "time"

// stolenCredentials: somebody has taken over a device. He tries what its policy
// allows, then gets AWS credentials through its role alias and uses them
// elsewhere. GuardDuty sees that; its finding names the device only by the
// role session, whose name is the certificate ID.
func stolenCredentials(s *Simulator, a *attack, d *device) (Label, time.Duration) {
	const probes = 14
	address := attackerAddress(&a.rng)
	length := s.within(7*time.Minute, 0.27)
	pace := length.Minutes() / 7
	a.do = func(a *attack, s *Simulator, now int64) int64 {
		a.done++
		switch {
		case a.done <= probes:
			other := s.devices[a.rng.n(len(s.devices))].peer.clientID
			if a.done%3 == 0 {
				s.refusedOn(&a.rng, now, "Subscribe", &d.peer, "fleet/"+other+"/command", a.index)
			} else {
				s.refusedOn(&a.rng, now, "Publish-In", &d.peer, "$aws/things/"+other+"/shadow/update", a.index)
			}
			return after(now, a.rng.about(9, 0.6)*pace)
		case a.done == probes+1:
			s.getDeviceCredentials(&a.rng, now, d.peer.certID, a.index)
			return after(now, a.rng.about(150, 0.2)*pace)
		}
		s.guardDuty(&a.rng, now, &accessKeyFinding{
			findingType: "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS", severity: 8,
			title:       "Credentials of role " + roleName + " were used from an external IP address",
			principalID: roleID + ":" + d.peer.certID, userType: "AssumedRole", userName: roleName,
			accessKey: "ASIAEXAMPLEDEVICE0001", api: "ListBuckets", service: "s3.amazonaws.com", address: address,
			first: now - 100_000, last: now - 20_000, count: 3,
		}, a.index)
		return never
	}
	return Label{
		Attack:       "stolen device credentials",
		Description:  "A device is refused again and again; then GuardDuty reports its role session.",
		Devices:      []string{d.peer.clientID},
		Certificates: []string{d.peer.certID},
		Addresses:    []string{address},
	}, length
}
