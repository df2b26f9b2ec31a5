package inventory

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"golang.org/x/time/rate"

	"github.com/tocsin-io/tocsin/internal/backoff"
)

// The operations, by the names that AWS's quotas have.
const (
	opListCertificates      = "ListCertificates"
	opDescribeCertificate   = "DescribeCertificate"
	opListCACertificates    = "ListCACertificates"
	opDescribeCACertificate = "DescribeCACertificate"
	opListCertificatesByCA  = "ListCertificatesByCA"
	opListPrincipalThings   = "ListPrincipalThings"
)

// Quotas are AWS's defaults in calls per second and account-region (aws-formats
// 6.4).
func Quotas() map[string]float64 {
	return map[string]float64{
		opListCertificates: 10, opDescribeCertificate: 10, opListCACertificates: 10, opDescribeCACertificate: 10,
		opListCertificatesByCA: 10, opListPrincipalThings: 10,
	}
}

const (
	// maxAttempts bounds the attempts of a call that fails; one that is throttled
	// does not count, it goes on more slowly.
	maxAttempts = 5
	callTimeout = 30 * time.Second

	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 10 * time.Second
)

// calls makes calls within the quotas.
type calls struct {
	buckets map[string]*bucket
	metrics *metrics
}

func newCalls(quotas map[string]float64, share float64, m *metrics) *calls {
	c := &calls{buckets: make(map[string]*bucket), metrics: m}
	for op, quota := range Quotas() {
		if q, ok := quotas[op]; ok {
			quota = q
		}
		c.buckets[op] = newBucket(quota * share)
	}
	return c
}

// do makes one call, again and again while AWS throttles it.
func (c *calls) do(ctx context.Context, op string, call func(ctx context.Context) error) error {
	b := c.buckets[op]
	for attempt, throttled := 1, 0; ; {
		if err := b.wait(ctx); err != nil {
			return err
		}
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		err := call(callCtx)
		cancel()
		result := resultOf(err)
		c.metrics.calls.WithLabelValues(op, result).Inc()
		var delay time.Duration
		switch result {
		case resultOK:
			b.faster()
			return nil
		case resultThrottled:
			b.slower()
			delay = backoff.Delay(throttled, firstBackoff, maxBackoff)
			throttled++
		case resultUnavailable:
			if attempt == maxAttempts {
				return fmt.Errorf("%s: %w", op, err)
			}
			delay = backoff.Delay(attempt, firstBackoff, maxBackoff)
			attempt++
		default:
			return fmt.Errorf("%s: %w", op, err)
		}
		if err := backoff.Sleep(ctx, delay); err != nil {
			return err
		}
	}
}

// The results of a call: a metric label.
const (
	resultOK          = "ok"
	resultThrottled   = "throttled"
	resultNotFound    = "not_found"
	resultDenied      = "denied"
	resultUnavailable = "unavailable" // worth another attempt
	resultOther       = "error"
)

func resultOf(err error) string {
	if err == nil {
		return resultOK
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode() {
		case "ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown", "LimitExceededException":
			return resultThrottled
		case "ResourceNotFoundException":
			return resultNotFound
		case "AccessDeniedException", "AccessDenied", "UnauthorizedException", "UnrecognizedClientException", "InvalidClientTokenId", "ExpiredTokenException":
			return resultDenied
		case "InternalFailureException", "ServiceUnavailableException", "InternalException":
			return resultUnavailable
		}
	}
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		switch code := response.HTTPStatusCode(); {
		case code == http.StatusTooManyRequests:
			return resultThrottled
		case code == http.StatusForbidden, code == http.StatusUnauthorized:
			return resultDenied
		case code < http.StatusInternalServerError:
			return resultOther
		}
	}
	return resultUnavailable // a server's error, or no answer
}

// bucket is a token bucket that is filled more slowly after AWS throttled: others
// use the same quota.
type bucket struct {
	limiter *rate.Limiter
	full    rate.Limit

	mu      sync.Mutex
	changed time.Time
}

const (
	slowest      = 1.0 / 32 // of the full rate
	recoverAfter = 5 * time.Second
	recoverBy    = 1.25
	slowAtMost   = 500 * time.Millisecond // one burst of refusals is one reason to slow down
)

func newBucket(perSecond float64) *bucket {
	full := rate.Limit(perSecond)
	return &bucket{limiter: rate.NewLimiter(full, max(1, int(perSecond/2))), full: full}
}

func (b *bucket) wait(ctx context.Context) error { return b.limiter.Wait(ctx) }

func (b *bucket) slower() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.changed) < slowAtMost {
		return
	}
	b.changed = time.Now()
	b.limiter.SetLimit(max(b.limiter.Limit()/2, b.full*slowest))
}

func (b *bucket) faster() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limiter.Limit() == b.full || time.Since(b.changed) < recoverAfter {
		return
	}
	b.changed = time.Now()
	b.limiter.SetLimit(min(b.limiter.Limit()*recoverBy, b.full))
}
