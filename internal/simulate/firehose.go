package simulate

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/klauspost/compress/gzip"
)

// Target says where requests go.
type Target struct {
	FirehoseURL string // takes Firehose's HTTP endpoint requests
	EventsURL   string // takes EventBridge API destination requests; "" leaves them out
	AccessKey   string
	// OuterGzip compresses the body of Firehose requests once more, as Firehose does when content
	// encoding is enabled.
	OuterGzip bool
	// RetryFor is how long a request is repeated until it is given up. Default 5 minutes.
	RetryFor time.Duration
	Client   *http.Client // nil for a client of its own
}

// Firehose's delivery: https://docs.aws.amazon.com/firehose/latest/dev/httpdeliveryrequestresponse.html
const (
	firehoseFirstRetry = time.Second
	firehoseMaxRetry   = 120 * time.Second
	maxResponse        = 1 << 20
)

// request is what one HTTP request delivers, however often it has to be sent.
type request struct {
	id       string
	url      string
	body     []byte
	gzipped  bool
	stream   string // delivery stream; "" for EventBridge
	payloads []Payload
}

var streamOf = map[Channel]string{ChannelLogs: "iot-logs", ChannelLifecycle: "iot-lifecycle"}

// firehoseRequest builds a Firehose request of payloads of one channel.
func (t *Target) firehoseRequest(id string, now time.Time, payloads []Payload) (*request, error) {
	size := 128
	for i := range payloads {
		size += base64.StdEncoding.EncodedLen(len(payloads[i].Data)) + 12
	}
	b := make([]byte, 0, size)
	b = append(b, `{"requestId":"`...)
	b = append(b, id...)
	b = append(b, `","timestamp":`...)
	b = strconv.AppendInt(b, now.UnixMilli(), 10)
	b = append(b, `,"records":[`...)
	for i := range payloads {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"data":"`...)
		b = base64.StdEncoding.AppendEncode(b, payloads[i].Data)
		b = append(b, `"}`...)
	}
	b = append(b, `]}`...)
	r := &request{id: id, url: t.FirehoseURL, body: b, stream: streamOf[payloads[0].Channel], payloads: payloads}
	if t.OuterGzip {
		var out bytes.Buffer
		gz, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
		if err == nil {
			_, err = gz.Write(b)
			err = errors.Join(err, gz.Close())
		}
		if err != nil {
			return nil, err
		}
		r.body, r.gzipped = out.Bytes(), true
	}
	return r, nil
}

// eventRequest builds the request of an EventBridge API destination.
func (t *Target) eventRequest(id string, p Payload) *request {
	return &request{id: id, url: t.EventsURL, body: p.Data, payloads: []Payload{p}}
}

func (t *Target) send(ctx context.Context, r *request) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(r.body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if r.gzipped {
		req.Header.Set("Content-Encoding", "gzip")
	}
	if r.stream == "" {
		req.Header.Set("User-Agent", "Amazon/EventBridge/ApiDestinations")
		if t.AccessKey != "" {
			req.Header.Set("X-Tocsin-Key", t.AccessKey)
		}
	} else {
		req.Header.Set("User-Agent", "Amazon Kinesis Data Firehose Agent/1.0")
		req.Header.Set("X-Amz-Firehose-Protocol-Version", "1.0")
		req.Header.Set("X-Amz-Firehose-Request-Id", r.id)
		req.Header.Set("X-Amz-Firehose-Source-Arn", "arn:aws:firehose:"+Region+":"+Account+":deliverystream/"+r.stream)
		if t.AccessKey != "" {
			req.Header.Set("X-Amz-Firehose-Access-Key", t.AccessKey)
		}
		req.Header.Set("X-Amz-Firehose-Common-Attributes", `{"commonAttributes":{}}`)
	}
	res, err := t.Client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxResponse+1))
	if err != nil {
		return err
	}
	return checkResponse(r, res, body)
}

// errRefused is returned for answers that say that the target is not the right
// one: wrong URL, wrong access key.
var errRefused = errors.New("the endpoint refuses requests; check the URL and the access key")

// statusError is an answer other than the one that counts as success.
type statusError struct {
	status int
	body   string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %.200s", e.status, e.body) }

// checkResponse is as strict as Firehose: anything but a well-formed 200 is a
// failure.
func checkResponse(r *request, res *http.Response, body []byte) error {
	if r.stream == "" {
		if res.StatusCode/100 != 2 {
			return &statusError{res.StatusCode, string(body)}
		}
		return nil
	}
	if res.StatusCode != http.StatusOK {
		return &statusError{res.StatusCode, string(body)}
	}
	var answer struct {
		RequestID string `json:"requestId"`
		Timestamp *int64 `json:"timestamp"`
	}
	switch err := json.Unmarshal(body, &answer); {
	case len(body) > maxResponse:
		return errors.New("the response is larger than 1 MiB")
	case err != nil:
		return fmt.Errorf("the response is not the JSON that Firehose wants: %w", err)
	case answer.RequestID != r.id:
		return fmt.Errorf("the response is for request %q, not %q", answer.RequestID, r.id)
	case answer.Timestamp == nil:
		return errors.New("the response has no timestamp")
	case res.Header.Get("Content-Type") != "application/json":
		return fmt.Errorf("the response has content type %q", res.Header.Get("Content-Type"))
	case res.Header.Get("Content-Encoding") != "" || res.ContentLength < 0:
		return errors.New("the response has a content encoding or no content length")
	}
	return nil
}

// deliver sends r until it is accepted, with Firehose's pauses: one second,
// doubled each time to at most two minutes, 15 % more or less. A 413 is not
// repeated: Firehose throws such a request away.
func (t *Target) deliver(ctx context.Context, r *request, repeat func(error)) error {
	deadline := time.Now().Add(t.RetryFor)
	for pause := firehoseFirstRetry; ; pause = min(2*pause, firehoseMaxRetry) {
		err := t.send(ctx, r)
		if err == nil {
			return nil
		}
		var status *statusError
		if errors.As(err, &status) {
			switch status.status {
			case http.StatusRequestEntityTooLarge:
				return fmt.Errorf("request %s: %w", r.id, err)
			case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed:
				return fmt.Errorf("%w: %s: %w", errRefused, r.url, err)
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("request %s: %w", r.id, err)
		}
		wait := time.Duration(float64(pause) * (0.85 + 0.3*rand.Float64()))
		if time.Now().Add(wait).After(deadline) {
			return fmt.Errorf("request %s given up after %s: %w", r.id, t.RetryFor, err)
		}
		repeat(err)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("request %s: %w", r.id, err)
		case <-timer.C:
		}
	}
}
