package webhook

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

func TestSignatureVector(t *testing.T) {
	// The test vector of the specification's reference libraries.
	s, err := newSigner([]string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
	if err != nil {
		t.Fatal(err)
	}
	got := s.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRotationSignsWithBoth(t *testing.T) {
	a, b := testSecret('a'), testSecret('b')
	both, err := newSigner([]string{a, b})
	if err != nil {
		t.Fatal(err)
	}
	at, body := time.Unix(1, 0), []byte("{}")
	got := strings.Split(both.sign("id", at, body), " ")
	for i, secret := range []string{a, b} {
		one, err := newSigner([]string{secret})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 2 || got[i] != one.sign("id", at, body) {
			t.Errorf("signature %d of %q is not that of secret %d", i, got, i)
		}
	}
}

func TestBadSecretsAreNotRepeated(t *testing.T) {
	for name, secret := range map[string]string{
		"prefix": "sesame_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", 32))),
		"base64": "whsec_sesame!!",
		"short":  "whsec_" + base64.StdEncoding.EncodeToString([]byte("sesame")),
		"long":   "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("sesame", 20))),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newSigner([]string{secret})
			if err == nil {
				t.Fatal("accepted")
			}
			if strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), strings.TrimPrefix(secret, "whsec_")) {
				t.Errorf("error repeats the secret: %v", err)
			}
		})
	}
	if _, err := newSigner(nil); err == nil {
		t.Error("no secret accepted")
	}
}

func testSecret(fill byte) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(fill), 32)))
}
