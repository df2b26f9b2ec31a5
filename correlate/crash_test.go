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
	c := New(opts)
	c.patience = 2 * time.Minute
	return c.Run(ctx)
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

// killSome has two correlator processes, of which one after the other dies by
// kill -9 and is replaced, until all events are sent. The two that are left go on.
//
// Not on kfake: there a member that dies while it waits for the answer to a join
// or sync stays in the group for ever, with its partitions.
func (c *cluster) killSome(rng *rand.Rand, kills int, over time.Duration, sent <-chan struct{}) {
	c.t.Helper()
	running := []*correlatorProcess{c.spawn(), c.spawn()}
	for range kills {
		pause := over / time.Duration(kills+1)
		time.Sleep(pause/2 + time.Duration(rng.Int64N(int64(pause))))
		victim := rng.IntN(len(running))
		running[victim].kill()
		running[victim] = c.spawn()
	}
	<-sent
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
