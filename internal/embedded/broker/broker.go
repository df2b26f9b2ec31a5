// Package broker runs a Kafka broker inside the process: franz-go's kfake,
// which speaks the Kafka protocol (topics, groups, idempotent and transactional
// producers) and keeps its log in a folder. It listens on loopback only and
// has one node, hence no replication: acknowledged records survive the end of
// the process in any form, but not the loss of the disk, and, unless Sync is
// set, those of the last moments not a power failure (Kafka's own default).
//
// Topics are not created by the first use of their name.
package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"
)

// Options of a broker. The zero value is a broker that forgets.
type Options struct {
	// Dir keeps the log; one broker may use it at a time. Empty keeps the log
	// in memory.
	Dir string
	// Port is the loopback port. 0 takes the port of the last run in Dir if it
	// is free, else one that the system gives.
	Port int
	// Sync makes every acknowledged batch survive a power failure (fsync).
	Sync bool
	// MinFree is how many bytes the file system of Dir must have free for the
	// broker to take records and create topics; by default 256 MiB, or 5 % of
	// a smaller file system. Below it, producers get KAFKA_STORAGE_ERROR,
	// which clients retry, until there is room again.
	MinFree uint64
	// Logger receives what the broker complains about. Default: none.
	Logger *zap.Logger
}

// Broker is a running broker.
type Broker struct {
	cluster *kfake.Cluster
	addrs   []string
	guard   *diskGuard // nil for a log in memory
	lock    *os.File   // nil for a log in memory
	close   sync.Once
}

const (
	lockFile = "tocsin.lock"
	portFile = "tocsin.port"
	logDir   = "log"
)

// Start starts a broker, with the topics, records and committed offsets that
// Dir has from before.
func Start(opt Options) (*Broker, error) {
	log := opt.Logger
	if log == nil {
		log = zap.NewNop()
	}
	b := &Broker{}
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.WithLogger(logger{log.Sugar()})}
	port := opt.Port
	if opt.Dir != "" {
		if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("embedded broker: %w", err)
		}
		lock, err := lockDir(opt.Dir)
		if err != nil {
			return nil, fmt.Errorf("embedded broker: %w", err)
		}
		b.lock = lock
		opts = append(opts, kfake.DataDir(filepath.Join(opt.Dir, logDir)))
		if port == 0 {
			port = lastPort(opt.Dir)
		}
	}
	if opt.Sync {
		opts = append(opts, kfake.SyncWrites())
	}
	cluster, err := kfake.NewCluster(append(opts, kfake.Ports(port))...)
	if err != nil && opt.Port == 0 && port != 0 {
		cluster, err = kfake.NewCluster(append(opts, kfake.Ports(0))...) // somebody else has the port now
	}
	if err != nil {
		b.unlock()
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	b.cluster, b.addrs = cluster, cluster.ListenAddrs()
	if opt.Dir != "" {
		if err := b.rememberPort(opt.Dir); err != nil {
			log.Warn("embedded broker: its port may change at the next start", zap.Error(err))
		}
		b.guard = startDiskGuard(cluster, opt.Dir, opt.MinFree, log)
	}
	return b, nil
}

// Addrs are the bootstrap addresses, host:port.
func (b *Broker) Addrs() []string { return b.addrs }

// StorageRefusals counts the requests that were refused for want of disk space.
func (b *Broker) StorageRefusals() uint64 {
	if b.guard == nil {
		return 0
	}
	return b.guard.refused.Load()
}

// Close writes the broker's state and stops it. Clients see their connections
// close. It must be called at most once by each owner; more is harmless.
func (b *Broker) Close() error {
	b.close.Do(func() {
		if b.guard != nil {
			b.guard.close()
		}
		b.cluster.Close()
		b.unlock()
	})
	return nil
}

func (b *Broker) unlock() {
	if b.lock != nil {
		b.lock.Close()
	}
}

func lastPort(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, portFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	port, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || port < 0 || port > 65535 {
		return 0
	}
	return port
}

func (b *Broker) rememberPort(dir string) error {
	_, port, _ := strings.Cut(b.addrs[0], ":")
	return os.WriteFile(filepath.Join(dir, portFile), []byte(port+"\n"), 0o600)
}

// logger passes on what an operator should see; the rest is a line per request.
type logger struct{ *zap.SugaredLogger }

func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		l.Errorf("embedded broker: "+format, args...)
	case kfake.LogLevelWarn:
		l.Warnf("embedded broker: "+format, args...)
	}
}
