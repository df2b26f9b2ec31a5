package decode

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/ingest/identity"
)

// Every event type of the developer guide's "CloudWatch AWS IoT Core log
// entries", and what of it the envelope has. Time, account and message are the
// same for all unless stated.
func TestIoTEventTypes(t *testing.T) {
	const (
		head    = `{"timestamp":"2026-11-20 10:00:00.101","logLevel":"INFO","traceId":"11111111-2222-3333-4444-555555555555","accountId":"111122223333",`
		jobHead = `{"timestamp":"2026-11-20 10:00:00.101","logLevel":"DEBUG","accountId":"111122223333","status":"Success",`
		ok      = head + `"status":"Success",`
		fail    = head + `"status":"Failure",`
		from    = `"sourceIp":"198.51.100.7","sourcePort":40112`
		who     = `"clientId":"pump-1","principalId":"` + certA + `",` + from
	)
	pump := view{Device: "pump-1", ClientID: "pump-1", Cert: certA, IP: "198.51.100.7", Outcome: "success"}
	with := func(v view, eventType string, change func(*view)) view {
		v.Source, v.Type = "iot", eventType
		if v.Account == "" {
			v.Account = "111122223333"
		}
		if v.Time == "" {
			v.Time = "10:00:00.101"
		}
		if change != nil {
			change(&v)
		}
		return v
	}
	failed := func(v *view) { v.Outcome = "failure" }
	noIP := func(v *view) { v.IP = "" }
	account := view{Device: "account:111122223333", Outcome: "success"}
	tests := []struct {
		line string
		want view
	}{
		{ok + `"eventType":"Connect","protocol":"MQTT",` + who + `}`, with(pump, "Connect", nil)},
		{fail + `"eventType":"Connect","protocol":"MQTT",` + who + `,"reason":"AUTHORIZATION_FAILURE","details":"Authorization Failure"}`, with(pump, "Connect", failed)},
		{ok + `"eventType":"Disconnect","protocol":"MQTT",` + who + `,"reason":"DUPLICATE_CLIENT_ID","details":"A new connection was established with the same client ID","disconnectReason":"DUPLICATE_CLIENTID"}`, with(pump, "Disconnect", nil)},
		{ok + `"eventType":"Ping","protocol":"MQTT","latency":41,"requestTimestamp":"2026-11-20 10:00:01.000","responseTimestamp":"2026-11-20 10:00:01.041",` + who + `}`, with(pump, "Ping", nil)},
		{fail + `"eventType":"Ping","protocol":"MQTT","requestTimestamp":"2026-11-20 10:00:01.000",` + who + `,"reason":"CONNECTION_ALREADY_CLOSED"}`, with(pump, "Ping", failed)},
		{fail + `"eventType":"Connection.AuthNError","protocol":"MQTT","authenticationType":"AWS_X509",` + who + `,"targetIp":"192.0.2.10","targetPort":8883,"serverNameIndication":"x-ats.iot.eu-west-1.amazonaws.com","reason":"DEVICE_CERTIFICATE_REVOKED","details":"Device certificate is revoked"}`, with(pump, "Connection.AuthNError", failed)},
		{fail + `"eventType":"Connection.AuthNError","protocol":"MQTT","authenticationType":"AWS_X509",` + from + `,"targetPort":8883,"reason":"DEVICE_CERTIFICATE_NOT_REGISTERED"}`, with(view{Device: "ip:198.51.100.7", IP: "198.51.100.7", Outcome: "failure"}, "Connection.AuthNError", nil)},
		{
			ok + `"eventType":"DeleteConnection","protocol":"HTTP","clientId":"pump-1","principalId":"AROAEXAMPLE:responder",` + from + `}`,
			with(pump, "DeleteConnection", func(v *view) { v.Cert, v.Session = "", "responder" }),
		},
		{ok + `"eventType":"GetRetainedMessage","protocol":"HTTP","topicName":"a/b","qos":"1","lastModifiedDate":"2026-11-20 09:00:00.000"}`, with(account, "GetRetainedMessage", nil)},
		{ok + `"eventType":"ListRetainedMessage","protocol":"HTTP"}`, with(account, "ListRetainedMessage", nil)},
		{ok + `"eventType":"ListSubscriptions","protocol":"HTTP","clientId":"pump-1","principalId":"AIDAEXAMPLE",` + from + `,"maxResults":100}`, with(pump, "ListSubscriptions", func(v *view) { v.Cert = "" })},
		{ok + `"eventType":"GetConnection","protocol":"HTTP","clientId":"pump-1","principalId":"AIDAEXAMPLE",` + from + `}`, with(pump, "GetConnection", func(v *view) { v.Cert = "" })},
		{fail + `"eventType":"SendDirectMessage","protocol":"HTTP","topicName":"cmd/reboot","confirmation":true,` + who + `,"reason":"DELIVERY_CONFIRMATION_TIMEOUT","timeout":2}`, with(pump, "SendDirectMessage", failed)},
		{ok + `"eventType":"Publish-In","protocol":"MQTT","topicName":"$aws/things/other/shadow/update",` + who + `,"retain":"True"}`, with(pump, "Publish-In", nil)},
		{ok + `"eventType":"Publish-Out","protocol":"MQTT","topicName":"fleet/pump-1/cmd",` + who + `}`, with(pump, "Publish-Out", nil)},
		{fail + `"topicName":"fleet/pump-1/cmd","clientId":"pump-1","qos":"1","protocol":"MQTT","eventType":"Queued","details":"Throttled while queueing offline message"}`, with(view{Device: "pump-1", ClientID: "pump-1", Outcome: "failure"}, "Queued", nil)},
		{ok + `"eventType":"Subscribe","protocol":"MQTT","topicName":"a/b,$bad/reserved","subscriptions":[{"topicName":"a/b","reasonCode":1},{"topicName":"$bad/reserved","reasonCode":143}],` + who + `}`, with(pump, "Subscribe", nil)},
		{ok + `"eventType":"Unsubscribe","protocol":"MQTT",` + who + `}`, with(pump, "Unsubscribe", nil)},
		{fail + `"reason":"A non 2xx HTTP response was received from the OCSP responder.","eventType":"RetrieveOCSPStapleData","domainConfigName":"dc1","connectionDetails":{"httpStatusCode":"444","sourceIp":"192.0.2.1","targetIp":"192.0.2.2"},"ocspRequestDetails":{"requestCertId":"30:3A"}}`, with(account, "RetrieveOCSPStapleData", failed)},
		{ok + `"eventType":"GetThingShadow","protocol":"MQTT","deviceShadowName":"pump-1","topicName":"$aws/things/pump-1/shadow/get"}`, with(view{Device: "pump-1", Thing: "pump-1", Outcome: "success"}, "GetThingShadow", nil)},
		{ok + `"eventType":"UpdateThingShadow","protocol":"MQTT","deviceShadowName":"pump-1","topicName":"$aws/things/pump-1/shadow/update"}`, with(view{Device: "pump-1", Thing: "pump-1", Outcome: "success"}, "UpdateThingShadow", nil)},
		{ok + `"eventType":"DeleteThingShadow","protocol":"MQTT","deviceShadowName":"x","topicName":"$aws/things/pump-1/shadow/name/x/delete"}`, with(view{Device: "pump-1", Thing: "pump-1", Outcome: "success"}, "DeleteThingShadow", nil)},
		{`{"timestamp":"2026-11-20 10:00:00.101","logLevel":"DEBUG","traceId":"t","status":"Success","eventType":"FunctionExecution","clientId":"N/A","topicName":"t","ruleName":"r","ruleAction":"MachinelearningPredict","resources":{"ModelId":"m"},"principalId":"` + certA + `"}`, with(view{Device: "cert:" + certA, Cert: certA, Outcome: "success"}, "FunctionExecution", nil)},
		{ok + `"eventType":"RuleExecution","clientId":"pump-1","topicName":"t","ruleName":"r","ruleAction":"RepublishAction","resources":{"RepublishTopic":"x"},"principalId":"` + certA + `"}`, with(pump, "RuleExecution", noIP)},
		{`{"logLevel":"INFO","accountId":"111122223333","status":"Success","eventType":"RuleExecution","ruleName":"r","ruleAction":"HttpAction","resources":{"Url":"https://x"},"details":"d","batchDetails":{"timestamps":["1795330118648"],"traceIds":["t"],"clientIds":["N/A"],"topicNames":["t"],"principalIds":["` + certA + `"],"batchSize":1,"batchSizeInBytes":38}}`, with(account, "RuleExecution", func(v *view) { v.Time = "10:00:00.000" })},
		{ok + `"eventType":"RuleMatch","clientId":"pump-1","topicName":"t","ruleName":"r","principalId":"` + certA + `"}`, with(pump, "RuleMatch", noIP)},
		{fail + `"eventType":"RuleEvaluation","clientId":"pump-1","topicName":"N/A","ruleName":"N/A","principalId":"N/A","reason":"Throttled"}`, with(view{Device: "pump-1", ClientID: "pump-1", Outcome: "failure"}, "RuleEvaluation", nil)},
		{fail + `"eventType":"RuleExecutionThrottled","clientId":"pump-1","topicName":"$aws/rules/r","ruleName":"r","principalId":"` + certA + `","reason":"RuleExecutionThrottled"}`, with(pump, "RuleExecutionThrottled", func(v *view) { failed(v); noIP(v) })},
		{fail + `"eventType":"RuleMessageThrottled","clientId":"pump-1","topicName":"$aws/rules/r","ruleName":"r","principalId":"` + certA + `","reason":"RuleExecutionThrottled"}`, with(pump, "RuleMessageThrottled", func(v *view) { failed(v); noIP(v) })},
		{fail + `"eventType":"RuleNotFound","clientId":"pump-1","topicName":"$aws/rules/r","ruleName":"r","principalId":"` + certA + `","reason":"RuleNotFound","details":"Rule r not found"}`, with(pump, "RuleNotFound", func(v *view) { failed(v); noIP(v) })},
		{ok + `"eventType":"StartingRuleExecution","clientId":"pump-1","topicName":"t","ruleName":"r","ruleAction":"RepublishAction","principalId":"` + certA + `"}`, with(pump, "StartingRuleExecution", noIP)},
		{jobHead + `"eventType":"DescribeJobExecution","protocol":"MQTT","clientId":"pump-1","jobId":"rotate-1","topicName":"$aws/things/pump-1/jobs/rotate-1/get","clientToken":"t","details":"The request status is SUCCESS."}`, with(view{Device: "pump-1", ClientID: "pump-1", Thing: "pump-1", Outcome: "success"}, "DescribeJobExecution", nil)},
		{jobHead + `"eventType":"GetPendingJobExecution","protocol":"MQTT","clientId":"pump-1","topicName":"$aws/things/pump-1/jobs/get","clientToken":"t","details":"d"}`, with(view{Device: "pump-1", ClientID: "pump-1", Thing: "pump-1", Outcome: "success"}, "GetPendingJobExecution", nil)},
		{jobHead + `"eventType":"StartNextPendingJobExecution","protocol":"MQTT","clientId":"pump-1","topicName":"$aws/things/pump-1/jobs/start-next","clientToken":"t","details":"d"}`, with(view{Device: "pump-1", ClientID: "pump-1", Thing: "pump-1", Outcome: "success"}, "StartNextPendingJobExecution", nil)},
		{jobHead + `"eventType":"UpdateJobExecution","protocol":"MQTT","clientId":"pump-1","jobId":"rotate-1","topicName":"$aws/things/pump-1/jobs/rotate-1/update","clientToken":"t","versionNumber":"1","details":"d"}`, with(view{Device: "pump-1", ClientID: "pump-1", Thing: "pump-1", Outcome: "success"}, "UpdateJobExecution", nil)},
		{jobHead + `"eventType":"ReportFinalJobExecutionCount","jobId":"rotate-1","details":"Job rotate-1 completed. QUEUED job execution count: 0"}`, with(account, "ReportFinalJobExecutionCount", nil)},
		{ok + `"eventType":"GetDeviceCredentials","deviceCertificateId":"` + certA + `","details":"d"}`, with(view{Device: "cert:" + certA, Cert: certA, Outcome: "success"}, "GetDeviceCredentials", nil)},
		{ok + `"eventType":"ProvisionDevice","provisioningTemplateName":"tmpl","deviceCertificateId":"` + certA + `","details":"d"}`, with(view{Device: "cert:" + certA, Cert: certA, Outcome: "success"}, "ProvisionDevice", nil)},
		{fail + `"eventType":"AddThingToDynamicThingGroupsFailed","thingName":"pump-1","dynamicThingGroupNames":["g1"],"reason":"r"}`, with(view{Device: "pump-1", Thing: "pump-1", Outcome: "failure"}, "AddThingToDynamicThingGroupsFailed", nil)},
		{fail + `"eventType":"NamedShadowCountForDynamicGroupQueryLimitExceeded","thingName":"pump-1","reason":"r"}`, with(view{Device: "pump-1", Thing: "pump-1", Outcome: "failure"}, "NamedShadowCountForDynamicGroupQueryLimitExceeded", nil)},
		{ok + `"eventType":"SomethingNewIn2027","clientId":"pump-1"}`, with(view{Device: "pump-1", ClientID: "pump-1", Outcome: "success"}, "SomethingNewIn2027", nil)},

		// Fields that are missing, of other types, or odd.
		{`{"eventType":"Connect"}`, with(view{Device: "account:111122223333"}, "Connect", func(v *view) { v.Time = "10:00:00.000" })},
		{ok + `"eventType":"Connect","clientId":42,"sourceIp":"not an address","sourcePort":"40112","principalId":["x"]}`, with(view{Device: "42", ClientID: "42", Outcome: "success"}, "Connect", nil)},
		{ok + `"eventType":"Connect","clientId":null,"thingName":{},"sourceIp":"2001:db8::1"}`, with(view{Device: "ip:2001:db8::1", IP: "2001:db8::1", Outcome: "success"}, "Connect", nil)},
		{head + `"status":"Maybe","eventType":"Connect","clientId":"","principalId":""}`, with(view{Device: "account:111122223333"}, "Connect", nil)},
		{ok + `"eventType":"Connect","clientId":"first","clientId":"second"}`, with(view{Device: "second", ClientID: "second", Outcome: "success"}, "Connect", nil)},
		{ok + `"eventType":"Connect","client\u0049d":"pump\u002d1","principalId":"0x` + strings.ToUpper(certA) + `"}`, with(view{Device: "pump-1", ClientID: "pump-1", Cert: certA, Outcome: "success"}, "Connect", nil)},
		{ok + `"eventType":"Connect","clientId":"\ud83d\u0000x"}`, with(view{Device: "\ufffd\x00x", ClientID: "\ufffd\x00x", Outcome: "success"}, "Connect", nil)},
		{ok + `"eventType":"Publish-In","clientId":"pump-1","principalId":"AROAEXAMPLE:CognitoIdentityCredentials"}`, with(view{Device: "pump-1", ClientID: "pump-1", Session: "CognitoIdentityCredentials", Outcome: "success"}, "Publish-In", nil)},
		{" \n" + ok + `"eventType":"Connect"} `, with(account, "Connect", nil)},
		{`{"timestamp":"yesterday","eventType":"Connect"}`, with(view{Device: "account:111122223333"}, "Connect", func(v *view) { v.Time = "10:00:00.000" })},
		{`{"timestamp":"2026-11-20 10:30:00.000","eventType":"Connect"}`, with(view{Device: "account:111122223333"}, "Connect", func(v *view) { v.Time = "10:00:00.000" })},
		{`{"timestamp":"1970-01-01 00:00:00.000","eventType":"Connect"}`, with(view{Device: "account:111122223333"}, "Connect", func(v *view) { v.Time = "10:00:00.000" })},
		{`{"timestamp":"2026-11-19 10:04:00","eventType":"Connect"}`, with(view{Device: "account:111122223333"}, "Connect", func(v *view) { v.Time = "2026-11-19 10:04:00.000" })},
	}
	d := New(Options{})
	for _, test := range tests {
		got := run(d, []byte(subscription(test.line)), Hints{})
		test.want.Message = test.line
		if diff := cmp.Diff([]view{test.want}, got.views()); diff != "" || len(got.Rejections) > 0 {
			t.Errorf("%s\n%v (-want +got):\n%s", test.line, got.reasons(), diff)
		}
	}
}

