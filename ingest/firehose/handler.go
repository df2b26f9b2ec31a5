package firehose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/ingest"
	"github.com/tocsin-io/tocsin/internal/accesskey"
	"github.com/tocsin-io/tocsin/schemas"
)

// The headers of the contract.
const (
	headerProtocol  = "X-Amz-Firehose-Protocol-Version"
	headerRequestID = "X-Amz-Firehose-Request-Id"
	headerSourceARN = "X-Amz-Firehose-Source-Arn"
	headerAccessKey = "X-Amz-Firehose-Access-Key"
	headerEventsKey = "X-Tocsin-Key"

	protocolVersion = "1.0"
	maxErrorMessage = 8192
)

// hand is how a delivery reaches the pipeline; see ingest.Source.
type hand = func(context.Context, *ingest.Delivery) error

// refusal is an answer other than 200.
type refusal struct {
	status int
	result string
	err    error
}

// Handler serves both paths and hands what comes in to hand. Run uses it; it is
// for those who have an HTTP server already.
func (s *Source) Handler(hand func(context.Context, *ingest.Delivery) error) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(s.opts.Path, func(w http.ResponseWriter, r *http.Request) {
		x := exchange{s: s, w: w, r: r, hand: hand}
		if id := r.Header.Get(headerRequestID); len(id) <= maxRequestID {
			x.id = id
		}
		x.serve(x.allow(r.Header.Get(headerAccessKey)), x.firehose)
	})
	events := func(w http.ResponseWriter, r *http.Request) {
		x := exchange{s: s, w: w, r: r, hand: hand}
		if r.Header.Get(headerRulesEngine) == confirmation {
			x.serve(nil, x.confirm)
			return
		}
		key := r.Header.Get(headerEventsKey)
		if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && key == "" {
			key = bearer
		}
		x.serve(x.allow(key), x.events)
	}
	mux.HandleFunc(s.opts.EventsPath, events)
	// AWS IoT puts a slash behind the path when it asks for confirmation.
	if !strings.HasSuffix(s.opts.EventsPath, "/") {
		mux.HandleFunc(s.opts.EventsPath+"/{$}", events)
	}
	return mux
}

// exchange is one request and its answer.
type exchange struct {
	s    *Source
	w    http.ResponseWriter
	r    *http.Request
	hand hand
	id   string // request ID, to be echoed; "" when there is none
}

// serve has the request delivered, unless it is refused already, and answers it.
func (x *exchange) serve(refused *refusal, deliver func() (string, *refusal)) {
	s, start := x.s, time.Now()
	if x.r.Method != http.MethodPost {
		x.w.Header().Set("Allow", http.MethodPost)
		refused = &refusal{http.StatusMethodNotAllowed, resultMethod, fmt.Errorf("method %s is not POST", x.r.Method)}
	}
	result := ""
	if refused == nil {
		select {
		case s.slots <- struct{}{}:
			result, refused = deliver()
			<-s.slots
		default:
			refused = &refusal{http.StatusServiceUnavailable, resultOverloaded, errors.New("too many requests are in flight already")}
		}
	}
	if refused == nil {
		s.metrics.requests.WithLabelValues(result).Inc()
		s.metrics.duration.Observe(time.Since(start).Seconds())
		x.answer(http.StatusOK, "")
		return
	}
	s.metrics.requests.WithLabelValues(refused.result).Inc()
	s.warn.Do(func() {
		s.log.Warn("request refused; more of them are only counted for a while", zap.Int("status", refused.status),
			zap.String("result", refused.result), zap.String("remote", x.r.RemoteAddr), zap.String("path", x.r.URL.Path), zap.Error(refused.err))
	})
	x.answer(refused.status, refused.err.Error())
}

// allow refuses whoever does not know a key.
func (x *exchange) allow(key string) *refusal {
	if x.s.opts.Anonymous {
		return nil
	}
	switch err := x.s.keys.Check(key); {
	case err == nil:
		return nil
	case errors.Is(err, accesskey.ErrMissing):
		return &refusal{http.StatusUnauthorized, resultUnauthorized, err}
	default:
		return &refusal{http.StatusForbidden, resultForbidden, err}
	}
}

