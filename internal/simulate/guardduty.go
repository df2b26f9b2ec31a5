package simulate

import "time"

// accessKeyFinding is a GuardDuty finding about credentials.
type accessKeyFinding struct {
	findingType string
	severity    float64
	title       string
	principalID string
	userType    string // IAMUser, AssumedRole
	userName    string
	accessKey   string
	api         string
	service     string
	address     string
	first, last int64 // Unix milliseconds
	count       int
}

// guardDuty emits a finding by EventBridge, minutes after it happened.
// https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_findings_eventbridge.html
func (s *Simulator) guardDuty(r *rng, at int64, f *accessKeyFinding, attack int) {
	id, detector := string(r.hex(nil, 32)), "d0c0ffee0000000000000000000000a1"
	stamp := func(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }
	s.eventBridge(r, at, "GuardDuty Finding", "aws.guardduty", map[string]any{
		"schemaVersion": "2.0", "accountId": Account, "region": Region, "partition": "aws", "id": id,
		"arn":  "arn:aws:guardduty:" + Region + ":" + Account + ":detector/" + detector + "/finding/" + id,
		"type": f.findingType,
		"resource": map[string]any{
			"resourceType": "AccessKey",
			"accessKeyDetails": map[string]any{
				"accessKeyId": f.accessKey, "principalId": f.principalID, "userType": f.userType, "userName": f.userName,
			},
		},
		"service": map[string]any{
			"serviceName": "guardduty", "detectorId": detector, "resourceRole": "TARGET", "archived": false, "count": f.count,
			"eventFirstSeen": stamp(f.first), "eventLastSeen": stamp(f.last),
			"action": map[string]any{
				"actionType": "AWS_API_CALL",
				"awsApiCallAction": map[string]any{
					"api": f.api, "serviceName": f.service, "callerType": "Remote IP", "userAgent": "python-requests/2.32",
					"remoteIpDetails": map[string]any{
						"ipAddressV4":  f.address,
						"organization": map[string]any{"asn": "64500", "asnOrg": "Example Hosting", "isp": "Example Hosting", "org": "Example Hosting"},
						"country":      map[string]any{"countryName": "Exampleland"}, "city": map[string]any{"cityName": ""},
						"geoLocation": map[string]any{"lat": 0.0, "lon": 0.0},
					},
					"affectedResources": map[string]any{},
				},
			},
			"additionalInfo": map[string]any{"type": "default", "value": "{}"},
		},
		"severity": f.severity, "createdAt": stamp(at), "updatedAt": stamp(at), "title": f.title, "description": f.title + ".",
	}, attack)
}

// guardDutyNoise is what GuardDuty says about people, whose credentials have
// nothing to do with devices.
type guardDutyNoise struct{ rng rng }

func newGuardDutyNoise(seed uint64) *guardDutyNoise {
	return &guardDutyNoise{rng: newRNG(seed, 2)}
}

const guardDutyNoiseEvery = 400 // seconds, mean

func (g *guardDutyNoise) step(s *Simulator, now int64) int64 {
	next := after(now, g.rng.exp(guardDutyNoiseEvery))
	if now == s.begins {
		return next
	}
	p := &operators[g.rng.n(len(operators))]
	f := &accessKeyFinding{
		principalID: p.principal, userType: "IAMUser", userName: p.name, accessKey: p.accessKey,
		address: "198.51.100.253", first: now - 300_000, last: now - 120_000, count: 1 + g.rng.n(4),
	}
	if g.rng.chance(0.5) {
		f.findingType, f.severity = "Discovery:IAMUser/AnomalousBehavior", 2
		f.title, f.api, f.service = "User "+p.name+" is calling APIs in an anomalous way", "ListThings", "iot.amazonaws.com"
	} else {
		f.findingType, f.severity = "Policy:IAMUser/RootCredentialUsage", 2
		f.title, f.api, f.service = "Root credentials were used", "DescribeRegions", "ec2.amazonaws.com"
		f.principalID, f.userType, f.userName = Account, "Root", "Root"
	}
	s.guardDuty(&g.rng, now, f, benign)
	return next
}
