package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

func TestParseDuration(t *testing.T) {
	good := func(s string, want time.Duration) {
		t.Helper()
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("%s: got %v, %v", s, got, err)
		}
	}
	good("10m", 10*time.Minute)
	good("1h30m", 90*time.Minute)
	good("7d", 7*24*time.Hour)
	good("1d12h", 36*time.Hour)
	good("0", 0)
	good("-5s", -5*time.Second) // the range is the validator's business
	for _, s := range []string{"", "10", "d", "1.5d", "-1d", "1d-2h", "1dd", "999999999d", "106751d9999h"} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("%q: got %v", s, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	good := func(s string, want Size, printed string) {
		t.Helper()
		got, err := ParseSize(s)
		if err != nil || got != want || got.String() != printed {
			t.Errorf("%s: got %d, %s, %v", s, got, got, err)
		}
	}
	good("64MiB", 64<<20, "64MiB")
	good("512 KiB", 512<<10, "512KiB")
	good("1500", 1500, "1500B")
	good("10MB", 10_000_000, "10000000B")
	good("0", 0, "0B")
	good("2048", 2048, "2KiB")
	for _, s := range []string{"", "MiB", "-1", "1.5MiB", "9999999999GiB", "10 minutes", "0x10"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("%q: got %v", s, got)
		}
	}
}

func TestSecretNeverPrints(t *testing.T) {
	const secret = Secret("hunter2")
	type holder struct {
		S Secret
		L []Secret
		M map[string]Secret
	}
	h := holder{secret, []Secret{secret}, map[string]Secret{"k": secret}}
	forms := []string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		forms = append(forms, fmt.Sprintf(verb, secret), fmt.Sprintf(verb, h), fmt.Sprintf(verb, &h))
	}
	b, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	y, err := yaml.Dump(h)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append(forms, string(b), string(y)) {
		for _, leak := range []string{"hunter2", "68756e74657232"} {
			if strings.Contains(s, leak) {
				t.Errorf("the secret shows in %q", s)
			}
		}
	}
	if Secret("").String() != "" {
		t.Error("an empty secret must be seen to be empty")
	}
}
