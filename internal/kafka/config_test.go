package kafka

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func TestConfigProblemsAreAllReported(t *testing.T) {
	for _, test := range []struct {
		name string
		cfg  Config
		want []string // a part of each problem
	}{
		{"minimal", Config{Brokers: []string{"b:9092"}}, nil},
		{"IPv6", Config{Brokers: []string{"[::1]:9092"}}, nil},
		{"no brokers", Config{}, []string{"at least one"}},
		{"brokers", Config{Brokers: []string{"host", "host:0", ":9092", "host:port", "ok:1"}}, []string{`"host"`, `"host:0"`, `":9092"`, `"host:port"`}},
		{"half a client certificate, TLS off", Config{Brokers: []string{"b:1"}, TLS: TLS{CertFile: "c"}}, []string{"key file", "not enabled"}},
		{"unknown mechanism", Config{Brokers: []string{"b:1"}, SASL: SASL{Mechanism: "GSSAPI"}}, []string{"GSSAPI"}},
		{"no password", Config{Brokers: []string{"b:1"}, SASL: SASL{Mechanism: MechanismScramSHA256, Username: "u"}}, []string{"password"}},
		{"no mechanism", Config{Brokers: []string{"b:1"}, SASL: SASL{Username: "u", Password: "p"}}, []string{"no mechanism"}},
		{"IAM without TLS", Config{Brokers: []string{"b:1"}, SASL: SASL{Mechanism: MechanismMSKIAM}}, []string{"TLS"}},
		{"negative timeout", Config{Brokers: []string{"b:1"}, DialTimeout: -1}, []string{"negative"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			problems := test.cfg.Validate()
			if len(problems) != len(test.want) {
				t.Fatalf("problems %v, want %d", problems, len(test.want))
			}
			for i, want := range test.want {
				if !strings.Contains(problems[i].Error(), want) {
					t.Errorf("problem %q does not mention %q", problems[i], want)
				}
			}
			if _, err := Dial(test.cfg, zap.NewNop()); (err != nil) != (len(test.want) > 0) {
				t.Errorf("dial: %v", err)
			}
		})
	}
}

func TestDialReadsCertificates(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]TLS{
		"missing CA":     {Enabled: true, CAFile: notPEM + ".not"},
		"CA without PEM": {Enabled: true, CAFile: notPEM},
		"missing key":    {Enabled: true, CertFile: notPEM, KeyFile: notPEM},
	} {
		if _, err := Dial(Config{Brokers: []string{"b:1"}, TLS: cfg}, zap.NewNop()); err == nil || !strings.Contains(err.Error(), "kafka tls") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMSKIAMSignsWithTheDefaultChain(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret-never-sent", "AWS_SESSION_TOKEN": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
		"AWS_PROFILE": "", "AWS_CONFIG_FILE": empty, "AWS_SHARED_CREDENTIALS_FILE": empty, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	if _, err := (SASL{Mechanism: MechanismMSKIAM}).mechanism(t.Context()); err == nil || !strings.Contains(err.Error(), "region") {
		t.Errorf("without a region: %v", err)
	}
	m, err := SASL{Mechanism: MechanismMSKIAM, Region: "eu-central-1"}.mechanism(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m.Name() != MechanismMSKIAM {
		t.Errorf("mechanism %q", m.Name())
	}
	_, payload, err := m.Start(withBrokerHost(t.Context(), "b-1.example.kafka.eu-central-1.amazonaws.com"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"AKIDEXAMPLE", "eu-central-1/kafka-cluster/aws4_request", "b-1.example.kafka"} {
		if !bytes.Contains(payload, []byte(want)) {
			t.Errorf("payload %s lacks %q", payload, want)
		}
	}
	if bytes.Contains(payload, []byte("secret-never-sent")) {
		t.Error("the secret key is in the payload")
	}
}
