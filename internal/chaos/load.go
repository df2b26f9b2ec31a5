package chaos

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/tocsin-io/tocsin/ingest/decode"
	"github.com/tocsin-io/tocsin/schemas"
)

// event is one log line, as the oracle sees it.
type event struct {
	id                                    schemas.EventID
	kind                                  kind
	time                                  int64 // Unix milliseconds
	device, certificate, address, account string
}

// Event time runs behind the clock by timeShift, so that the last events can be
// of now and let the watermark pass everything before at once: by more than a
// timespan and the disorder, by less than the lateness.
const timeShift = 4 * time.Minute

// The sizes of the fleet: small enough that groups come back, large enough that
// most episodes end.
const (
	fleetDevices      = 400
	fleetCertificates = 200
	fleetAddresses    = 150
	fleetAccounts     = 3
	// streams are delivery streams, each a lane of the watermark.
	streams = 3
	// tick is how often each stream sends what has happened.
	tick = 200 * time.Millisecond
	// maxOutstanding bounds the requests that are on their way or being repeated. When
	// all ingesters are away, what happens meanwhile is sent in one go afterwards.
	maxOutstanding = 256
)

// load makes events and sends them until each is acknowledged.
type load struct {
	urls   []string // of the ingesters
	rate   int      // events a second
	rng    *rand.Rand
	client *http.Client

	decoder *decode.Decoder
	serial  int
	planned []event // of campaigns, not due yet

	slots   chan struct{}
	sending sync.WaitGroup

	mu     sync.Mutex
	ledger map[schemas.EventID]*entry
	fatal  error

	acknowledged, requests, retries atomic.Int64
}

// entry is a line of the ledger.
type entry struct {
	event        *event
	acknowledged bool
}

func newLoad(urls []string, rate int, seed uint64) *load {
	return &load{
		urls: urls, rate: rate, rng: rand.New(rand.NewPCG(seed, 1)), decoder: decode.New(decode.Options{}),
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
		slots:  make(chan struct{}, maxOutstanding), ledger: map[schemas.EventID]*entry{},
	}
}

// run sends what happens in the fleet until ctx ends, and then returns when
// everything has been acknowledged or hurry ends.
func (l *load) run(ctx, hurry context.Context) error {
	every := time.NewTicker(tick)
	defer every.Stop()
	last := time.Now()
	var again []line // delivered a second time with a later request
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-every.C:
		}
		now := time.Now()
		lines, err := l.happened(last, now)
		if err != nil {
			return err
		}
		last = now
		var batches [streams][]line
		batches, again = l.spread(lines, again)
		for s, batch := range batches {
			if len(batch) > 0 && !l.send(hurry, s, batch) {
				break
			}
		}
	}
	l.sending.Wait()
	return l.err()
}

// spread deals lines, and those that are to come once more, out to the streams,
// and returns which of the new ones come once more with the next.
func (l *load) spread(lines, again []line) (batches [streams][]line, next []line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ln := range slices.Concat(lines, again) {
		s := l.rng.IntN(streams)
		batches[s] = append(batches[s], ln)
	}
	for _, ln := range lines {
		if l.rng.IntN(50) == 0 {
			next = append(next, ln)
		}
	}
	return batches, next
}

func (l *load) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

// probe sends one event that is a detection by itself, of a device whose
// partition is known, outside of the fleet's plan.
func (l *load) probe(hurry context.Context, device string) (schemas.EventID, error) {
	l.mu.Lock()
	e := l.newEvent(revoked, time.Now(), device)
	l.mu.Unlock()
	ln, err := l.write(&e)
	if err == nil && !l.send(hurry, 0, []line{ln}) {
		err = context.Cause(hurry)
	}
	return ln.id, err
}

// letTimePass sends, by every stream, events of now to every partition.
func (l *load) letTimePass(ctx context.Context, partitions int) error {
	for s := range streams {
		var lines []line
		for p := range partitions {
			e := l.newEvent(noise, time.Now().Add(timeShift), deviceOf("end", p, partitions))
			ln, err := l.write(&e)
			if err != nil {
				return err
			}
			lines = append(lines, ln)
		}
		l.send(ctx, s, lines)
	}
	l.sending.Wait()
	return l.err()
}

// deviceOf returns a device whose events go to a partition.
func deviceOf(prefix string, partition, partitions int) string {
	for i := 0; ; i++ {
		name := fmt.Sprintf("%s-%d-%d", prefix, partition, i)
		if schemas.Partition([]byte(name), partitions) == partition {
			return name
		}
	}
}

