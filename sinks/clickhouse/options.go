package clickhouse

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tocsin-io/tocsin/internal/hosturl"
	"github.com/tocsin-io/tocsin/internal/tlsconfig"
)

// Options say how to reach a server. Only URL is needed.
type Options struct {
	// URL is http://host:8123, https://host:8443 or clickhouse://host:9000 (the
	// native protocol); several hosts are separated by commas. A path is the
	// prefix of an HTTP proxy in front of the server.
	URL string
	// Database that holds Tocsin's tables. Default "tocsin".
	Database string
	// Username (default "default") and Password. PasswordFile is read instead of
	// Password when it is set.
	Username, Password, PasswordFile string
	TLS                              TLS
	// Compression of what is sent: "lz4", "zstd" or "none". Default: none to
	// this machine, lz4 to others.
	Compression string
	// DialTimeout bounds connecting (default 5 s), ReadTimeout one statement
	// (default 60 s).
	DialTimeout, ReadTimeout time.Duration
	// MaxConns bounds the connections. Default 4.
	MaxConns int
}

// TLS configures https://, and clickhouse:// with Enabled.
type TLS = tlsconfig.Client

// identifier is what a database or cluster may be called: names are put into
// SQL text, where nothing else can be a parameter.
var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

const maxPasswordFile = 64 << 10

// Conn is a pool of connections to one server or cluster. It is safe for
// concurrent use.
type Conn struct {
	driver.Conn
	http        bool
	compression *ch.Compression // nil: none
}

// Open returns a pool of connections. It connects to nothing: a server that is
// away at the start is no different from one that goes away later.
func Open(o Options) (*Conn, error) {
	opt, err := o.driverOptions()
	if err != nil {
		return nil, err
	}
	conn, err := ch.Open(opt)
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: conn, http: opt.Protocol == ch.HTTP, compression: opt.Compression}, nil
}

// DatabaseName returns the database with its default.
func (o Options) DatabaseName() string {
	if o.Database == "" {
		return "tocsin"
	}
	return o.Database
}

func (o Options) driverOptions() (*ch.Options, error) {
	u, hosts, err := hosturl.Parse(o.URL)
	if err != nil {
		return nil, errors.New("clickhouse url: want http://host:8123, https://host:8443 or clickhouse://host:9000")
	}
	if !identifier.MatchString(o.DatabaseName()) {
		return nil, fmt.Errorf("clickhouse database %q: want letters, digits and underscores", o.Database)
	}
	opt := &ch.Options{
		Addr:        hosts,
		Auth:        ch.Auth{Username: o.Username, Password: o.Password},
		DialTimeout: o.DialTimeout,
		ReadTimeout: o.ReadTimeout,
		// The tables are always named with their database: it may not exist yet.
		MaxOpenConns: o.MaxConns,
		MaxIdleConns: o.MaxConns,
		ClientInfo:   ch.ClientInfo{Products: []struct{ Name, Version string }{{Name: "tocsin"}}},
	}
	if opt.DialTimeout <= 0 {
		opt.DialTimeout = 5 * time.Second
	}
	if opt.ReadTimeout <= 0 {
		opt.ReadTimeout = 60 * time.Second
	}
	if opt.MaxOpenConns <= 0 {
		opt.MaxOpenConns, opt.MaxIdleConns = 4, 4
	}
	secure := o.TLS.Enabled
	port := "9000"
	switch u.Scheme {
	case "http":
		opt.Protocol, port = ch.HTTP, "8123"
		if secure {
			return nil, errors.New("clickhouse url: TLS is enabled, so it must begin with https://")
		}
	case "https":
		opt.Protocol, port, secure = ch.HTTP, "8443", true
	case "clickhouse", "tcp", "native":
		opt.Protocol = ch.Native
		if secure {
			port = "9440"
		}
	default:
		return nil, fmt.Errorf("clickhouse url: scheme %q is not http, https or clickhouse", u.Scheme)
	}
	if opt.Protocol == ch.HTTP {
		opt.HttpUrlPath = u.Path
	}
	for i, addr := range opt.Addr {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			opt.Addr[i] = net.JoinHostPort(strings.Trim(addr, "[]"), port)
		}
	}
	if u.User != nil {
		opt.Auth.Username = u.User.Username()
		if p, ok := u.User.Password(); ok {
			opt.Auth.Password = p
		}
	}
	if o.PasswordFile != "" {
		if opt.Auth.Password, err = readPassword(o.PasswordFile); err != nil {
			return nil, err
		}
	}
	if secure {
		if opt.TLS, err = o.TLS.Config(); err != nil {
			return nil, fmt.Errorf("clickhouse tls: %w", err)
		}
	}
	opt.Compression, err = o.compression(opt.Addr)
	return opt, err
}

func (o Options) compression(addrs []string) (*ch.Compression, error) {
	switch o.Compression {
	case "none":
		return nil, nil
	case "lz4":
		return &ch.Compression{Method: ch.CompressionLZ4}, nil
	case "zstd":
		return &ch.Compression{Method: ch.CompressionZSTD, Level: 1}, nil
	case "":
	default:
		return nil, fmt.Errorf("clickhouse compression %q is not lz4, zstd or none", o.Compression)
	}
	for _, addr := range addrs {
		host, _, _ := net.SplitHostPort(addr)
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return &ch.Compression{Method: ch.CompressionLZ4}, nil
		}
	}
	return nil, nil
}

func readPassword(path string) (string, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxPasswordFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxPasswordFile)
	}
	if err != nil {
		return "", fmt.Errorf("clickhouse password file: %w", err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("clickhouse password file: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}
