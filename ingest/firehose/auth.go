package firehose

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strings"
)

// maxKeyLength is Firehose's own limit for an access key, in bytes.
const maxKeyLength = 4096

var (
	errKeyMissing = errors.New("access key is missing")
	errKeyWrong   = errors.New("access key is wrong")
)

// accessKeys are the hashes of the keys that are let in. Hashing both sides
// makes the comparison independent of the length of either.
type accessKeys [][sha256.Size]byte

func newAccessKeys(keys []string) (accessKeys, error) {
	hashes := make(accessKeys, 0, len(keys))
	for _, k := range keys {
		switch {
		case strings.TrimSpace(k) == "":
			return nil, errors.New("firehose access key: empty")
		case len(k) > maxKeyLength:
			return nil, errors.New("firehose access key: longer than 4096 bytes, which Firehose cannot send")
		}
		hashes = append(hashes, sha256.Sum256([]byte(k)))
	}
	return hashes, nil
}

// check looks at every key whether or not one fitted already, so that the time
// it takes does not tell which.
func (a accessKeys) check(presented string) error {
	if presented == "" {
		return errKeyMissing
	}
	if len(presented) > maxKeyLength {
		return errKeyWrong
	}
	hash := sha256.Sum256([]byte(presented))
	found := 0
	for i := range a {
		found |= subtle.ConstantTimeCompare(a[i][:], hash[:])
	}
	if found != 1 {
		return errKeyWrong
	}
	return nil
}