// happened returns the lines of the time between two moments: of campaigns that
// go on, of new ones, and as much noise as the rate asks for.
func (l *load) happened(from, to time.Time) ([]line, error) {
	l.mu.Lock()
	seconds := to.Sub(from).Seconds()
	for campaigns := seconds * campaignsPerSecond; campaigns > l.rng.Float64(); campaigns-- {
		l.plan(to)
	}
	var due, later []event
	for _, e := range l.planned {
		if e.time <= to.Add(-timeShift).UnixMilli() {
			due = append(due, e)
		} else {
			later = append(later, e)
		}
	}
	l.planned = later
	for n := int(seconds*float64(l.rate)) - len(due); n > 0; n-- {
		at := from.Add(time.Duration(l.rng.Int64N(int64(to.Sub(from)) + 1)))
		due = append(due, l.newEvent(noise, at, l.device()))
	}
	l.rng.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	l.mu.Unlock()
	lines := make([]line, len(due))
	for i := range due {
		var err error
		if lines[i], err = l.write(&due[i]); err != nil {
			return nil, err
		}
	}
	return lines, nil
}

const campaignsPerSecond = 3

// plan begins one of the things that the rules are about: enough of it for a
// detection, just not enough, or just too slow.
func (l *load) plan(now time.Time) {
	add := func(k kind, within time.Duration, change func(*event)) {
		e := l.newEvent(k, now.Add(time.Duration(l.rng.Int64N(int64(within)))), l.device())
		if change != nil {
			change(&e)
		}
		l.planned = append(l.planned, e)
	}
	device, certificate, address := l.device(), l.certificate(), l.address()
	switch l.rng.IntN(12) {
	case 0:
		add(revoked, time.Second, nil)
	case 1, 2:
		for range 2 + l.rng.IntN(6) {
			add(refused, 15*time.Second, func(e *event) { e.device = device })
		}
	case 3, 4:
		for range 2 + l.rng.IntN(4) {
			add(connected, 15*time.Second, func(e *event) { e.certificate = certificate })
		}
	case 5, 6:
		for range 1 + l.rng.IntN(3) {
			add(refused, 15*time.Second, func(e *event) { e.address = address })
		}
		add(connected, 15*time.Second, func(e *event) { e.address = address })
	case 7, 8:
		add(websocket, time.Second, func(e *event) { e.device = device })
		if l.rng.IntN(3) > 0 {
			add(published, 8*time.Second, func(e *event) { e.device = device })
		}
	case 9, 10:
		for range 1 + l.rng.IntN(6) {
			add(alive, 12*time.Second, func(e *event) { e.device = device })
		}
	default:
		account := fmt.Sprintf("11112222333%d", l.rng.IntN(fleetAccounts))
		for range 5 + l.rng.IntN(20) {
			add(unauthenticated, 6*time.Second, func(e *event) { e.account = account })
		}
	}
}

func (l *load) device() string { return fmt.Sprintf("device-%03d", l.rng.IntN(fleetDevices)) }
func (l *load) certificate() string {
	return fmt.Sprintf("%064x", 0xc0ffee+l.rng.IntN(fleetCertificates))
}

func (l *load) address() string { return fmt.Sprintf("198.51.100.%d", l.rng.IntN(fleetAddresses)) }

func (l *load) newEvent(k kind, at time.Time, device string) event {
	return event{
		kind: k, time: at.Add(-timeShift).UnixMilli(), device: device, certificate: l.certificate(), address: l.address(),
		account: fmt.Sprintf("11112222333%d", l.rng.IntN(fleetAccounts)),
	}
}

// line is an event as CloudWatch Logs hands it on.
type line struct {
	id   schemas.EventID
	text []byte // of logEvents
}

var lineOf = [...]struct{ eventType, status, reason, protocol string }{
	revoked:         {"Connect", "Failure", "CERTIFICATE_REVOKED", "MQTT"},
	refused:         {"Connect", "Failure", "AUTHORIZATION_FAILURE", "MQTT"},
	connected:       {"Connect", "Success", "", "MQTT"},
	websocket:       {"Connect", "Success", "", "WebSocket"},
	published:       {"Publish-In", "Success", "", "MQTT"},
	alive:           {"Ping", "Success", "", "MQTT"},
	unauthenticated: {"Connection.AuthNError", "Failure", "CERTIFICATE_UNKNOWN", "MQTT"},
	noise:           {"Subscribe", "Success", "", "MQTT"},
}

