package webhook

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/publicaddr"
	"github.com/tocsin-io/tocsin/internal/tlsconfig"
	"github.com/tocsin-io/tocsin/sinks"
)

// Options of one receiver. Name, URL, Secrets, History, DeadLetters, Metrics
// and Status are needed.
type Options struct {
	// Name of the receiver, in metrics and logs.
	Name string
	// URL that is posted to, http or https. It is taken for public: logs show
	// its host, so that keys belong into Headers.
	URL string
	// Secrets of the form whsec_BASE64; the body is signed with each. They never
	// appear in logs or errors.
	Secrets []string
	// Headers are added to every request.
	Headers map[string]string
	// MinLevel is the least Sigma level to notify of: informational, low, medium
	// (the default), high or critical.
	MinLevel string
	// Activities to notify of: created, updated, closed. Default: created.
	Activities []string
	// AllowPrivate permits receivers that are not on the public internet.
	AllowPrivate bool
	// ProxyURL of an HTTP proxy; none is taken from the environment. With one,
	// it is the proxy that must refuse private addresses.
	ProxyURL string
	// CAFile holds root certificates (PEM) that take the place of the system's.
	CAFile string
	// Timeout of one attempt, to the end of the answer. Default 15 s.
	Timeout time.Duration
	// Backoff between attempts. Default 1 s, doubling up to 5 min.
	Backoff sinks.Backoff
	// GiveUpAfter is how long a message is tried before it goes to the dead
	// letter topic. Default 24 h.
	GiveUpAfter time.Duration
	// RefusedAttempts is how often a message is sent that the receiver refuses
	// (4xx, 3xx) before it goes to the dead letter topic. Default 3.
	RefusedAttempts int
	// Concurrency is how many requests may be under way. Default 4.
	Concurrency int

	// History reads back what was dealt with before a restart.
	History     History
	DeadLetters sinks.DeadLetters
	Metrics     *sinks.Metrics
	Status      *sinks.Status
	Logger      *zap.Logger
}

// levels are Sigma's, by rank.
var levels = []string{"informational", "low", "medium", "high", "critical"}

// reservedHeaders are those that the sink sets itself.
var reservedHeaders = []string{"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Content-Type", "Content-Length", "Host", "Transfer-Encoding"}

func (o Options) withDefaults() Options {
	if o.MinLevel == "" {
		o.MinLevel = "medium"
	}
	if len(o.Activities) == 0 {
		o.Activities = []string{ActivityCreated}
	}
	if o.Timeout <= 0 {
		o.Timeout = 15 * time.Second
	}
	if o.Backoff.First <= 0 {
		o.Backoff.First = time.Second
	}
	if o.Backoff.Max <= 0 {
		o.Backoff.Max = 5 * time.Minute
	}
	if o.GiveUpAfter <= 0 {
		o.GiveUpAfter = 24 * time.Hour
	}
	if o.RefusedAttempts <= 0 {
		o.RefusedAttempts = 3
	}
	if o.Concurrency <= 0 {
		o.Concurrency = 4
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	return o
}

// validate returns every problem, without secrets.
func (o Options) validate() error {
	var problems []error
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("webhook %s: "+format, append([]any{o.Name}, args...)...))
	}
	u, err := url.Parse(o.URL)
	switch {
	case err != nil || u.Host == "":
		bad("url: want https://host/path")
	case u.Scheme != "https" && u.Scheme != "http":
		bad("url: scheme %q is not https or http", u.Scheme)
	case u.User != nil:
		bad("url: it holds a user name; put credentials into headers, where logs do not show them")
	case !o.AllowPrivate && o.ProxyURL == "":
		// A name is looked at when it has been resolved; an address can be now.
		if a, err := netip.ParseAddr(u.Hostname()); err == nil {
			if err := publicaddr.Check(a); err != nil {
				bad("url: %w", err)
			}
		}
	}
	if !slices.Contains(levels, o.MinLevel) {
		bad("min_level %q is not one of %s", o.MinLevel, strings.Join(levels, ", "))
	}
	for _, a := range o.Activities {
		if a != ActivityCreated && a != ActivityUpdated && a != ActivityClosed {
			bad("activity %q is not created, updated or closed", a)
		}
	}
	for name := range o.Headers {
		if slices.Contains(reservedHeaders, http.CanonicalHeaderKey(name)) {
			bad("header %s is set by the sink", name)
		}
	}
	return errors.Join(problems...)
}

// client returns the HTTP client: no redirects, no proxy but the configured
// one, and no address that is not allowed.
func (o Options) client(resolver *net.Resolver) (*http.Client, error) {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, Resolver: resolver}
	if !o.AllowPrivate && o.ProxyURL == "" {
		dialer.Control = publicaddr.Control
	}
	transport := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    o.Concurrency,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // nothing in the answer is read
	}
	if o.ProxyURL != "" {
		proxy, err := url.Parse(o.ProxyURL)
		if err != nil || proxy.Host == "" {
			return nil, fmt.Errorf("webhook %s: proxy_url: want http://host:port", o.Name)
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	if o.CAFile != "" {
		roots, err := tlsconfig.Roots(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("webhook %s: %w", o.Name, err)
		}
		transport.TLSClientConfig.RootCAs = roots
	}
	return &http.Client{
		Transport: transport,
		// A redirect is a failure: where it points to was not configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}
