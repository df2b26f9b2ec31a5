package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"time"

	kgo "github.com/segmentio/kafka-go"

	embedded "github.com/tocsin-io/tocsin/internal/embedded/clickhouse"
	"github.com/tocsin-io/tocsin/internal/testkit"
)

// target is what faults are done to. Its functions are called by one goroutine
// at a time.
type target struct {
	name, kind string
	kill       func()
	// start starts it again after kill and returns when it is there.
	start  func(context.Context) error
	freeze func() error
	thaw   func() error
	// whole returns nil when nothing of the last fault is left to recover from.
	whole func(context.Context) error
}

// Kinds of targets.
const (
	kindBroker     = "broker"
	kindIngest     = "ingest"
	kindCorrelate  = "correlate"
	kindClickHouse = "clickhouse"
	kindSink       = "sink"
)

func stageTarget(name, kind string, p *program) *target {
	return &target{
		name: name, kind: kind, kill: p.kill, start: p.start,
		freeze: func() error { return p.signal(syscall.SIGSTOP) },
		thaw:   func() error { return p.signal(syscall.SIGCONT) },
		// Only that it lives: it need not be ready, so that it can be killed again while
		// it starts or waits for others.
		whole: func(context.Context) error {
			if p.ended() {
				return errors.New("it ended by itself")
			}
			return nil
		},
	}
}

// brokerTargets are the nodes of the cluster. One is whole when all replicas are
// in sync again: with one out of sync, to kill another would leave one.
func brokerTargets(k *testkit.Kafka, nodes int) []*target {
	admin := &kgo.Client{Addr: kgo.TCP(k.Brokers()...), Timeout: 5 * time.Second}
	var out []*target
	for i := range nodes {
		out = append(out, &target{
			name: fmt.Sprintf("broker-%d", i+1), kind: kindBroker,
			kill:   func() { k.Kill(i) },
			start:  func(ctx context.Context) error { return k.Restart(ctx, i) },
			freeze: func() error { return k.Pause(i) },
			thaw:   func() error { return k.Resume(i) },
			whole: func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
				defer cancel()
				res, err := admin.Metadata(ctx, &kgo.MetadataRequest{})
				if err != nil {
					return err
				}
				if len(res.Brokers) < nodes {
					return fmt.Errorf("%d of %d brokers", len(res.Brokers), nodes)
				}
				for _, t := range res.Topics {
					for _, p := range t.Partitions {
						if len(p.Isr) < len(p.Replicas) {
							return fmt.Errorf("%s/%d: %d of %d replicas are in sync", t.Name, p.ID, len(p.Isr), len(p.Replicas))
						}
					}
				}
				return nil
			},
		})
	}
	return out
}

// engine is the ClickHouse engine; package embedded starts a new one when one
// dies.
type engine struct {
	server *embedded.Server

	mu     sync.Mutex
	killed int // PID of the one that was killed last
}

func (e *engine) kill() {
	pid := e.server.PID()
	e.mu.Lock()
	e.killed = pid
	e.mu.Unlock()
	if pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone
	}
}

func (e *engine) start(ctx context.Context) error {
	for {
		e.mu.Lock()
		killed := e.killed
		e.mu.Unlock()
		if pid := e.server.PID(); pid != 0 && pid != killed && e.answers(ctx) == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (e *engine) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.server.URL()+"/ping", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

func (e *engine) signal(s syscall.Signal) error {
	pid := e.server.PID()
	if pid == 0 {
		return errors.New("the engine is not running")
	}
	return syscall.Kill(pid, s)
}

func (e *engine) target() *target {
	return &target{
		name: "clickhouse", kind: kindClickHouse, kill: e.kill, start: e.start,
		freeze: func() error { return e.signal(syscall.SIGSTOP) },
		thaw:   func() error { return e.signal(syscall.SIGCONT) },
		whole:  e.answers,
	}
}
