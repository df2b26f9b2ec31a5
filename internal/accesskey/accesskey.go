// Package accesskey checks the keys that callers of an HTTP endpoint present.
package accesskey

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"
)

// MaxLength of a key, in bytes: what Amazon Data Firehose can send.
const MaxLength = 4096

// What is wrong with a presented key.
var (
	ErrMissing = errors.New("access key is missing")
	ErrWrong   = errors.New("access key is wrong")
)

// Keys are the hashes of the keys that are let in. Hashing both sides makes the
// comparison independent of the length of either.
type Keys [][sha256.Size]byte

// New checks keys and hashes them.
func New(keys []string) (Keys, error) {
	hashes := make(Keys, 0, len(keys))
	for _, k := range keys {
		switch {
		case strings.TrimSpace(k) == "":
			return nil, errors.New("access key: empty")
		case len(k) > MaxLength:
			return nil, errors.New("access key: longer than 4096 bytes")
		}
		hashes = append(hashes, sha256.Sum256([]byte(k)))
	}
	return hashes, nil
}

// Check looks at every key whether or not one fitted already, so that the time it
// takes does not tell which.
func (a Keys) Check(presented string) error {
	if presented == "" {
		return ErrMissing
	}
	if len(presented) > MaxLength {
		return ErrWrong
	}
	hash := sha256.Sum256([]byte(presented))
	found := 0
	for i := range a {
		found |= subtle.ConstantTimeCompare(a[i][:], hash[:])
	}
	if found != 1 {
		return ErrWrong
	}
	return nil
}

// Header is where Presented looks first.
const Header = "X-Tocsin-Key"

// Presented returns the key that a request presents: in the header X-Tocsin-Key, as
// a bearer token, or as the password of basic authentication, which is all that
// some clients can send. "" if there is none.
func Presented(r *http.Request) string {
	if key := r.Header.Get(Header); key != "" {
		return key
	}
	authorization := r.Header.Get("Authorization")
	if bearer, ok := strings.CutPrefix(authorization, "Bearer "); ok {
		return bearer
	}
	_, password, _ := r.BasicAuth()
	return password
}
