package behavior

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/schemas"
)

func TestObservations(t *testing.T) {
	r := newRig(t, nil)
	as := func(cert, thing string) func(*event) {
		return func(e *event) { e.CertificateID, e.ThingName = []byte(cert), []byte(thing) }
	}
	other := strings.Repeat("b2", 32)
	r.feed(
		at(1, "p", "Connect", as(testCertificate, "")), at(2, "q", "Connect", as(testCertificate, "thing-q"), from("203.0.113.9")),
		at(3, "p", "Publish-In", as(testCertificate, "")),
		at(4, "p", "Connect", as(other, ""), failing(`{"reason":"AUTHORIZATION_FAILURE"}`)), // proves nothing
		at(5, "p", "Ping", as("AROAEXAMPLE", "")),
	)
	for i := range 20 {
		r.feed(at(float64(10+i), fmt.Sprintf("clone-%02d", i), "Connect", as(testCertificate, "")))
	}
	r.derived("")
	key := "observed/" + testCertificate + "/0"
	var got schemas.Observation
	if err := json.Unmarshal([]byte(r.sent.identities[key]), &got); err != nil {
		t.Fatal(err)
	}
	want := schemas.Observation{
		CertificateID: testCertificate, Things: []string{"thing-q"}, SourceIP: "198.51.100.7", LastSeen: timeOf(testStart.UnixMilli() + 29_000),
	}
	for i := range schemas.MaxObserved {
		want.ClientIDs = append(want.ClientIDs, fmt.Sprintf("clone-%02d", 20-schemas.MaxObserved+i))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(r.sent.identities) != 1 {
		t.Errorf("got %v", r.sent.identities)
	}
}

func TestStatusChanges(t *testing.T) {
	cert := testCertificate
	caller := strings.Repeat("cc", 32) // a device's role session calls
	trail := func(typ, message string, more ...func(*event)) *event {
		return at(1, "account:111122223333", typ, append([]func(*event){source("cloudtrail"), saying(message), func(e *event) { e.CertificateID, e.ClientID = []byte(caller), nil }}, more...)...)
	}
	for _, test := range []struct {
		name  string
		event *event
		want  string // status deleted ca actor
	}{
		{"revoked", trail("UpdateCertificate", `{"userIdentity":{"arn":"arn:aws:iam::1:user/eve"},"requestParameters":{"certificateId":"`+cert+`","newStatus":"REVOKED"}}`), "REVOKED false  arn:aws:iam::1:user/eve"},
		{"not allowed to", trail("UpdateCertificate", `{"requestParameters":{"certificateId":"`+cert+`","newStatus":"REVOKED"}}`, func(e *event) { e.Outcome = schemas.OutcomeFailure }), ""},
		{"a status of the future", trail("UpdateCertificate", `{"requestParameters":{"certificateId":"`+cert+`","newStatus":"FROZEN"}}`), " false  "},
		{"deleted", trail("DeleteCertificate", `{"requestParameters":{"certificateId":"`+cert+`","forceDelete":true}}`), " true  "},
		{"created", trail("CreateKeysAndCertificate", `{"requestParameters":{"setAsActive":true},"responseElements":{"certificateId":"`+cert+`"}}`), "ACTIVE false  "},
		{"created asleep", trail("CreateCertificateFromCsr", `{"requestParameters":{},"responseElements":{"certificateId":"`+cert+`"}}`), "INACTIVE false  "},
		{"registered", trail("RegisterCertificate", `{"requestParameters":{"status":"ACTIVE"},"responseElements":{"certificateId":"`+cert+`"}}`), "ACTIVE false  "},
		{"given away", trail("TransferCertificate", `{"requestParameters":{"certificateId":"`+cert+`"}}`), "PENDING_TRANSFER false  "},
		{"taken", trail("AcceptCertificateTransfer", `{"requestParameters":{"certificateId":"`+cert+`"}}`), " false  "},
		{"something else", trail("AttachPolicy", `{"requestParameters":{"certificateId":"`+cert+`"}}`), ""},
		{"no certificate", trail("UpdateCertificate", `{"requestParameters":{"certificateId":"../../x","newStatus":"REVOKED"}}`), ""},
		{"just in time", at(1, "cert:"+cert, "registered", source("lifecycle"), saying(`{"certificateId":"`+cert+`","caCertificateId":"ca1","certificateStatus":"PENDING_ACTIVATION"}`)), "PENDING_ACTIVATION false ca1 "},
		{"audit", at(1, "cert:"+cert, "DEVICE_CERTIFICATE_SHARED_CHECK", source("devicedefender"), saying(`{"nonCompliantResource":{"resourceType":"DEVICE_CERTIFICATE"}}`)), " false  "},
		{"audit of a policy", at(1, "cert:"+cert, "IOT_POLICY_OVERLY_PERMISSIVE_CHECK", source("devicedefender"), saying(`{"nonCompliantResource":{"resourceType":"IOT_POLICY"}}`)), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.feed(test.event)
			r.derived("")
			value, ok := r.sent.identities["change/"+cert+"/0"]
			if !ok {
				expect(t, "change", "", test.want)
				return
			}
			var c schemas.StatusChange
			if err := json.Unmarshal([]byte(value), &c); err != nil {
				t.Fatal(err)
			}
			expect(t, "change", fmt.Sprint(c.Status, " ", c.Deleted, " ", c.CAID, " ", c.Actor), test.want)
			if c.CertificateID != cert || c.EventID != test.event.ID.String() || c.Time.UnixMilli() != test.event.Time || c.EventType != string(test.event.Type) {
				t.Errorf("got %+v", c)
			}
		})
	}
}
