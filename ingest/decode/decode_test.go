package decode

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"

	"github.com/tocsin-io/tocsin/schemas"
)

const (
	certA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa01"
	certB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb02"
)

// received is when every payload of these tests arrives.
var received = time.Date(2026, 11, 20, 10, 5, 0, 0, time.UTC)

// view is an event in a form that tests can write down.
type view struct {
	Source, Type, Account, Region string
	Device, ClientID, Thing       string
	Cert, IP, Session             string
	Outcome                       string
	Time                          string // 15:04:05.000, with the date unless it is 2026-11-20
	Message                       string
}

func viewOf(ev *schemas.Event) view {
	at := time.UnixMilli(ev.Time).UTC()
	layout := "15:04:05.000"
	if at.Format(time.DateOnly) != "2026-11-20" {
		layout = "2006-01-02 15:04:05.000"
	}
	return view{
		string(ev.Source), string(ev.Type), string(ev.Account), string(ev.Region),
		string(ev.Device), string(ev.ClientID), string(ev.ThingName),
		string(ev.CertificateID), string(ev.SourceIP), string(ev.RoleSession),
		ev.Outcome.String(), at.Format(layout), string(ev.Message),
	}
}

// result is all that came of one payload.
type result struct {
	Events     []*schemas.Event
	Rejections []Rejection
	Stats      Stats
}

func (r result) views() (v []view) {
	for _, ev := range r.Events {
		v = append(v, viewOf(ev))
	}
	return v
}

// reasons returns the rejections as "reason: raw".
func (r result) reasons() (s []string) {
	for _, rej := range r.Rejections {
		s = append(s, fmt.Sprintf("%s: %.60s", rej.Reason, rej.Raw))
	}
	return s
}

func run(d *Decoder, payload []byte, hints Hints) result {
	var r result
	if hints.Received.IsZero() {
		hints.Received = received
	}
	before := bytes.Clone(payload)
	r.Stats = d.Decode(payload, hints,
		func(ev *schemas.Event) { r.Events = append(r.Events, ev.Clone()) },
		func(rej Rejection) {
			rej.Raw = bytes.Clone(rej.Raw)
			r.Rejections = append(r.Rejections, rej)
		})
	if !bytes.Equal(before, payload) {
		panic("the decoder changed the payload")
	}
	return r
}

func decodeOne(t *testing.T, payload string) *schemas.Event {
	t.Helper()
	r := run(New(Options{}), []byte(payload), Hints{})
	if len(r.Events) != 1 || len(r.Rejections) != 0 {
		t.Fatalf("%d events, rejections %v; want one event\n%s", len(r.Events), r.reasons(), payload)
	}
	return r.Events[0]
}

