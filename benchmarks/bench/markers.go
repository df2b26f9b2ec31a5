package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"sync"
	"time"
)

// The kinds of marker: an event that alerts by itself; two events of a device,
// which make a window where they are; two events with a value in common, whose
// window is on a partition of tocsin.matches.
const (
	markerMatch   = "match"
	markerWindow  = "window"
	markerShuffle = "shuffle"
)

var markerKinds = []struct {
	name, title string
	lines       int
}{
	{markerMatch, "one event", 1},
	{markerWindow, "window of a device", 2},
	{markerShuffle, "window of something else", 2},
}

const markerRules = `title: Bench marker match
id: 1f0c1c3e-6f6e-4c60-9d39-0b7f5b8a1a01
name: bench_match
logsource: {product: aws, service: iot}
detection: {s: {eventType: BenchMatch}, condition: s}
level: high
---
title: Bench marker window event
id: 1f0c1c3e-6f6e-4c60-9d39-0b7f5b8a1a02
name: bench_window_event
logsource: {product: aws, service: iot}
detection: {s: {eventType: BenchWindow}, condition: s}
level: informational
---
title: Bench marker window
id: 1f0c1c3e-6f6e-4c60-9d39-0b7f5b8a1a03
name: bench_window
correlation: {type: event_count, rules: [bench_window_event], group-by: [tocsin.device], timespan: 1m, condition: {gte: 2}}
level: high
---
title: Bench marker shuffle event
id: 1f0c1c3e-6f6e-4c60-9d39-0b7f5b8a1a04
name: bench_shuffle_event
logsource: {product: aws, service: iot}
detection: {s: {eventType: BenchShuffle}, condition: s}
level: informational
---
title: Bench marker shuffle
id: 1f0c1c3e-6f6e-4c60-9d39-0b7f5b8a1a05
name: bench_shuffle
correlation: {type: event_count, rules: [bench_shuffle_event], group-by: [benchGroup], timespan: 1m, condition: {gte: 2}}
level: high
`

// markers posts events that rules alert on, and receives the alerts.
type markers struct {
	listener net.Listener
	server   *http.Server
	done     chan struct{}
	events   int // sent; read after send

	mu   sync.Mutex
	due  map[string]time.Time // of markers whose alert has not come
	took map[string][]time.Duration
	sent int
}

func newMarkers() (*markers, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &markers{listener: l, done: make(chan struct{}), due: map[string]time.Time{}, took: map[string][]time.Duration{}}
	m.server = &http.Server{Handler: m, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(m.done)
		_ = m.server.Serve(l) // ends with close
	}()
	return m, nil
}

func (m *markers) close() {
	_ = m.server.Close()
	<-m.done
}

func (m *markers) url() string { return "http://" + m.listener.Addr().String() + "/" }

var markerName = regexp.MustCompile(`bench-(match|window|shuffle)-\d+`)

// ServeHTTP receives an alert. What is not about a marker is the fleet's.
func (m *markers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	name := markerName.FindSubmatch(body)
	if name != nil {
		if due, ok := m.due[string(name[0])]; ok {
			delete(m.due, string(name[0]))
			m.took[string(name[1])] = append(m.took[string(name[1])], now.Sub(due))
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// send posts markers at a rate until ctx ends. A slow answer delays none of the
// others: each has its own time, and its latency is counted from then on.
func (m *markers) send(ctx context.Context, t *tocsin, perSecond int) error {
	client := &http.Client{Timeout: time.Minute}
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	var posts sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for n := 0; ; n++ {
		var due time.Time
		select {
		case <-ctx.Done():
			posts.Wait()
			return failed
		case due = <-tick.C:
		}
		kind := markerKinds[n%len(markerKinds)]
		name := fmt.Sprintf("bench-%s-%d", kind.name, n)
		m.mu.Lock()
		m.due[name] = due
		m.sent++
		m.mu.Unlock()
		m.events += kind.lines
		posts.Go(func() {
			if err := post(client, t, name, kind.name, kind.lines, due); err != nil {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
			}
		})
	}
}

// post sends a marker's lines as CloudWatch Logs and Firehose would.
func post(client *http.Client, t *tocsin, name, kind string, lines int, at time.Time) error {
	type logEvent struct {
		ID        string `json:"id"`
		Timestamp int64  `json:"timestamp"`
		Message   string `json:"message"`
	}
	eventType := map[string]string{markerMatch: "BenchMatch", markerWindow: "BenchWindow", markerShuffle: "BenchShuffle"}[kind]
	events := make([]logEvent, lines)
	for i := range events {
		clientID := name
		if kind == markerShuffle {
			// Two devices, which are on different partitions more often than not.
			clientID = fmt.Sprintf("%s-device-%d", name, i)
		}
		events[i] = logEvent{
			ID: fmt.Sprintf("%s-%d-%d", name, at.UnixNano(), i), Timestamp: at.UnixMilli(),
			Message: fmt.Sprintf(`{"timestamp":%q,"logLevel":"INFO","traceId":"%s-%d","accountId":"111122223333","status":"Success","eventType":%q,"protocol":"MQTT","clientId":%q,"sourceIp":"198.51.100.1","benchGroup":%q}`,
				at.UTC().Format("2006-01-02 15:04:05.000"), name, i, eventType, clientID, name),
		}
	}
	payload, err := json.Marshal(map[string]any{
		"messageType": "DATA_MESSAGE", "owner": "111122223333", "logGroup": "AWSIotLogsV2", "logStream": "bench",
		"subscriptionFilters": []string{"bench"}, "logEvents": events,
	})
	if err != nil {
		return err
	}
	var zipped bytes.Buffer
	gz := gzip.NewWriter(&zipped)
	if _, err := gz.Write(payload); err != nil {
		return err
	}
	if err := gz.Close(); err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{
		"requestId": name, "timestamp": at.UnixMilli(), "records": []map[string][]byte{{"data": zipped.Bytes()}},
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, t.firehose, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Amz-Firehose-Protocol-Version", "1.0")
	req.Header.Set("X-Amz-Firehose-Request-Id", name)
	req.Header.Set("X-Amz-Firehose-Access-Key", t.key)
	// A delivery stream, and so a lane, of its own: the fleet's event time is not
	// quite the clock's.
	req.Header.Set("X-Amz-Firehose-Source-Arn", "arn:aws:firehose:eu-west-1:111122223333:deliverystream/bench-markers")
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("marker %s: %s: %s", name, res.Status, answer)
	}
	return nil
}

// wait gives the last alerts time to come, and returns how many markers were
// sent and how long those took that came.
func (m *markers) wait(ctx context.Context, most time.Duration) (int, map[string][]time.Duration) {
	for deadline := time.Now().Add(most); time.Now().Before(deadline); {
		m.mu.Lock()
		missing := len(m.due)
		m.mu.Unlock()
		if missing == 0 || sleep(ctx, 50*time.Millisecond) != nil {
			break
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sent, m.took
}
