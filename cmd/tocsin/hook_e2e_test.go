package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// hook receives webhooks as the documentation of Standard Webhooks tells
// receivers to, and remembers all of them.
type hook struct {
	key    []byte
	server *httptest.Server

	mu       sync.Mutex
	messages map[string]*hookMessage // by webhook-id
	problems []string
}

type hookMessage struct {
	kind    string
	finding *schemas.Finding
	body    string
	times   int
}

func newHook(t testing.TB) *hook {
	h := &hook{key: []byte("an e2e secret of thirty-two bytes"), messages: map[string]*hookMessage{}}
	h.server = httptest.NewServer(h)
	t.Cleanup(func() {
		h.server.Close()
		for _, p := range h.problems {
			t.Errorf("webhook: %s", p)
		}
	})
	return h
}

func (h *hook) secret() string { return "whsec_" + base64.StdEncoding.EncodeToString(h.key) }

// ServeHTTP takes one message.
func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender was killed in the middle
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if problem := h.take(r.Header, string(body)); problem != "" {
		h.problems = append(h.problems, problem)
		w.WriteHeader(http.StatusBadRequest)
	}
}

func (h *hook) take(header http.Header, body string) (problem string) {
	id, stamp := header.Get("Webhook-Id"), header.Get("Webhook-Timestamp")
	mac := hmac.New(sha256.New, h.key)
	mac.Write([]byte(id + "." + stamp + "." + body))
	if !slices.Contains(strings.Fields(header.Get("Webhook-Signature")), "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil))) {
		return "the signature of " + id + " is wrong"
	}
	if at, err := strconv.ParseInt(stamp, 10, 64); err != nil || time.Since(time.Unix(at, 0)).Abs() > 5*time.Minute {
		return "the timestamp of " + id + " is " + stamp
	}
	m := h.messages[id]
	if m == nil {
		var content struct {
			Type string           `json:"type"`
			Data *schemas.Finding `json:"data"`
		}
		if err := json.Unmarshal([]byte(body), &content); err != nil || content.Data == nil {
			return fmt.Sprintf("%s: %v in %s", id, err, body)
		}
		m = &hookMessage{kind: content.Type, finding: content.Data, body: body}
		h.messages[id] = m
	}
	m.times++
	return ""
}

// created returns the detections that the hook was told of, with how often.
func (h *hook) created() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	times := map[string]int{}
	for _, m := range h.messages {
		if m.kind == schemas.WebhookDetectionCreated {
			times[m.finding.FindingInfo.UID] += m.times
		}
	}
	return times
}

// titled returns the IDs of the detections with a title.
func (h *hook) titled(title string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []string
	for _, m := range h.messages {
		if m.kind == schemas.WebhookDetectionCreated && m.finding.FindingInfo.Title == title {
			ids = append(ids, m.finding.FindingInfo.UID)
		}
	}
	return ids
}
