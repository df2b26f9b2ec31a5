package correlate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// childEnv makes the test binary a correlator of the brokers that it names, so
// that one can be killed. It ends with its standard input.
const childEnv = "TOCSIN_TEST_CORRELATOR"

func runChild() int {
	log, err := zap.NewDevelopment(zap.IncreaseLevel(zap.ErrorLevel))
	if err != nil {
		return 1
	}
	if err := child(strings.Split(os.Getenv(childEnv), ","), log); err != nil {
		log.Error("correlator", zap.Error(err))
		return 1
	}
	return 0
}

func child(brokers []string, log *zap.Logger) error {
	set, diags := rules.Compile([]rules.Source{{Name: "test.yml", Data: []byte(fleetRules)}}, rules.Options{Strict: true})
	if err := diags.Err(); err != nil {
		return err
	}
	client, err := kafka.Dial(kafka.Config{Brokers: brokers}, log)
	if err != nil {
		return err
	}
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{Linger: time.Millisecond})
	if err != nil {
		return err
	}
	opts := quickOptions(client, producer, set, log)
	opts.Group.SessionTimeout = crashSession
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return New(opts).Run(ctx)
}

// crashSession is how long Kafka waits for a member that was killed.
const crashSession = time.Second

// correlatorProcess is a correlator that can be killed.
type correlatorProcess struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ended bool
}

func (c *cluster) spawn() *correlatorProcess {
	c.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(c.brokers, ","))
	cmd.Stderr = c.t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	p := &correlatorProcess{cmd: cmd, stdin: stdin}
	c.t.Cleanup(p.kill)
	return p
}

// kill ends the process as kill -9 does.
func (p *correlatorProcess) kill() {
	if p.ended {
		return
	}
	p.ended = true
	_ = p.cmd.Process.Kill() // it may have ended by itself
	_ = p.cmd.Wait()         // killed
	_ = p.stdin.Close()
}

// feed sends events spread over the given time.
func (c *cluster) feed(seed uint64, events []*schemas.Event, over time.Duration) (done chan struct{}) {
	done = make(chan struct{})
	const parts = 40
	go func() {
		defer close(done)
		for i := range parts {
			c.send(seed+uint64(i), events[i*len(events)/parts:(i+1)*len(events)/parts])
			time.Sleep(over / parts)
		}
	}()
	return done
}

// TestKilledCorrelators: correlators die by kill -9 while events flow, and all
// detections are there, each once and in its final state.
func TestKilledCorrelators(t *testing.T) {
	t.Parallel()
	k := fakeCluster(t, 4)
	testKills(t, k, 5, 5*time.Second)
}

func testKills(t *testing.T, k *cluster, kills int, over time.Duration) {
	seed := rand.Uint64() >> 16
	if s := envInt(t, "TOCSIN_SEED", 0); s != 0 {
		seed = s
	}
	t.Logf("TOCSIN_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	set := compileRules(t, fleetRules)
	events := fleetEvents(seed, 3000, 30*time.Minute)
	want := expected(t, set, events)

	k.open()
	running := []*correlatorProcess{k.spawn(), k.spawn()}
	done := k.feed(seed, events, over)
	for range kills {
		time.Sleep(over/time.Duration(kills+1)/2 + time.Duration(rng.Int64N(int64(over)/int64(kills+1))))
		victim := rng.IntN(len(running))
		running[victim].kill()
		running[victim] = k.spawn()
	}
	<-done
	k.close(fleetStart + (30 * time.Minute).Milliseconds())
	k.quiet(60 * time.Second)
	k.check(want)
	if writers := k.snapshotWriters(""); len(writers) < 3 {
		t.Errorf("only %d processes wrote snapshots: %v", len(writers), writers)
	}
}

// snapshotWriters counts the snapshots of an input topic, "" for any, by the
// process that wrote them.
func (c *cluster) snapshotWriters(topic string) map[string]int {
	c.t.Helper()
	writers := make(map[string]int)
	c.read(schemas.TopicState, func(p int, r *kafka.FetchedRecord) {
		var m manifest
		if !strings.HasPrefix(string(r.Key), topic) || !strings.Contains(string(r.Key), "/manifest/") {
			return
		}
		if err := json.Unmarshal(r.Value, &m); err != nil {
			c.t.Fatal(fmt.Errorf("state/%d@%d: %w", p, r.Offset, err))
		}
		writers[m.Writer]++
	})
	return writers
}
