package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/internal/simulate"
	"github.com/tocsin-io/tocsin/schemas"
)

// receiver is the other end of the webhook sink: it checks the signature as
// Standard Webhooks says and keeps what it got.
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
type receiver struct {
	key      []byte
	listener net.Listener
	server   *http.Server
	done     chan struct{}

	mu         sync.Mutex
	detections []simulate.Detection
	ids        map[string]bool // webhook-id of what was taken: a repeated message counts once
	rejected   int
}

const maxWebhook = 1 << 20

// newReceiver listens on a loopback port that the system gives.
func newReceiver() (*receiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{key: make([]byte, 32), listener: l, ids: map[string]bool{}, done: make(chan struct{})}
	if _, err := rand.Read(r.key); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		defer close(r.done)
		_ = r.server.Serve(l) // ends with Close
	}()
	return r, nil
}

func (r *receiver) url() string { return "http://" + r.listener.Addr().String() + "/detections" }

// secret is what the sender signs with.
func (r *receiver) secret() string { return "whsec_" + base64.StdEncoding.EncodeToString(r.key) }

func (r *receiver) close() error {
	err := r.server.Close()
	<-r.done
	return err
}

// received returns what has arrived so far, in order.
func (r *receiver) received() []simulate.Detection {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.detections)
}

// ServeHTTP takes one message.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxWebhook))
	if err == nil {
		err = r.verify(req.Header, body)
	}
	var message struct {
		Type string           `json:"type"`
		Data *schemas.Finding `json:"data"`
	}
	if err == nil {
		err = json.Unmarshal(body, &message)
	}
	if err == nil && message.Data == nil {
		err = errors.New("no data")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.rejected++
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if id := req.Header.Get("Webhook-Id"); !r.ids[id] {
		r.ids[id] = true
		if message.Type == schemas.WebhookDetectionCreated {
			r.detections = append(r.detections, simulate.Detection{Finding: message.Data, Received: time.Now()})
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) verify(h http.Header, body []byte) error {
	id, stamp := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp")
	if id == "" || stamp == "" {
		return errors.New("webhook-id or webhook-timestamp is missing")
	}
	mac := hmac.New(sha256.New, r.key)
	fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	want := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	for signature := range strings.FieldsSeq(h.Get("Webhook-Signature")) {
		if hmac.Equal([]byte(signature), want) {
			return nil
		}
	}
	return errors.New("the signature is wrong")
}
