// Package hosturl reads URLs with several hosts, http://a:8123,b:8123/path, as
// the drivers of ClickHouse have them. Package net/url refuses those with ports.
package hosturl

import (
	"errors"
	"net/url"
	"strings"
)

var errURL = errors.New("want scheme://host:port, or scheme://host1:port,host2:port")

// Parse returns the URL with its first host, and all its hosts, each with its
// port if it has one. The error does not repeat the URL, which may hold a
// password.
func Parse(s string) (*url.URL, []string, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return nil, nil, errURL
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	user := rest[:strings.LastIndexByte(rest[:end], '@')+1]
	hosts := strings.Split(rest[len(user):end], ",")
	var first *url.URL
	for i, host := range hosts {
		u, err := url.Parse(scheme + "://" + user + host + rest[end:])
		if err != nil || u.Hostname() == "" {
			return nil, nil, errURL
		}
		if i == 0 {
			first = u
		}
	}
	return first, hosts, nil
}
