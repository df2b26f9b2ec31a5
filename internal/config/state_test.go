package config

import "testing"

func TestStateBucket(t *testing.T) {
	for state, want := range map[string][2]string{
		"s3://windows":                {"windows", ""},
		"s3://windows/":               {"windows", ""},
		"s3://windows/fleet/eu-west/": {"windows", "fleet/eu-west"},
		"/var/lib/tocsin/state":       {},
		"":                            {},
	} {
		c, err := Load("", []byte("correlate: {state: '"+state+"'}"), noEnv)
		if err != nil {
			t.Errorf("%s: %v", state, err)
			continue
		}
		bucket, prefix, ok := c.Correlate.StateBucket()
		if ok != (want[0] != "") || ok && (bucket != want[0] || prefix != want[1]) {
			t.Errorf("%s: %q, %q, %v", state, bucket, prefix, ok)
		}
	}
}