// A finding names only the certificate. It must get the key of the device whose
// certificate it is, if any earlier event has shown that.
func TestBindings(t *testing.T) {
	entry := func(eventType, status, client, principal string) string {
		return `{"timestamp":"2026-11-20 10:00:00.101","logLevel":"INFO","traceId":"t","accountId":"1","status":"` + status + `","eventType":"` + eventType + `","clientId":"` + client + `","principalId":"` + principal + `"}`
	}
	tests := []struct {
		name  string
		lines []string
		want  string
	}{
		{"nothing seen", nil, "cert:" + certA},
		{"connect", []string{entry("Connect", "Success", "pump-1", certA)}, "pump-1"},
		{"publish", []string{entry("Publish-In", "Success", "pump-1", certA)}, "pump-1"},
		{"presence", []string{connected}, "pump-1"},
		{"another certificate", []string{entry("Connect", "Success", "pump-1", certB)}, "cert:" + certA},
		{"refused connect", []string{entry("Connect", "Failure", "pump-1", certA)}, "cert:" + certA},
		{"refused presence", []string{strings.Replace(connected, `"connected"`, `"connect_failed"`, 1)}, "cert:" + certA},
		{"caller's certificate", []string{
			entry("DeleteConnection", "Success", "victim", certA), entry("GetConnection", "Success", "victim", certA),
			entry("SendDirectMessage", "Success", "victim", certA), entry("ListSubscriptions", "Success", "victim", certA),
		}, "cert:" + certA},
		{"later use does not take over", []string{entry("Connect", "Success", "pump-1", certA), entry("Publish-In", "Success", "thief", certA)}, "pump-1"},
		{"later connect does", []string{entry("Connect", "Success", "pump-1", certA), entry("Connect", "Success", "pump-2", certA)}, "pump-2"},
	}
	for _, test := range tests {
		d := New(Options{Bindings: identity.NewBindings(0)})
		run(d, []byte(strings.Join(test.lines, "\n")), Hints{})
		got := run(d, []byte(finding), Hints{})
		if device := string(got.Events[0].Device); device != test.want {
			t.Errorf("%s: device %q, want %q", test.name, device, test.want)
		}
	}
	d := New(Options{Binder: boundBy{certA: "from-registry"}, Bindings: identity.NewBindings(0)})
	run(d, []byte(entry("Connect", "Success", "pump-1", certA)), Hints{})
	if got := run(d, []byte(finding), Hints{}); string(got.Events[0].Device) != "from-registry" {
		t.Errorf("device %q, want the registry's", got.Events[0].Device)
	}
}

type boundBy map[string]string

func (r boundBy) DeviceOf(certificateID []byte) []byte { return []byte(r[string(certificateID)]) }
