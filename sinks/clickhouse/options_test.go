package clickhouse

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/go-cmp/cmp"
)

func TestOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		o           Options
		protocol    ch.Protocol
		addrs       []string
		user, pass  string
		tls         bool
		compression ch.CompressionMethod
	}{
		"http":             {Options{URL: "http://127.0.0.1:8123"}, ch.HTTP, []string{"127.0.0.1:8123"}, "", "", false, ch.CompressionNone},
		"default ports":    {Options{URL: "http://localhost,ch2"}, ch.HTTP, []string{"localhost:8123", "ch2:8123"}, "", "", false, ch.CompressionLZ4},
		"several ports":    {Options{URL: "http://ch1:8124,ch2:8125/proxy"}, ch.HTTP, []string{"ch1:8124", "ch2:8125"}, "", "", false, ch.CompressionLZ4},
		"ipv6":             {Options{URL: "http://[::1]"}, ch.HTTP, []string{"[::1]:8123"}, "", "", false, ch.CompressionNone},
		"https":            {Options{URL: "https://ch.example.com"}, ch.HTTP, []string{"ch.example.com:8443"}, "", "", true, ch.CompressionLZ4},
		"native":           {Options{URL: "clickhouse://ch1:9000,ch2:9001"}, ch.Native, []string{"ch1:9000", "ch2:9001"}, "", "", false, ch.CompressionLZ4},
		"native tls":       {Options{URL: "clickhouse://ch1", TLS: TLS{Enabled: true}}, ch.Native, []string{"ch1:9440"}, "", "", true, ch.CompressionLZ4},
		"user in url":      {Options{URL: "http://u:p@ch1"}, ch.HTTP, []string{"ch1:8123"}, "u", "p", false, ch.CompressionLZ4},
		"user, no url":     {Options{URL: "http://ch1", Username: "u", Password: "p"}, ch.HTTP, []string{"ch1:8123"}, "u", "p", false, ch.CompressionLZ4},
		"zstd to loopback": {Options{URL: "http://localhost", Compression: "zstd"}, ch.HTTP, []string{"localhost:8123"}, "", "", false, ch.CompressionZSTD},
		"none to others":   {Options{URL: "http://ch1", Compression: "none"}, ch.HTTP, []string{"ch1:8123"}, "", "", false, ch.CompressionNone},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tc.o.driverOptions()
			if err != nil {
				t.Fatal(err)
			}
			method := ch.CompressionNone
			if got.Compression != nil {
				method = got.Compression.Method
			}
			if got.Protocol != tc.protocol || !cmp.Equal(got.Addr, tc.addrs) || got.Auth.Username != tc.user || got.Auth.Password != tc.pass ||
				(got.TLS != nil) != tc.tls || method != tc.compression {
				t.Errorf("%v %v %q %q TLS %v %v", got.Protocol, got.Addr, got.Auth.Username, got.Auth.Password, got.TLS != nil, method)
			}
		})
	}
}

func TestBadOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"empty":       {},
		"no scheme":   {URL: "localhost:8123"},
		"scheme":      {URL: "mysql://localhost"},
		"not a url":   {URL: "http://u:geheim@ho st"},
		"tls on http": {URL: "http://localhost", TLS: TLS{Enabled: true}},
		"database":    {URL: "http://localhost", Database: "a`b"},
		"compression": {URL: "http://localhost", Compression: "rar"},
		"CA":          {URL: "https://localhost", TLS: TLS{CAFile: "/nonexistent"}},
		"CA content":  {URL: "https://localhost", TLS: TLS{CAFile: "options_test.go"}},
		"key":         {URL: "https://localhost", TLS: TLS{CertFile: "/nonexistent"}},
		"password":    {URL: "http://localhost", PasswordFile: "/nonexistent"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Open(o); err == nil {
				t.Error("accepted")
			} else if strings.Contains(err.Error(), "geheim") {
				t.Errorf("error shows the password: %v", err)
			}
		})
	}
}

func TestPasswordFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte("pass word\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Options{URL: "http://u@localhost", PasswordFile: path}.driverOptions()
	if err != nil || got.Auth.Password != "pass word" || got.Auth.Username != "u" {
		t.Errorf("%v, %v", got, err)
	}
}