// write makes an event's line and enters it into the ledger. Its ID is what the
// decoder says of it by itself.
func (l *load) write(e *event) (line, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serial++
	of := lineOf[e.kind]
	m := map[string]any{
		"timestamp": time.UnixMilli(e.time).UTC().Format("2006-01-02 15:04:05.000"),
		"logLevel":  "INFO", "traceId": fmt.Sprintf("00000000-0000-4000-8000-%012x", l.serial), "accountId": e.account,
		"status": of.status, "eventType": of.eventType, "protocol": of.protocol, "clientId": e.device,
		"principalId": e.certificate, "sourceIp": e.address, "sourcePort": 50_000,
	}
	if of.reason != "" {
		m["reason"] = of.reason
	}
	message, err := json.Marshal(m)
	if err != nil {
		return line{}, err
	}
	text, err := json.Marshal(map[string]any{"id": fmt.Sprintf("%056d", l.serial), "timestamp": e.time, "message": string(message)})
	if err != nil {
		return line{}, err
	}
	n := 0
	l.decoder.Decode(payload([]line{{text: text}}), decode.Hints{}, func(ev *schemas.Event) {
		n++
		e.id = ev.ID
		if ev.Time != e.time || string(ev.Device) != e.device || string(ev.Account) != e.account {
			n = -1
		}
	}, func(r decode.Rejection) { err = r.Err })
	if err != nil || n != 1 {
		return line{}, fmt.Errorf("the decoder makes something else of %s: %w", text, err)
	}
	l.ledger[e.id] = &entry{event: e}
	return line{id: e.id, text: text}, nil
}

// payload is what a subscription filter makes of lines, before gzip.
func payload(lines []line) []byte {
	var b bytes.Buffer
	b.WriteString(`{"messageType":"DATA_MESSAGE","owner":"111122223333","logGroup":"AWSIotLogsV2","logStream":"chaos",` +
		`"subscriptionFilters":["tocsin"],"logEvents":[`)
	for i, ln := range lines {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(ln.text)
	}
	b.WriteString("]}")
	return b.Bytes()
}

// send posts lines in the background until an ingester says 200, to one and then
// to another. It waits while too many requests are out, and reports whether the
// context still lives.
func (l *load) send(ctx context.Context, stream int, lines []line) bool {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	l.mu.Lock()
	id := fmt.Sprintf("%016x", l.rng.Uint64())
	to := l.rng.IntN(len(l.urls))
	l.mu.Unlock()
	body, err := requestBody(id, lines)
	if err != nil {
		l.fail(err)
		return false
	}
	l.sending.Go(func() {
		defer func() { <-l.slots }()
		for ; ; to++ {
			l.requests.Add(1)
			if l.post(ctx, l.urls[to%len(l.urls)], id, stream, body) {
				break
			}
			l.retries.Add(1)
			sleep(ctx, time.Duration(200+rand.IntN(1500))*time.Millisecond)
			if ctx.Err() != nil {
				return
			}
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, ln := range lines {
			if e := l.ledger[ln.id]; !e.acknowledged {
				e.acknowledged = true
				l.acknowledged.Add(1)
			}
		}
	})
	return true
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fatal == nil {
		l.fatal = err
	}
}

// requestBody is the body of a Firehose request.
// https://docs.aws.amazon.com/firehose/latest/dev/httpdeliveryrequestresponse.html
func requestBody(id string, lines []line) ([]byte, error) {
	var zipped bytes.Buffer
	gz, err := gzip.NewWriterLevel(&zipped, gzip.BestSpeed)
	if err == nil {
		_, err = gz.Write(payload(lines))
	}
	if err == nil {
		err = gz.Close()
	}
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `{"requestId":%q,"timestamp":%d,"records":[{"data":%q}]}`,
		id, time.Now().UnixMilli(), base64.StdEncoding.EncodeToString(zipped.Bytes())), nil
}

// post reports whether the request was acknowledged.
func (l *load) post(ctx context.Context, url, id string, stream int, body []byte) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		l.fail(err)
		return false
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Amz-Firehose-Request-Id", id)
	req.Header.Set("X-Amz-Firehose-Source-Arn", fmt.Sprintf("arn:aws:firehose:eu-west-1:111122223333:deliverystream/chaos-%d", stream))
	res, err := l.client.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	var ack struct {
		RequestID string `json:"requestId"`
	}
	return err == nil && res.StatusCode == http.StatusOK && json.Unmarshal(answer, &ack) == nil && ack.RequestID == id
}

// counts are how many events are in the ledger, and how many of them are not
// acknowledged.
func (l *load) counts() (events, pending int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ledger), len(l.ledger) - int(l.acknowledged.Load())
}

// entries are the lines of the ledger.
func (l *load) entries() map[schemas.EventID]entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[schemas.EventID]entry, len(l.ledger))
	for id, e := range l.ledger {
		out[id] = *e
	}
	return out
}
