package config

import (
	"strings"
	"testing"
	"time"
)

func TestAWSIoT(t *testing.T) {
	c, err := Load("", []byte(`sinks: {awsiot: [{name: prod, account: "1"}, {name: test, account: "1", dry_run: false, min_per_hour: 0}]}`), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	prod, test := c.Sinks.AWSIoT[0], c.Sinks.AWSIoT[1]
	if !prod.DryRun || prod.MaxSharePerHour != 1 || prod.MinPerHour != 5 || prod.Rotation.Timeout.Std() != 7*24*time.Hour {
		t.Errorf("the defaults are %+v", prod)
	}
	if test.DryRun || test.MinPerHour != 0 {
		t.Errorf("got %+v", test)
	}
	for document, want := range map[string]string{
		`[{name: a b}]`:                         "sinks.awsiot[0].name: ",
		`[{name: a}, {name: a}]`:                "sinks.awsiot[1].name: ",
		`[{name: a, dry_run: maybe}]`:           "sinks.awsiot[0].dry_run: want true or false",
		`[{name: a, endpoint: x}]`:              "sinks.awsiot[0].endpoint: ",
		`[{name: a, max_share_per_hour: 0}]`:    "sinks.awsiot[0].max_share_per_hour: ",
		`[{name: a, max_share_per_hour: .nan}]`: "sinks.awsiot[0].max_share_per_hour: ",
		`[{name: a, max_share_per_hour: lots}]`: "sinks.awsiot[0].max_share_per_hour: ",
		`[{name: a, breaker: {trial: 0}}]`:      "sinks.awsiot[0].breaker.trial: ",
		`[{name: a, approval: {expires: 1s}}]`:  "sinks.awsiot[0].approval.expires: ",
		`[{name: a, dryrun: false}]`:            `unknown key "dryrun"; did you mean "dry_run"?`,
		// Each would count a share of the fleet of its own.
		`[{name: a, account: "1", region: r, dry_run: false}, {name: b, account: "1", region: r, dry_run: false}]`: "sinks.awsiot[1].dry_run: ",
	} {
		_, err := Load("", []byte("sinks: {awsiot: "+document+"}"), noEnv)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", document, err, want)
		}
	}
}
