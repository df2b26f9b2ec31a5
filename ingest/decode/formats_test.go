package decode

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The formats other than IoT logs: variants that the shapes do not show. The
// message is the input in each.
func TestFormats(t *testing.T) {
	userIdentity := func(s string) string {
		return strings.Replace(trail, trail[strings.Index(trail, `{"type":"IAMUser"`):strings.Index(trail, `,"eventTime"`)], s, 1)
	}
	request := func(s string) string {
		return strings.Replace(trail, `{"certificateId":"`+certB+`","newStatus":"ACTIVE"}`, s, 1)
	}
	action := func(s string) string {
		from, to := strings.Index(finding, `{"actionType"`), strings.Index(finding, `,"eventFirstSeen"`)
		return finding[:from] + s + finding[to:]
	}
	tests := []struct {
		name, record string
		want         view
	}{
		{
			"CloudTrail: a device's role session", userIdentity(`{"type":"AssumedRole","principalId":"AROAEXAMPLE:` + certA + `","arn":"arn:aws:sts::111122223333:assumed-role/DeviceRole/` + certA + `","accountId":"111122223333"}`),
			change(trailView, func(v *view) { v.Device, v.Cert, v.Session = "cert:"+certA, certA, certA }),
		},
		{
			"CloudTrail: principal only, somebody's session", userIdentity(`{"type":"AssumedRole","principalId":"AROAEXAMPLE:ann@example.com"}`),
			change(trailView, func(v *view) { v.Session = "ann@example.com" }),
		},
		{
			"CloudTrail: AWS service, refused", strings.NewReplacer(`"192.0.2.44"`, `"iot.amazonaws.com"`, `"readOnly"`, `"errorCode":"AccessDenied","readOnly"`).Replace(trail),
			change(trailView, func(v *view) { v.IP, v.Outcome = "", "failure" }),
		},
		{"CloudTrail: attach to a thing", request(`{"thingName":"pump-1","principal":"arn:aws:iot:eu-west-1:111122223333:cert/` + certA + `"}`), change(trailView, func(v *view) { v.Device, v.Thing, v.Cert = "pump-1", "pump-1", certA })},
		{"CloudTrail: attach a policy", request(`{"policyName":"p","target":"arn:aws:iot:eu-west-1:111122223333:cert/` + certA + `"}`), change(trailView, func(v *view) { v.Device, v.Cert = "cert:"+certA, certA })},
		{
			"CloudTrail: logging off", request(`{"disableAllLogs":true}`),
			change(trailView, func(v *view) { v.Device, v.Cert = "ip:192.0.2.44", "" }),
		},
		{
			"CloudTrail: created", strings.Replace(request(`null`), `"responseElements":null`, `"responseElements":{"certificateId":"`+certA+`"}`, 1),
			change(trailView, func(v *view) { v.Device, v.Cert = "cert:"+certA, certA }),
		},
		{
			"CloudTrail: nearly empty", `{"eventVersion":"1.08","eventSource":"iot.amazonaws.com","eventName":"CreatePolicy","eventTime":5,"userIdentity":"x"}`,
			view{Source: "cloudtrail", Type: "CreatePolicy", Device: "unknown", Outcome: "success", Time: "10:05:00.000"},
		},
		{"GuardDuty: IPv6", strings.Replace(finding, `"ipAddressV4":"203.0.113.9"`, `"ipAddressV6":"2001:db8::9"`, 1), change(findingView, func(v *view) { v.IP = "2001:db8::9" })},
		{"GuardDuty: outbound connection", action(`{"actionType":"NETWORK_CONNECTION","networkConnectionAction":{"connectionDirection":"OUTBOUND","remoteIpDetails":{"ipAddressV4":"203.0.113.9"}}}`), change(findingView, func(v *view) { v.IP = "" })},
		{"GuardDuty: inbound connection", action(`{"actionType":"NETWORK_CONNECTION","networkConnectionAction":{"connectionDirection":"INBOUND","remoteIpDetails":{"ipAddressV4":"203.0.113.9"}}}`), findingView},
		{"GuardDuty: port probe", action(`{"actionType":"PORT_PROBE","portProbeAction":{"blocked":false,"portProbeDetails":[{"remoteIpDetails":{"ipAddressV4":"203.0.113.9"}}]}}`), findingView},
		{"GuardDuty: no probes", action(`{"actionType":"PORT_PROBE","portProbeAction":{"portProbeDetails":[]}}`), change(findingView, func(v *view) { v.IP = "" })},
		{"GuardDuty: action of another type", action(`7`), change(findingView, func(v *view) { v.IP = "" })},
		{"GuardDuty: no last seen", strings.Replace(finding, `"eventLastSeen":"2026-11-20T10:00:01.250Z",`, ``, 1), change(findingView, func(v *view) { v.Time = "10:00:02.000" })},
		{
			"GuardDuty: an instance", strings.Replace(finding, `"accessKeyDetails":{"accessKeyId":"ASIAX","principalId":"AROAEXAMPLE:`+certA+`","userType":"AssumedRole","userName":"DeviceRole"}`, `"instanceDetails":{}`, 1),
			change(findingView, func(v *view) { v.Device, v.Cert, v.Session = "ip:203.0.113.9", "", "" }),
		},
		{
			"lifecycle: disconnected", `{"clientId":"pump-1","thingName":"t-1","timestamp":1795168804000,"eventType":"disconnected","sessionIdentifier":"s-1","principalIdentifier":"AROAEXAMPLE:x","clientInitiatedDisconnect":true,"disconnectReason":"DUPLICATE_CLIENTID","versionNumber":3}`,
			view{Source: "lifecycle", Type: "disconnected", Device: "pump-1", ClientID: "pump-1", Thing: "t-1", Session: "x", Outcome: "success", Time: "10:00:04.000"},
		},
		{
			"lifecycle: connect_failed", `{"clientId":"pump-1","timestamp":1795168804000,"eventType":"connect_failed","connectFailureReason":"AUTHORIZATION_FAILED","principalIdentifier":"` + certA + `","sessionIdentifier":"s-1","ipAddress":"198.51.100.7","versionNumber":0}`,
			change(connectedView, func(v *view) { v.Type, v.Outcome = "connect_failed", "failure" }),
		},
		{
			"lifecycle: subscribed", `{"clientId":"pump-1","timestamp":1795168804000,"eventType":"subscribed","sessionIdentifier":"s-1","principalIdentifier":"` + certA + `","topics":["a"]}`,
			change(connectedView, func(v *view) { v.Type, v.IP = "subscribed", "" }),
		},
		{
			"lifecycle: just-in-time registration", `{"certificateId":"` + certA + `","caCertificateId":"` + certB + `","timestamp":1795168804000,"certificateStatus":"PENDING_ACTIVATION","awsAccountId":"111122223333","certificateRegistrationTimestamp":null}`,
			view{Source: "lifecycle", Type: "registered", Account: "111122223333", Device: "cert:" + certA, Cert: certA, Time: "10:00:04.000"},
		},
		{
			"lifecycle: thing", `{"eventType":"THING_EVENT","eventId":"ev1","timestamp":1795168804000,"operation":"CREATED","accountId":"111122223333","thingId":"i","thingName":"pump-1","versionNumber":1,"thingTypeName":null,"attributes":{}}`,
			view{Source: "lifecycle", Type: "THING_EVENT", Account: "111122223333", Device: "pump-1", Thing: "pump-1", Time: "10:00:04.000"},
		},
		{
			"lifecycle: group membership", `{"eventType":"THING_GROUP_MEMBERSHIP_EVENT","eventId":"ev2","timestamp":1795168804000,"operation":"ADDED","accountId":"111122223333","groupArn":"arn:aws:iot:eu-west-1:111122223333:thinggroup/g","groupId":"g","thingArn":"arn:aws:iot:eu-west-1:111122223333:thing/pump-1","thingId":"i","membershipId":"m"}`,
			view{Source: "lifecycle", Type: "THING_GROUP_MEMBERSHIP_EVENT", Account: "111122223333", Device: "pump-1", Thing: "pump-1", Time: "10:00:04.000"},
		},
		{
			"lifecycle: job, in seconds", `{"eventType":"JOB","eventId":"ev3","timestamp":1795168804,"operation":"completed","jobId":"rotate-1","status":"COMPLETED","targets":[],"jobProcessDetails":{"numberOfFailedThings":0}}`,
			view{Source: "lifecycle", Type: "JOB", Device: "unknown", Time: "10:00:04.000"},
		},
		{
			"lifecycle: job execution", `{"eventType":"JOB_EXECUTION","eventId":"ev4","timestamp":1795168804,"operation":"failed","jobId":"rotate-1","status":"FAILED","thingArn":"arn:aws:iot:eu-west-1:111122223333:thing/pump-1","statusDetails":{}}`,
			view{Source: "lifecycle", Type: "JOB_EXECUTION", Device: "pump-1", Thing: "pump-1", Time: "10:00:04.000"},
		},
		{
			"audit: client", `{"taskId":"t1","checkName":"CONFLICTING_CLIENT_IDS_CHECK","findingTime":1795168806.651,"nonCompliantResource":{"resourceIdentifier":{"clientId":"pump-1"}}}`,
			view{Source: "devicedefender", Type: "CONFLICTING_CLIENT_IDS_CHECK", Device: "pump-1", ClientID: "pump-1", Time: "10:00:06.651"},
		},
		{
			"audit: account, odd resource", `{"taskId":"t1","checkName":"LOGGING_DISABLED_CHECK","findingTime":1795168806.6519,"nonCompliantResource":{"resourceIdentifier":{"account":"111122223333"}}}`,
			view{Source: "devicedefender", Type: "LOGGING_DISABLED_CHECK", Account: "111122223333", Device: "account:111122223333", Time: "10:00:06.651"},
		},
	}
	for _, test := range tests {
		test.want.Message = test.record
		if diff := cmp.Diff(test.want, viewOf(decodeOne(t, test.record))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// A record is the same event by whatever route it comes, and another one when it
// is another occurrence.
func TestEventIDs(t *testing.T) {
	ids := func(payload string) (ids []string) {
		for _, ev := range run(New(Options{}), []byte(payload), Hints{}).Events {
			ids = append(ids, ev.ID.String())
		}
		return ids
	}
	one := func(payload string) string {
		if got := ids(payload); len(got) == 1 {
			return got[0]
		}
		t.Fatalf("not one event: %s", payload)
		return ""
	}
	same := map[string][]string{
		"finding":     {finding, eventBridge("GuardDuty Finding", "aws.guardduty", finding), sns(eventBridge("x", "y", finding)), string(zip([]byte(finding + "\n"))), subscription(finding)},
		"trail":       {trail, `{"Records":[` + trail + `]}`, eventBridge("AWS API Call via CloudTrail", "aws.iot", trail), subscription(trail)},
		"lifecycle":   {connected, subscription(connected), sns(connected), " " + connected},
		"violation":   {violation, sns(violation)},
		"audit":       {audit, sns(audit)},
		"line":        {publish, publish + "\n", publish + "\r\n", "[" + publish + "]"},
		"EventBridge": {orderEvent, sns(orderEvent), subscription(orderEvent)},
		"log event":   {subscription(publish), string(zip([]byte(subscription(publish)))), strings.Replace(subscription(publish), `"logStream":"s1"`, `"logStream":"s2"`, 1), strings.Replace(subscription(publish), `"39955300"`, `39955300`, 1)},
	}
	seen := map[string]string{}
	for name, payloads := range same {
		want := one(payloads[0])
		for _, payload := range payloads[1:] {
			if got := one(payload); got != want {
				t.Errorf("%s: ID %s by one route, %s by\n%s", name, want, got, payload)
			}
		}
		if other, ok := seen[want]; ok {
			t.Errorf("%s and %s have one ID", name, other)
		}
		seen[want] = name
	}
	distinct := []string{
		finding, strings.Replace(finding, `"count":20`, `"count":21`, 1), strings.Replace(finding, `10:00:02.000Z`, `16:00:02.000Z`, 1),
		connected, strings.Replace(connected, `"connected"`, `"disconnected"`, 1), strings.Replace(connected, `:3}`, `:4}`, 1),
		violation, strings.Replace(violation, "in-alarm", "alarm-cleared", 1),
		sns("two\nlines"), publish, subscription(publish, publish, "", ""),
	}
	all := map[string]bool{}
	n := 0
	for _, payload := range distinct {
		for _, id := range ids(payload) {
			all[id] = true
			n++
		}
	}
	if n != 15 || len(all) != n {
		t.Errorf("%d events have %d IDs, want 15 of each", n, len(all))
	}
}
