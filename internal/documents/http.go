package documents

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/internal/publicaddr"
)

// HTTP is one URL. Redirects are not followed, and addresses that are not of the
// public internet are refused unless allowed, because the URL may be one that a
// certificate names.
type HTTP struct {
	url    *url.URL
	limit  int64
	client *http.Client
}

// HTTPOptions configure an HTTP.
type HTTPOptions struct {
	Limit        int64         // bytes of the document; 0: DefaultLimit
	Timeout      time.Duration // from the request to the last byte. Default 2 min
	AllowPrivate bool          // addresses of private networks, too
}

// NewHTTP returns the place of one document. The URL is http:// or https://,
// without a user.
func NewHTTP(rawURL string, o HTTPOptions) (*HTTP, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// The error of url.Parse has the URL, and that may have a password.
		return nil, errors.New("not a URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("%s: want http://host/path or https://host/path without a user", u.Redacted())
	}
	if o.Timeout <= 0 {
		o.Timeout = 2 * time.Minute
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	if !o.AllowPrivate {
		dialer.Control = publicaddr.Control
	}
	return &HTTP{url: u, limit: orDefault(o.Limit), client: &http.Client{
		Timeout:       o.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			// No Proxy: it would make the connection in place of the dialer above.
			DialContext:            dialer.DialContext,
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives:      true, // hours pass between two requests
			DisableCompression:     true, // or the limit would be one of compressed bytes
		},
	}}, nil
}

func (h *HTTP) String() string { return h.url.String() }

// List yields the one document.
func (h *HTTP) List(context.Context) iter.Seq2[Ref, error] {
	return func(yield func(Ref, error) bool) { yield(Ref{Location: h.url.String()}, nil) }
}

// The prefixes of versions, which say how to ask whether they are current.
const (
	byETag     = "etag "
	byModified = "modified "
)

// Open requests the document.
func (h *HTTP) Open(ctx context.Context, location, version string) (*Document, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "tocsin")
	if tag, ok := strings.CutPrefix(version, byETag); ok {
		req.Header.Set("If-None-Match", tag)
	} else if at, ok := strings.CutPrefix(version, byModified); ok {
		req.Header.Set("If-Modified-Since", at)
	}
	res, err := h.client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		_, _ = io.CopyN(io.Discard, res.Body, 4<<10) // what it says is not ours to believe
		res.Body.Close()
		switch {
		case res.StatusCode == http.StatusNotModified && version != "":
			return nil, ErrUnchanged
		case res.StatusCode >= 300 && res.StatusCode < 400:
			return nil, fmt.Errorf("%s: %s: redirects are not followed; configure the address that it leads to", h, res.Status)
		}
		return nil, fmt.Errorf("%s: %s", h, res.Status)
	}
	if res.ContentLength > h.limit {
		res.Body.Close()
		return nil, fmt.Errorf("%s: %w: %d bytes, more than %d", h, ErrTooLarge, res.ContentLength, h.limit)
	}
	ref := Ref{Location: location}
	if at, err := http.ParseTime(res.Header.Get("Last-Modified")); err == nil {
		ref.Modified = at
		ref.Version = byModified + res.Header.Get("Last-Modified")
	}
	if tag := res.Header.Get("ETag"); tag != "" && len(tag) <= 1024 {
		ref.Version = byETag + tag
	}
	return &Document{Ref: ref, ReadCloser: readCloser{limit(res.Body, h.limit), res.Body}}, nil
}