func zip(data ...[]byte) []byte {
	var buf bytes.Buffer
	for _, member := range data {
		w := gzip.NewWriter(&buf)
		_, _ = w.Write(member) // a bytes.Buffer takes all
		_ = w.Close()
	}
	return buf.Bytes()
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// subscription wraps log lines as a CloudWatch Logs subscription does.
func subscription(lines ...string) string {
	var b strings.Builder
	b.WriteString(`{"messageType":"DATA_MESSAGE","owner":"111122223333","logGroup":"AWSIotLogsV2","logStream":"s1","subscriptionFilters":["f"],"logEvents":[`)
	for i, line := range lines {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":"3995530%d","timestamp":1795168800000,"message":%s}`, i, quote(line))
	}
	b.WriteString(`]}`)
	return b.String()
}

const (
	publish    = `{"timestamp":"2026-11-20 10:00:00.101","logLevel":"INFO","traceId":"t1","accountId":"111122223333","status":"Success","eventType":"Publish-In","protocol":"MQTT","topicName":"a/b","clientId":"pump-1","principalId":"` + certA + `","sourceIp":"198.51.100.7","sourcePort":40112}`
	finding    = `{"schemaVersion":"2.0","accountId":"111122223333","region":"eu-west-1","partition":"aws","id":"f1","arn":"arn:aws:guardduty:eu-west-1:111122223333:detector/d/finding/f1","type":"UnauthorizedAccess:IAMUser/MaliciousIPCaller.Custom","resource":{"resourceType":"AccessKey","accessKeyDetails":{"accessKeyId":"ASIAX","principalId":"AROAEXAMPLE:` + certA + `","userType":"AssumedRole","userName":"DeviceRole"}},"service":{"serviceName":"guardduty","action":{"actionType":"AWS_API_CALL","awsApiCallAction":{"api":"PutObject","remoteIpDetails":{"ipAddressV4":"203.0.113.9","country":{"countryName":"X"}}}},"eventFirstSeen":"2026-11-20T09:00:00.000Z","eventLastSeen":"2026-11-20T10:00:01.250Z","archived":false,"count":20},"severity":5,"createdAt":"2026-11-20T09:00:00.000Z","updatedAt":"2026-11-20T10:00:02.000Z","title":"t"}`
	trail      = `{"eventVersion":"1.09","userIdentity":{"type":"IAMUser","principalId":"AIDAEXAMPLE","arn":"arn:aws:iam::111122223333:user/ann","accountId":"111122223333"},"eventTime":"2026-11-20T10:00:03Z","eventSource":"iot.amazonaws.com","eventName":"UpdateCertificate","awsRegion":"eu-west-1","sourceIPAddress":"192.0.2.44","requestParameters":{"certificateId":"` + certB + `","newStatus":"ACTIVE"},"responseElements":null,"eventID":"e-1","readOnly":false,"eventType":"AwsApiCall","recipientAccountId":"111122223333"}`
	connected  = `{"clientId":"pump-1","timestamp":1795168804000,"eventType":"connected","sessionIdentifier":"s-1","principalIdentifier":"` + certA + `","ipAddress":"198.51.100.7","versionNumber":3}`
	violation  = `{"violationEventTime":1795168805000,"thingName":"pump-1","behavior":{"name":"messageSize","metric":"aws:message-byte-size"},"violationEventType":"in-alarm","metricValue":{"count":26},"violationId":"v1","securityProfileName":"p"}`
	audit      = `{"findingId":"af1","taskId":"t1","checkName":"DEVICE_CERTIFICATE_EXPIRING_CHECK","taskStartTime":1795168000.157,"findingTime":1795168806.651,"severity":"MEDIUM","nonCompliantResource":{"resourceType":"DEVICE_CERTIFICATE","resourceIdentifier":{"deviceCertificateId":"` + certA + `"}},"isSuppressed":false}`
	control    = `{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","subscriptionFilters":[],"logEvents":[{"id":"","timestamp":1795168800000,"message":"CWL CONTROL MESSAGE: Checking health of destination Kinesis stream."}]}`
	orderEvent = `{"version":"0","id":"eb-3","detail-type":"Order Placed","source":"shop","account":"444455556666","time":"2026-11-20T10:00:09Z","region":"us-east-1","resources":[],"detail":{"n":1}}`
)

func eventBridge(detailType, source, detail string) string {
	return `{"version":"0","id":"eb-1","detail-type":"` + detailType + `","source":"` + source + `","account":"111122223333","time":"2026-11-20T10:00:30Z","region":"eu-west-1","resources":[],"detail":` + detail + `}`
}

func sns(message string) string {
	return `{"Type":"Notification","MessageId":"m-1","TopicArn":"arn:aws:sns:eu-west-1:111122223333:t","Message":` + quote(message) + `,"Timestamp":"2026-11-20T10:00:40.000Z","SignatureVersion":"1","Signature":"x","SigningCertURL":"https://x","UnsubscribeURL":"https://x"}`
}

// The events that the samples above are, however they arrive.
var (
	publishView = view{
		Source: "iot", Type: "Publish-In", Account: "111122223333", Device: "pump-1", ClientID: "pump-1", Cert: certA,
		IP: "198.51.100.7", Outcome: "success", Time: "10:00:00.101", Message: publish,
	}
	findingView = view{
		Source: "guardduty", Type: "UnauthorizedAccess:IAMUser/MaliciousIPCaller.Custom", Account: "111122223333", Region: "eu-west-1",
		Device: "cert:" + certA, Cert: certA, Session: certA, IP: "203.0.113.9", Time: "10:00:01.250", Message: finding,
	}
	trailView = view{
		Source: "cloudtrail", Type: "UpdateCertificate", Account: "111122223333", Region: "eu-west-1", Device: "cert:" + certB,
		Cert: certB, IP: "192.0.2.44", Outcome: "success", Time: "10:00:03.000", Message: trail,
	}
	connectedView = view{
		Source: "lifecycle", Type: "connected", Device: "pump-1", ClientID: "pump-1", Cert: certA,
		IP: "198.51.100.7", Outcome: "success", Time: "10:00:04.000", Message: connected,
	}
	violationView = view{
		Source: "devicedefender", Type: "in-alarm", Device: "pump-1", Thing: "pump-1", Time: "10:00:05.000", Message: violation,
	}
	auditView = view{
		Source: "devicedefender", Type: "DEVICE_CERTIFICATE_EXPIRING_CHECK", Device: "cert:" + certA, Cert: certA,
		Time: "10:00:06.651", Message: audit,
	}
	orderView = view{
		Source: "generic", Type: "Order Placed", Account: "444455556666", Region: "us-east-1", Device: "account:444455556666",
		Time: "10:00:09.000", Message: orderEvent,
	}
)

// at returns v with what an envelope adds.
func at(v view, account, region string) view {
	if v.Account == "" {
		v.Account = account
	}
	if v.Region == "" {
		v.Region = region
	}
	return v
}

func change(v view, f func(*view)) view {
	f(&v)
	return v
}

func text(message, when, account string) view {
	device := "unknown"
	if account != "" {
		device = "account:" + account
	}
	return view{Source: "generic", Account: account, Device: device, Time: when, Message: message}
}

func TestShapes(t *testing.T) {
	const acct, eu = "111122223333", "eu-west-1"
	const late = "10:05:00.000"
	two := subscription(publish, "plain text")
	twoViews := []view{publishView, text("plain text", "10:00:00.000", acct)}
	tests := []struct {
		name    string
		payload string
		want    []view
		rejects []string
		stats   Stats // Events and Rejected are counted by the test
	}{
		{name: "nothing", payload: "", stats: Stats{Empty: 1}},
		{name: "white space", payload: " \r\n\t", stats: Stats{Empty: 1}},
		{name: "subscription", payload: two, want: twoViews},
		{name: "subscription, gzip", payload: string(zip([]byte(two))), want: twoViews, stats: Stats{Inflated: int64(len(two))}},
		{name: "subscription, doubled gzip", payload: string(zip(zip([]byte(two)))), want: twoViews, stats: Stats{Inflated: int64(len(two) + len(zip([]byte(two))))}},
		{name: "subscriptions, members", payload: string(zip([]byte(two), []byte(two[:30]), []byte(two[30:]))), want: append(twoViews, twoViews...), stats: Stats{Inflated: int64(2 * len(two))}},
		{name: "subscriptions, concatenated", payload: two + two + "\n" + control, want: append(twoViews, twoViews...), stats: Stats{Control: 1}},
		{name: "control message", payload: control, stats: Stats{Control: 1}},
		{
			name:    "control message, other order",
			payload: `{"logEvents":[{"id":"","message":"CWL CONTROL MESSAGE"}],"logGroup":"","messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs"}`,
			stats:   Stats{Control: 1},
		},
		{
			name:    "numeric ids, log events first",
			payload: `{"logEvents":[{"message":` + quote(publish) + `,"id":7,"timestamp":1795168800000}],"messageType":"DATA_MESSAGE","owner":"111122223333","logGroup":"AWSIotLogsV2"}`,
			want:    []view{publishView},
		},
		{
			name:    "system fields",
			payload: `{"messageType":"DATA_MESSAGE","owner":"999999999999","logGroup":"g","logEvents":[{"id":"1","timestamp":1795168800000,"message":"x","extractedFields":{"@aws.account":"111122223333","@aws.region":"eu-west-1"}},{"id":"2","timestamp":1795168800001,"message":"y"}]}`,
			want:    []view{at(text("x", "10:00:00.000", acct), "", eu), text("y", "10:00:00.001", "999999999999")},
		},
		{
			name:    "log events of the wrong shape",
			payload: `{"messageType":"DATA_MESSAGE","owner":"o","logGroup":"g","logEvents":[1,{"id":"2"},{"id":"3","message":{"a":1}},{"id":"4","message":null}],"extra":[{}]}`,
			want:    []view{text(`{"a":1}`, late, "o"), text("null", late, "o")},
			rejects: []string{"shape: 1", `shape: {"id":"2"}`}, stats: Stats{TimeFallbacks: 2},
		},
		{
			name:    "log events in two members",
			payload: `{"messageType":"DATA_MESSAGE","owner":"o","logGroup":"g","logEvents":[{"id":"1","message":"x","timestamp":1795168800000}],"logEvents":[{"id":"2","message":"y","timestamp":1795168800000}]}`,
			want:    []view{text("x", "10:00:00.000", "o"), text("y", "10:00:00.000", "o")},
		},
		{
			name:    "log event without id or time, with more",
			payload: `{"messageType":"DATA_MESSAGE","owner":"o","logGroup":"g","logEvents":[{"message":"x","ingestionTime":5,"partition":{"a":[]}}]}`,
			want:    []view{text("x", late, "o")}, stats: Stats{TimeFallbacks: 1},
		},
		{name: "no log events", payload: `{"messageType":"DATA_MESSAGE","owner":"o","logGroup":"g","logEvents":[]}`, stats: Stats{Empty: 1}},
		{name: "logEvents not an array", payload: `{"messageType":"DATA_MESSAGE","owner":"o","logGroup":"g","logEvents":3}`, rejects: []string{`shape: {"messageType":"DATA_MESSAGE","owner":"o","logGroup":"g","lo`}},
		{
			name: "JSON that is not JSON in a log is text", payload: subscription(`{"a":`, `{}x`, "", "[1"),
			want: []view{text(`{"a":`, "10:00:00.000", acct), text("{}x", "10:00:00.000", acct), text("", "10:00:00.000", acct), text("[1", "10:00:00.000", acct)},
		},
		{name: "Lambda", payload: `{"awslogs":{"data":"` + base64.StdEncoding.EncodeToString(zip([]byte(two))) + `"}}`, want: twoViews, stats: Stats{Inflated: int64(len(two) + len(zip([]byte(two))))}},
		{name: "Lambda, escaped", payload: `{"awslogs":{"data":"` + strings.ReplaceAll(base64.StdEncoding.EncodeToString([]byte("???>>>")), "/", `\/`) + `"}}`, want: []view{text("???>>>", late, "")}, stats: Stats{Inflated: 6, TimeFallbacks: 1}},
		{name: "Lambda, not base64", payload: `{"awslogs":{"data":"%%%%"}}`, rejects: []string{"base64: %%%%"}},
		{name: "Lambda, no data", payload: `{"awslogs":{}}`, rejects: []string{`shape: {"awslogs":{}}`}},

		{name: "extracted lines", payload: publish + "\n" + finding + "\r\nplain\n\n" + publish, want: []view{publishView, findingView, text("plain", late, ""), publishView}, stats: Stats{TimeFallbacks: 1}},
		{name: "records without line feeds", payload: publish + publish + trail, want: []view{publishView, publishView, trailView}},
		{name: "array", payload: " [" + publish + "," + trail + ", 5 ]", want: []view{publishView, trailView, text("5", late, "")}, stats: Stats{TimeFallbacks: 1}},
		{name: "byte order mark", payload: "\xef\xbb\xbf" + publish, want: []view{publishView}},

		{name: "finding", payload: finding, want: []view{findingView}},
		{name: "finding by EventBridge", payload: eventBridge("GuardDuty Finding", "aws.guardduty", finding), want: []view{findingView}},
		{name: "finding export", payload: string(zip([]byte(finding + "\n" + finding + "\n"))), want: []view{findingView, findingView}, stats: Stats{Inflated: int64(2*len(finding) + 2)}},
		{name: "finding by EventBridge and SNS", payload: sns(eventBridge("GuardDuty Finding", "aws.guardduty", finding)), want: []view{findingView}},
		{name: "finding by EventBridge and CloudWatch", payload: subscription(eventBridge("GuardDuty Finding", "aws.guardduty", finding)), want: []view{findingView}},
		{name: "EventBridge array", payload: "[" + eventBridge("GuardDuty Finding", "aws.guardduty", finding) + "," + orderEvent + "]", want: []view{findingView, orderView}},
		{name: "EventBridge of another kind", payload: orderEvent, want: []view{orderView}},
		{name: "trail", payload: trail, want: []view{trailView}},
		{name: "trail file", payload: `{"Records":[` + trail + "," + trail + `,3]}` + "\n", want: []view{trailView, trailView}, rejects: []string{"shape: 3"}},
		{name: "trail file, empty", payload: `{"Records":[]}`, stats: Stats{Empty: 1}},
		{name: "trail by EventBridge", payload: eventBridge("AWS API Call via CloudTrail", "aws.iot", trail), want: []view{trailView}},
		{name: "trail by CloudWatch", payload: subscription(trail), want: []view{trailView}},
		{
			name: "S3 notification", payload: `{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"eu-west-1","eventTime":"2026-11-20T10:00:07.000Z","eventName":"ObjectCreated:Put","s3":{}}]}`,
			want: []view{text(`{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"eu-west-1","eventTime":"2026-11-20T10:00:07.000Z","eventName":"ObjectCreated:Put","s3":{}}`, "10:00:07.000", "")},
		},
		{name: "lifecycle", payload: connected, want: []view{connectedView}},
		{name: "lifecycle by CloudWatch", payload: subscription(connected), want: []view{at(connectedView, acct, "")}},
		{name: "violation by SNS", payload: sns(violation), want: []view{violationView}},
		{name: "audit finding", payload: audit, want: []view{auditView}},
		{name: "text by SNS", payload: sns("hello\n"), want: []view{text("hello", "10:00:40.000", "")}},
		{
			name: "SNS confirmation", payload: `{"Type":"SubscriptionConfirmation","MessageId":"m","TopicArn":"a","Message":"You have","Timestamp":"2026-11-20T10:00:41.000Z"}`,
			want: []view{{Source: "generic", Type: "SubscriptionConfirmation", Device: "unknown", Time: "10:00:41.000", Message: `{"Type":"SubscriptionConfirmation","MessageId":"m","TopicArn":"a","Message":"You have","Timestamp":"2026-11-20T10:00:41.000Z"}`}},
		},

		{
			name: "SNS without a message", payload: strings.Replace(sns("x"), `"Message":"x"`, `"Message":""`, 1),
			want: []view{text(strings.Replace(sns("x"), `"Message":"x"`, `"Message":""`, 1), "10:00:40.000", "")},
		},
		{name: "IoT log without a level", payload: strings.Replace(publish, `"logLevel":"INFO",`, "", 1), want: []view{change(publishView, func(v *view) { v.Message = strings.Replace(publish, `"logLevel":"INFO",`, "", 1) })}},
		{name: "cut log event that is no object", payload: `{"messageType":"DATA_MESSAGE","owner":"o","logGroup":"g","logEvents":[[1,2`, rejects: []string{"not_json: [1,2"}},
		{name: "cut control message", payload: control[:len(control)-20], rejects: []string{`not_json: [{"id":"","timestamp":1795168800000,"message":"CWL CONTROL M`}},
		{name: "a brace", payload: "{", rejects: []string{"not_json: {"}},
		{name: "control characters", payload: "\x01\x02\x03ab\x7f", rejects: []string{"binary: \x01\x02\x03ab\x7f"}},

		{name: "generic JSON", payload: `{"time":"2026-11-20T10:00:08Z","x":[1]}`, want: []view{text(`{"time":"2026-11-20T10:00:08Z","x":[1]}`, "10:00:08.000", "")}},
		{name: "text that begins like JSON", payload: "[INFO] {x}\n[{x}]\n{x} y\n[1,2]\n42\n\"q\"", want: []view{text("[INFO] {x}", late, ""), text("[{x}]", late, ""), text("{x} y", late, ""), text("[1,2]", late, ""), text("42", late, ""), text(`"q"`, late, "")}, stats: Stats{TimeFallbacks: 6}},
		{name: "text in Latin-1", payload: "Ger\xe4t gest\xf6rt", want: []view{text("Ger\xe4t gest\xf6rt", late, "")}, stats: Stats{TimeFallbacks: 1}},
		{name: "binary", payload: "ok\n\x00\x01\x02\nmore", want: []view{text("ok", late, "")}, rejects: []string{"binary: \x00\x01\x02\nmore"}, stats: Stats{TimeFallbacks: 1}},

		{name: "not JSON", payload: `{"a":tru}`, rejects: []string{`not_json: {"a":tru}`}},
		{name: "not JSON among lines", payload: publish + "\n" + `{"a":"b` + "\n" + publish + "\n" + `{"x":1,}` + "\n" + publish, want: []view{publishView, publishView, publishView}, rejects: []string{"not_json: {\"a\":\"b\n", "not_json: {\"x\":1,}\n"}},
		{name: "cut JSON", payload: publish[:100], rejects: []string{fmt.Sprintf("not_json: %.60s", publish)}},
		{name: "cut subscription", payload: two[:len(two)-20], want: twoViews[:1], rejects: []string{`not_json: {"id":"39955301","timestamp":1795168800000,"mess`}},
		{name: "cut after the log events", payload: two[:len(two)-1], want: twoViews, rejects: []string{"not_json: "}},
		{name: "cut array", payload: "[" + publish + "," + publish[:50], want: []view{publishView}, rejects: []string{"not_json: " + publish[:50]}},
		{name: "deep", payload: strings.Repeat(`{"a":`, 2000), rejects: []string{"too_deep: " + strings.Repeat(`{"a":`, 12)}},
		{name: "deep in a log", payload: subscription(strings.Repeat("[", 2000)), want: []view{text(strings.Repeat("[", 2000), "10:00:00.000", acct)}},
	}
	d := New(Options{}) // one for all: nothing may be left over from the payload before
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := run(d, []byte(test.payload), Hints{})
			if diff := cmp.Diff(test.want, got.views()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.rejects, got.reasons()); diff != "" {
				t.Errorf("rejections (-want +got):\n%s", diff)
			}
			test.stats.Events, test.stats.Rejected = len(test.want), len(test.rejects)
			if diff := cmp.Diff(test.stats, got.Stats); diff != "" {
				t.Errorf("stats (-want +got):\n%s", diff)
			}
		})
	}
}