// answer is all that Firehose accepts as an answer: this content type, a content
// length, no encoding, and these fields.
func (x *exchange) answer(status int, message string) {
	if len(message) > maxErrorMessage {
		message = message[:maxErrorMessage]
	}
	body, err := json.Marshal(struct {
		RequestID    string `json:"requestId"`
		Timestamp    int64  `json:"timestamp"`
		ErrorMessage string `json:"errorMessage,omitempty"`
	}{x.id, time.Now().UnixMilli(), strings.ToValidUTF8(message, "?")})
	if err != nil {
		panic("BUG: cannot encode an answer: " + err.Error())
	}
	h := x.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	control := http.NewResponseController(x.w) // its errors: not supported, which is for tests without a connection
	_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if status != http.StatusOK {
		// The server reads what may be left of the body before it answers, so that
		// the client sees the answer and not a reset. Without a deadline a client
		// that sends nothing, with no key even, would keep the connection.
		_ = control.SetReadDeadline(time.Now().Add(drainTimeout))
	}
	x.w.WriteHeader(status)
	_, _ = x.w.Write(body) // whoever asked is gone, and will ask again
}

// firehose delivers a Firehose request.
func (x *exchange) firehose() (string, *refusal) {
	s := x.s
	malformed := func(format string, args ...any) *refusal {
		return &refusal{http.StatusBadRequest, resultMalformed, fmt.Errorf(format, args...)}
	}
	// Firehose always sends the version; others that speak its protocol may not.
	if v := x.r.Header.Get(headerProtocol); v != "" && v != protocolVersion {
		return "", malformed("protocol version %.16q is not %q", v, protocolVersion)
	}
	from := parseARN(x.r.Header.Get(headerSourceARN))
	var buf buffer
	settle := func() { s.budget.give(buf.reserved) }
	if refused := s.readBody(x.w, x.r, &buf, true); refused != nil {
		x.note("firehose", from, buf.b, refused)
		settle()
		return "", refused
	}
	in, err := decodeBody(buf.b)
	if err == nil && x.id != "" && x.id != in.requestID {
		err = fmt.Errorf("requestId %q is not that of the header", in.requestID)
	}
	if err != nil {
		refused := malformed("%w", err)
		x.note("firehose", from, buf.b, refused)
		settle()
		return "", refused
	}
	x.id = in.requestID
	s.metrics.records.Add(float64(len(in.records)))
	ctx, cancel := context.WithTimeout(x.r.Context(), s.opts.AckTimeout)
	defer cancel()
	key := newRequestKey(in.requestID, from.stream, in.records)
	fl, first := s.recent.begin(key)
	if fl == nil || !first {
		settle()
		if fl == nil {
			return resultDuplicate, nil
		}
		return x.await(ctx, fl, resultDuplicate)
	}
	job := &job{
		flight: fl,
		settle: func(err error) {
			settle()
			s.recent.end(key, fl, err)
		},
	}
	ds := make([]ingest.Delivery, 0, len(in.records))
	now, lane, origin := time.Now(), s.lanes.of(from.stream), "firehose/"+from.stream+"/"+in.requestID+"#"
	for i, data := range in.records {
		if len(data) == 0 {
			continue
		}
		ds = append(ds, ingest.Delivery{
			Data: data, Source: "firehose", Lane: lane, Origin: origin + strconv.Itoa(i),
			Account: from.account, Region: from.region, Received: now, Ack: job.ack,
		})
	}
	return x.deliver(ctx, job, ds)
}

// events delivers the body of a plain push as it is: the decoder knows gzip and
// every format by sight.
func (x *exchange) events() (string, *refusal) {
	s := x.s
	var buf buffer
	if refused := s.readBody(x.w, x.r, &buf, false); refused != nil {
		x.note("push", origin{stream: "push"}, buf.b, refused)
		s.budget.give(buf.reserved)
		return "", refused
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), s.opts.AckTimeout)
	defer cancel()
	fl := &flight{done: make(chan struct{})}
	job := &job{
		flight: fl,
		settle: func(err error) {
			s.budget.give(buf.reserved)
			fl.err = err
			close(fl.done)
		},
	}
	var ds []ingest.Delivery
	if len(bytes.TrimSpace(buf.b)) > 0 {
		ds = []ingest.Delivery{{
			Data: buf.b, Source: "push", Lane: "push", Origin: "push" + x.r.URL.Path,
			Received: time.Now(), Ack: job.ack,
		}}
	}
	return x.deliver(ctx, job, ds)
}

