package hosturl

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	tests := []struct {
		in    string
		url   string // with the first host; "" for an error
		hosts []string
	}{
		{"http://a", "http://a", []string{"a"}},
		{"http://a:8123,b:8124", "http://a:8123", []string{"a:8123", "b:8124"}},
		{"https://u:p%40@a:8123,[::1]:8124,c/path?q=1", "https://u:p%40@a:8123/path?q=1", []string{"a:8123", "[::1]:8124", "c"}},
		{"clickhouse://a:9000,b", "clickhouse://a:9000", []string{"a:9000", "b"}},
		{"http://a@b@c", "http://a%40b@c", []string{"c"}},
		{"http://a?x=@b,c", "http://a?x=@b,c", []string{"a"}},
		{"", "", nil},
		{"a:8123", "", nil},
		{"http://", "", nil},
		{"http://a,", "", nil},
		{"http://:8123", "", nil},
		{"http://a,b:port", "", nil},
		{"http://a:1:2", "", nil},
		{"http://secret:secret@a b", "", nil},
		{"http://secret:secret@[bad", "", nil},
	}
	for _, test := range tests {
		u, hosts, err := Parse(test.in)
		if test.url == "" {
			if err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("%q: %v, error %v", test.in, u, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", test.in, err)
			continue
		}
		if diff := cmp.Diff(test.hosts, hosts); diff != "" || u.String() != test.url {
			t.Errorf("%q: %v %v", test.in, u, diff)
		}
	}
}
