package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tocsin-io/tocsin/internal/publicaddr"
)

// Reasons of failed attempts. They are metric labels: the set is fixed.
const (
	reasonNetwork  = "network"
	reasonTimeout  = "timeout"
	reasonTLS      = "tls"
	reasonAddress  = "refused_address"
	reasonRedirect = "redirect"
	reasonThrottle = "throttled"
	reasonServer   = "server_error"
	reasonClient   = "client_error"
	reasonGone     = "gone"
)

// maxRetryAfter bounds what a receiver may ask for: one that says a year is
// asked again tomorrow.
const maxRetryAfter = 24 * time.Hour

// failure is why an attempt did not succeed.
type failure struct {
	reason     string
	refused    bool          // the receiver will say the same again
	gone       bool          // the receiver wants no more messages at all
	retryAfter time.Duration // 0: it did not say
	err        error
}

func (f *failure) Error() string { return f.reason + ": " + f.err.Error() }

func (f *failure) Unwrap() error { return f.err }

// attempt sends a message once. It returns nil when the receiver has it.
func (s *Sink) attempt(ctx context.Context, m *message) *failure {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.opts.URL, bytes.NewReader(m.body))
	if err != nil {
		return &failure{reason: reasonNetwork, err: err}
	}
	for name, value := range s.opts.Headers {
		req.Header.Set(name, value)
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "tocsin")
	}
	now := time.Now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("webhook-id", m.id)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("webhook-signature", s.signer.sign(m.id, now, m.body))

	res, err := s.client.Do(req)
	if err != nil {
		return &failure{reason: classify(err), err: hideURL(err)}
	}
	defer res.Body.Close()
	// Read to the end, so that the connection can be used again; but no more than
	// a receiver has a reason to say.
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	return judge(res, now)
}

// judge reads an answer as the specification has it: only 2xx is success.
func judge(res *http.Response, now time.Time) *failure {
	f := &failure{err: fmt.Errorf("receiver answered %d %s", res.StatusCode, http.StatusText(res.StatusCode))}
	f.retryAfter = retryAfter(res.Header.Get("Retry-After"), now)
	switch code := res.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 400:
		f.reason, f.refused = reasonRedirect, true
	case code == http.StatusGone:
		f.reason, f.gone = reasonGone, true
	case code == http.StatusTooManyRequests, code == http.StatusBadGateway, code == http.StatusServiceUnavailable,
		code == http.StatusGatewayTimeout:
		f.reason = reasonThrottle
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		f.reason = reasonTimeout
	case code >= 400 && code < 500:
		f.reason, f.refused = reasonClient, true
	default:
		f.reason = reasonServer
	}
	return f
}

// retryAfter reads the header: seconds, or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	var d time.Duration
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
		d = time.Duration(min(max(seconds, 0), int64(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

func classify(err error) string {
	var certificate *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	var alert tls.AlertError
	var authority x509.UnknownAuthorityError
	var netErr net.Error
	switch {
	case errors.Is(err, publicaddr.ErrRefused):
		return reasonAddress
	case errors.As(err, &certificate), errors.As(err, &header), errors.As(err, &alert), errors.As(err, &authority):
		return reasonTLS
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return reasonTimeout
	}
	return reasonNetwork
}

// hideURL takes the URL out of net/http's error: a path can be a secret, as with
// many chat systems.
func hideURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
