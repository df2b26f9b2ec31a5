package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	secretPrefix = "whsec_"
	minSecret    = 24 // bytes, as the specification has them
	maxSecret    = 64
)

// signer signs with every secret that is valid: while a secret is being
// replaced, receivers with the old and with the new one both accept.
type signer struct {
	keys [][]byte
}

// newSigner reads secrets of the form whsec_BASE64. Its errors do not repeat
// them.
func newSigner(secrets []string) (*signer, error) {
	if len(secrets) == 0 {
		return nil, errors.New("no secret: give one of the form whsec_BASE64, of 24 to 64 random bytes")
	}
	s := &signer{}
	for i, secret := range secrets {
		encoded, ok := strings.CutPrefix(secret, secretPrefix)
		if !ok {
			return nil, fmt.Errorf("secret %d does not begin with %s", i+1, secretPrefix)
		}
		key, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return nil, fmt.Errorf("secret %d is not base64 after %s", i+1, secretPrefix)
		}
		if len(key) < minSecret || len(key) > maxSecret {
			return nil, fmt.Errorf("secret %d is %d bytes long: want %d to %d", i+1, len(key), minSecret, maxSecret)
		}
		s.keys = append(s.keys, key)
	}
	return s, nil
}

// sign returns the value of the webhook-signature header.
func (s *signer) sign(id string, at time.Time, body []byte) string {
	var out strings.Builder
	for i, key := range s.keys {
		if i > 0 {
			out.WriteByte(' ')
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		mac.Write(body)
		out.WriteString("v1,")
		out.WriteString(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return out.String()
}
