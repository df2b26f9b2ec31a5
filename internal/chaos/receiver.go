package chaos

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// receiver is the other end of the webhook sink, and a bad one.
type receiver struct {
	key      []byte
	listener net.Listener
	server   *http.Server
	calm     bool // no more faults

	mu       sync.Mutex
	rng      *mrand.Rand
	taken    map[string]int // times that a message was taken, by webhook-id
	owed     map[string]int // times that it was taken and not answered for
	provoked int            // times that a message was taken again because of that
	repeated int            // times that one was taken again though it had been answered for
	refused  int            // faults that were done
	forged   []string
	badUntil time.Time // it answers 500 to everything
}

func newReceiver(seed uint64) (*receiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{
		key: make([]byte, 32), listener: l, rng: mrand.New(mrand.NewPCG(seed, 3)), taken: map[string]int{}, owed: map[string]int{},
	}
	_, _ = rand.Read(r.key) // never fails (Go 1.24)
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = r.server.Serve(l) }() // ends with Close
	return r, nil
}

func (r *receiver) url() string    { return "http://" + r.listener.Addr().String() + "/chaos" }
func (r *receiver) secret() string { return "whsec_" + base64.StdEncoding.EncodeToString(r.key) }
func (r *receiver) close() error   { return r.server.Close() }

// calmDown ends the faults.
func (r *receiver) calmDown() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calm, r.badUntil = true, time.Time{}
}

// webhookTimeout is the sink's, in its configuration.
const webhookTimeout = 2 * time.Second

// What a receiver does to a message, in percent of the messages; the rest is
// taken and answered.
const (
	percentRefuse   = 4 // 500
	percentThrottle = 2 // 503 and Retry-After
	percentSilent   = 2 // not taken, no answer
	percentLate     = 2 // taken, answered after the sender has given up
	percentCut      = 3 // taken, connection closed without an answer
)

// ServeHTTP takes one message, or does not.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err != nil {
		return // the sender was killed in the middle
	}
	id := req.Header.Get("Webhook-Id")
	if err := r.verify(req.Header, body); err != nil {
		r.mu.Lock()
		r.forged = append(r.forged, fmt.Sprintf("webhook %q: %v", id, err))
		r.mu.Unlock()
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	gone := req.Context().Done()
	switch action := r.decide(); {
	case action < 0:
		w.WriteHeader(http.StatusInternalServerError)
	case action < percentThrottle:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
	case action < percentThrottle+percentSilent:
		<-gone
	case action < percentThrottle+percentSilent+percentLate:
		r.take(id, false)
		<-gone
	case action < percentThrottle+percentSilent+percentLate+percentCut:
		r.take(id, false)
		panic(http.ErrAbortHandler) // net/http closes the connection
	case action < percentThrottle+percentSilent+percentLate+percentCut+percentRefuse:
		w.WriteHeader(http.StatusInternalServerError)
	default:
		r.take(id, true)
	}
}

// decide draws what happens to a message: a number of a hundred, -1 while nothing
// is taken at all.
func (r *receiver) decide() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calm {
		return 100
	}
	if time.Now().Before(r.badUntil) {
		r.refused++
		return -1
	}
	if r.rng.IntN(500) == 0 {
		r.badUntil = time.Now().Add(time.Duration(2+r.rng.IntN(10)) * time.Second)
	}
	n := r.rng.IntN(100)
	if n < percentRefuse+percentThrottle+percentSilent+percentLate+percentCut {
		r.refused++
	}
	return n
}

// take keeps a message; answered says that its sender will know.
func (r *receiver) take(id string, answered bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken[id]++; r.taken[id] > 1 {
		if r.owed[id] > 0 {
			r.owed[id]--
			r.provoked++
		} else {
			r.repeated++
		}
	}
	if !answered {
		r.owed[id]++
	}
}

// verify checks the signature as Standard Webhooks says.
func (r *receiver) verify(h http.Header, body []byte) error {
	mac := hmac.New(sha256.New, r.key)
	fmt.Fprintf(mac, "%s.%s.%s", h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), body)
	want := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	for s := range strings.FieldsSeq(h.Get("Webhook-Signature")) {
		if hmac.Equal([]byte(s), want) {
			return nil
		}
	}
	return errors.New("the signature is wrong")
}

// messages returns how often each message was taken.
func (r *receiver) messages() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]int, len(r.taken))
	for id, n := range r.taken {
		out[id] = n
	}
	return out
}

// receiverCounts are for the line of progress and the report.
type receiverCounts struct {
	messages, provoked, repeated, refused int
	forged                                []string
}

func (r *receiver) counts() receiverCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return receiverCounts{len(r.taken), r.provoked, r.repeated, r.refused, r.forged}
}
