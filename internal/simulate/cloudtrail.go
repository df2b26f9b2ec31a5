package simulate

import (
	"encoding/json"
	"fmt"
	"time"
)

// person is somebody who works with the account.
type person struct {
	name      string
	principal string
	accessKey string
	address   string
	agent     string
}

var operators = []person{
	{"fleet-admin", "AIDAEXAMPLEFLEETADMIN", "AKIAEXAMPLEFLEETADM1", "198.51.100.250", "aws-cli/2.31.4 md/awscrt#0.27.6"},
	{"fleet-provisioner", "AIDAEXAMPLEPROVISION1", "AKIAEXAMPLEPROVISIO1", "198.51.100.251", "Boto3/1.42.1 md/Botocore#1.42.1"},
	{"fleet-oncall", "AIDAEXAMPLEFLEETONCA1", "AKIAEXAMPLEFLEETONC1", "198.51.100.252", "aws-cli/2.31.4 md/awscrt#0.27.6"},
}

// call is what a CloudTrail record says about an API call.
type call struct {
	by       *person
	name     string
	request  any
	response any
}

// cloudTrail emits the EventBridge event "AWS API Call via CloudTrail" of a
// call to AWS IoT.
// https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
func (s *Simulator) cloudTrail(r *rng, at int64, c call, attack int) {
	when := time.UnixMilli(at).UTC().Format(time.RFC3339)
	s.eventBridge(r, at, "AWS API Call via CloudTrail", "aws.iot", map[string]any{
		"eventVersion": "1.11",
		"userIdentity": map[string]any{
			"type": "IAMUser", "principalId": c.by.principal, "arn": "arn:aws:iam::" + Account + ":user/" + c.by.name,
			"accountId": Account, "accessKeyId": c.by.accessKey, "userName": c.by.name,
		},
		"eventTime": when, "eventSource": "iot.amazonaws.com", "eventName": c.name, "awsRegion": Region,
		"sourceIPAddress": c.by.address, "userAgent": c.by.agent,
		"requestParameters": c.request, "responseElements": c.response,
		"requestID": string(r.uuid(nil)), "eventID": string(r.uuid(nil)), "readOnly": false,
		"eventType": "AwsApiCall", "managementEvent": true, "recipientAccountId": Account, "eventCategory": "Management",
	}, attack)
}

// eventBridge emits an event in EventBridge's envelope.
func (s *Simulator) eventBridge(r *rng, at int64, detailType, source string, detail any, attack int) {
	b, err := json.Marshal(map[string]any{
		"version": "0", "id": string(r.uuid(nil)), "detail-type": detailType, "source": source, "account": Account,
		"time": time.UnixMilli(at).UTC().Format(time.RFC3339), "region": Region, "resources": []string{}, "detail": detail,
	})
	if err != nil {
		panic(fmt.Sprintf("simulate: %v", err)) // maps of strings and numbers
	}
	s.emit(at, ChannelEvents, attack, b)
}

// operator is the daily work on the fleet.
type operator struct {
	rng     rng
	next    int // number of the next new device
	changed bool
}

func newOperator(seed uint64) *operator { return &operator{rng: newRNG(seed, 1)} }

const operatorEvery = 75 // seconds, mean

func (o *operator) step(s *Simulator, now int64) int64 {
	next := after(now, o.rng.exp(operatorEvery))
	if now == s.begins {
		return next
	}
	r := &o.rng
	admin, provisioner := &operators[0], &operators[1]
	// Once, early: more of the log, not less.
	if !o.changed && now > s.begins+(s.ends-s.begins)/20 {
		o.changed = true
		s.cloudTrail(r, now, call{by: admin, name: "SetV2LoggingOptions", request: map[string]any{
			"roleArn": "arn:aws:iam::" + Account + ":role/IoTLogging", "defaultLogLevel": "INFO", "disableAllLogs": false,
			"eventConfigurations": []any{
				map[string]any{"eventType": "Ping", "logLevel": "DEBUG"},
				map[string]any{"eventType": "Connection.AuthNError", "logLevel": "ERROR"},
			},
		}}, benign)
		return next
	}
	switch o.rng.n(6) {
	case 0, 1, 2: // a device is added
		o.next++
		thing := fmt.Sprintf("sensor-%05d", len(s.devices)+o.next)
		cert := certificateID(s.opts.Seed, len(s.devices)+o.next)
		arn := "arn:aws:iot:" + Region + ":" + Account + ":cert/" + cert
		s.cloudTrail(r, now, call{
			by: provisioner, name: "CreateThing",
			request:  map[string]any{"thingName": thing, "thingTypeName": "sensor"},
			response: map[string]any{"thingName": thing, "thingArn": "arn:aws:iot:" + Region + ":" + Account + ":thing/" + thing, "thingId": string(r.uuid(nil))},
		}, benign)
		s.cloudTrail(r, now+700, call{
			by: provisioner, name: "CreateKeysAndCertificate",
			request:  map[string]any{"setAsActive": true},
			response: map[string]any{"certificateArn": arn, "certificateId": cert},
		}, benign)
		s.cloudTrail(r, now+1300, call{
			by: provisioner, name: "AttachPolicy",
			request: map[string]any{"policyName": "fleet-device", "target": arn},
		}, benign)
		s.cloudTrail(r, now+1900, call{
			by: provisioner, name: "AttachThingPrincipal",
			request: map[string]any{"thingName": thing, "principal": arn},
		}, benign)
	case 3:
		s.cloudTrail(r, now, call{
			by: admin, name: "CreateJob",
			request:  map[string]any{"jobId": "firmware-2026-11", "targets": []string{"arn:aws:iot:" + Region + ":" + Account + ":thinggroup/canary"}, "targetSelection": "SNAPSHOT"},
			response: map[string]any{"jobId": "firmware-2026-11"},
		}, benign)
	case 4:
		s.cloudTrail(r, now, call{
			by: admin, name: "UpdateThing",
			request: map[string]any{"thingName": s.devices[o.rng.n(len(s.devices))].peer.clientID, "attributePayload": map[string]any{"attributes": map[string]any{"site": "moved"}}},
		}, benign)
	case 5: // a device that was never installed is taken out of service
		s.cloudTrail(r, now, call{
			by: admin, name: "UpdateCertificate",
			request: map[string]any{"certificateId": certificateID(s.opts.Seed, len(s.devices)+500_000+o.next), "newStatus": "INACTIVE"},
		}, benign)
	}
	return next
}