// deliver hands the deliveries over and waits for the job's end, or that of ctx.
func (x *exchange) deliver(ctx context.Context, job *job, ds []ingest.Delivery) (string, *refusal) {
	// One more than there are deliveries, so that the job cannot end while they
	// are still being handed over.
	job.pending.Store(int64(len(ds)) + 1)
	for i := range ds {
		if err := x.hand(ctx, &ds[i]); err != nil {
			// The rest was not taken; what was is on its way and holds the job.
			job.fail(err)
			job.drop(int64(len(ds) - i))
			break
		}
	}
	job.drop(1)
	return x.await(ctx, job.flight, resultOK)
}

// await waits for the end of a flight, this request's own or that of an earlier
// one of the same content.
func (x *exchange) await(ctx context.Context, fl *flight, result string) (string, *refusal) {
	unavailable := func(result string, err error) (string, *refusal) {
		return "", &refusal{http.StatusServiceUnavailable, result, err}
	}
	select {
	case <-fl.done:
	case <-ctx.Done():
		// It may have ended just now.
		select {
		case <-fl.done:
		default:
			return x.gaveUp(ctx.Err())
		}
	}
	switch {
	case fl.err == nil:
		return result, nil
	case errors.Is(fl.err, context.DeadlineExceeded), errors.Is(fl.err, context.Canceled):
		return x.gaveUp(fl.err)
	default:
		return unavailable(resultFailed, fmt.Errorf("not published: %w", fl.err))
	}
}

func (x *exchange) gaveUp(err error) (string, *refusal) {
	if errors.Is(err, context.DeadlineExceeded) {
		return "", &refusal{http.StatusServiceUnavailable, resultAckTimeout, fmt.Errorf("not acknowledged by Kafka within %v", x.s.opts.AckTimeout)}
	}
	return "", &refusal{http.StatusServiceUnavailable, resultAborted, errors.New("the client went away or the server is stopping")}
}

// note puts the beginning of a body that was refused for what it is into the
// dead letter topic, once however often it is repeated. Firehose keeps the whole
// and puts it into its S3 error bucket in the end.
func (x *exchange) note(source string, from origin, b []byte, refused *refusal) {
	if refused.result != resultMalformed && refused.result != resultTooLarge {
		return
	}
	data := bytes.Clone(b[:min(len(b), schemas.MaxDeadLetterRaw)])
	if !x.s.noted.add(requestKey{x.id, xxhash.Sum64(data)}) {
		return
	}
	reject := &ingest.Rejection{Reason: "request_" + refused.result, Err: refused.err}
	if len(b) > len(data) {
		reject.Size = len(b)
	}
	d := &ingest.Delivery{
		Data: data, Source: source, Lane: source, Origin: source + "/" + from.stream + "/" + x.id,
		Account: from.account, Region: from.region, Received: time.Now(), Reject: reject,
		Ack: func(error) {}, // a note, not a promise: the sender still has it
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), time.Second)
	defer cancel()
	_ = x.hand(ctx, d) // a full pipeline has better things to take
}

// job gathers the acknowledgements of one request's deliveries.
type job struct {
	flight  *flight
	settle  func(error) // ends flight; called once
	pending atomic.Int64
	mu      sync.Mutex
	err     error // the first
}

func (j *job) ack(err error) {
	if err != nil {
		j.fail(err)
	}
	j.drop(1)
}

func (j *job) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.err = err
	}
}

func (j *job) drop(n int64) {
	if j.pending.Add(-n) > 0 {
		return
	}
	// fail comes before drop wherever both are called, so err is final.
	j.settle(j.err)
}
