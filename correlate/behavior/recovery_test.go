package behavior

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/internal/watermark"
	"github.com/tocsin-io/tocsin/schemas"
)

const recoveryPartitions = 3

// cluster is a broker with the topics.
type cluster struct {
	t        *testing.T
	brokers  []string
	client   *kafka.Client
	producer *kafka.Producer
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, brokers: testkit.KafkaFake(t, kfake.GroupMinSessionTimeout(200*time.Millisecond)).ListenAddrs()}
	c.client, c.producer = c.connect()
	err := c.client.EnsureTopics(t.Context(), []kafka.TopicSpec{
		{Name: schemas.TopicEvents, Partitions: recoveryPartitions},
		{Name: schemas.TopicIdentities, Partitions: recoveryPartitions, Compacted: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) connect() (*kafka.Client, *kafka.Producer) {
	c.t.Helper()
	client, err := kafka.Dial(kafka.Config{Brokers: c.brokers}, zap.NewNop())
	if err != nil {
		c.t.Fatal(err)
	}
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{Linger: time.Millisecond})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = producer.Close(ctx)
		_ = client.Close()
	})
	return client, producer
}

// mortal is a producer that dies after so many records: what is sent then is lost and
// never acknowledged, as with kill -9.
type mortal struct {
	*kafka.Producer
	left chan struct{} // closed at death
	n    int
}

func (m *mortal) ProduceAsync(ctx context.Context, topic string, partition int, rec kafka.Record, done func(int64, error)) {
	select {
	case <-m.left:
		return
	default:
	}
	if rand.IntN(m.n) == 0 {
		close(m.left)
		return
	}
	m.Producer.ProduceAsync(ctx, topic, partition, rec, done)
}

// run runs a service until ctx ends or, with lives > 0, until its producer dies.
func (c *cluster) run(ctx context.Context, lives int) {
	client, producer := c.connect()
	opts := Options{
		Client: client, Producer: producer, Logger: zap.NewNop(), LeastFleet: 1, SilenceIntervals: 3,
		Watermark: watermark.Options{Idle: time.Hour}, FleetInterval: 50 * time.Millisecond,
		Group: kafka.GroupOptions{
			SessionTimeout: 300 * time.Millisecond, RebalanceTimeout: time.Second, HeartbeatInterval: 20 * time.Millisecond,
			MaxWait: 10 * time.Millisecond, JoinBackoff: 10 * time.Millisecond, FetchMaxBytes: 2048,
		},
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if lives > 0 {
		m := &mortal{Producer: producer, left: make(chan struct{}), n: lives}
		opts.Producer = m
		go func() {
			select {
			case <-m.left:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	if err := New(opts).Run(ctx); err != nil {
		c.t.Error(err)
	}
}

// produce sends events, each record one, to the partitions of their devices.
func (c *cluster) produce(events []*event) {
	c.t.Helper()
	byPartition := make([][]kafka.Record, recoveryPartitions)
	for _, e := range events {
		p := schemas.Partition(e.Device, recoveryPartitions)
		byPartition[p] = append(byPartition[p], kafka.Record{Value: encode(e)})
	}
	for p, records := range byPartition {
		if err := c.producer.Produce(c.t.Context(), schemas.TopicEvents, p, records...); err != nil {
			c.t.Fatal(err)
		}
	}
}

// datapoints returns the counts of the datapoints so far, by device and interval. One
// that was made twice must have been made the same.
func (c *cluster) datapoints() (map[string]string, int) {
	c.t.Helper()
	found, ids, repeated := map[string]string{}, map[string]schemas.EventID{}, 0
	for p := range recoveryPartitions {
		err := c.client.ReadAll(c.t.Context(), schemas.TopicEvents, p, func(rec *kafka.FetchedRecord) error {
			var r schemas.BatchReader
			r.Reset(rec.Value)
			var ev schemas.Event
			for r.Next(&ev) {
				if string(ev.Type) != schemas.TypeDatapoint {
					continue
				}
				var m map[string]any
				if err := json.Unmarshal(ev.Message, &m); err != nil {
					return err
				}
				key := fmt.Sprint(m["device"], "@", m["interval_start"])
				got := only(m, counts)
				if before, ok := found[key]; ok {
					repeated++
					if before != got || ids[key] != ev.ID {
						c.t.Errorf("%s is made as %s (%s) and as %s (%s)", key, before, ids[key], got, ev.ID)
					}
				}
				found[key], ids[key] = got, ev.ID
			}
			return r.Err()
		})
		if err != nil {
			c.t.Fatal(err)
		}
	}
	return found, repeated
}

// fleetHour is what a few devices do in an hour, with a disorder of 20 s, by two lanes of
// which one is behind.
func fleetHour(rng *rand.Rand) []*event {
	var events []*event
	for s := 0; s < 3600; s += 5 {
		for _, lane := range []string{"a", "b"} {
			d := fmt.Sprintf("%s-%02d", lane, rng.IntN(12))
			typ := []string{"Publish-In", "Publish-Out", "Connect", "Ping"}[rng.IntN(4)]
			events = append(events, at(float64(s)+20*rng.Float64(), d, typ, by(lane), from(fmt.Sprintf("198.51.100.%d", 1+rng.IntN(4)))))
		}
	}
	for s := 3660; s < 4000; s += 30 {
		for i := range 60 { // all partitions, both lanes
			events = append(events, at(float64(s), fmt.Sprintf("clock-%02d", i), "Ping", by([]string{"a", "b"}[i%2])))
		}
	}
	return events
}

// Services die in the middle of what they send, others join and leave: every datapoint
// is made, and whenever it is made again it is the same.
func TestRecovery(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	events := fleetHour(rand.New(rand.NewPCG(seed, 1)))

	want := undisturbed(t, events)
	if len(want) < 150 {
		t.Fatalf("only %d datapoints", len(want))
	}
	hard := newCluster(t)
	const parts = 15
	for part := range parts {
		hard.produce(events[len(events)*part/parts : len(events)*(part+1)/parts])
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		var members sync.WaitGroup
		switch part % 3 {
		case 0: // dies in the middle of what it sends
			hard.run(ctx, 8)
		case 1: // ends in order, wherever it is
			hard.run(ctx, 0)
		case 2: // gives half of its partitions to another one, which dies
			members.Go(func() { hard.run(ctx, 0) })
			members.Go(func() {
				time.Sleep(100 * time.Millisecond)
				hard.run(ctx, 8)
			})
		}
		members.Wait()
		cancel()
	}
	got := hard.finish(want)
	for key, counts := range want {
		if got[key] != counts {
			t.Errorf("%s: got %q, want %q", key, got[key], counts)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d datapoints, want %d", len(got), len(want))
	}
}

// undisturbed returns the datapoints of workers that nothing happens to.
func undisturbed(t *testing.T, events []*event) map[string]string {
	t.Helper()
	found := map[string]string{}
	for p := range recoveryPartitions {
		out := &sent{}
		r := NewReplay(Options{Producer: out, Logger: zap.NewNop(), Watermark: watermark.Options{Idle: time.Hour}}, p, recoveryPartitions, 1)
		for i, e := range events {
			if schemas.Partition(e.Device, recoveryPartitions) == p {
				r.Record(t.Context(), &kafka.FetchedRecord{Offset: int64(i), Value: encode(e)})
			}
		}
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, m := range messages(t, out.events, schemas.TypeDatapoint) {
			found[fmt.Sprint(m["device"], "@", m["interval_start"])] = only(m, counts)
		}
	}
	return found
}

// finish runs a service until there are the datapoints wanted.
func (c *cluster) finish(want map[string]string) map[string]string {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.run(ctx, 0)
	}()
	deadline := time.Now().Add(60 * time.Second)
	for time.Now().Before(deadline) {
		if found, _ := c.datapoints(); len(found) >= len(want) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	cancel()
	<-ended // it ends in order: what it has begun is there
	found, repeated := c.datapoints()
	c.t.Logf("%d datapoints, %d made again", len(found), repeated)
	return found
}

// What is known of a device outlives its worker.
func TestDevicesAreRestored(t *testing.T) {
	c := newCluster(t)
	var events []*event
	for s := 0; s < 7200; s += 60 {
		events = append(events, at(float64(s), "p", "Publish-In"))
		for i := range 30 {
			events = append(events, at(float64(s), fmt.Sprintf("clock-%02d", i), "Ping"))
		}
	}
	c.produce(events)
	c.finish(undisturbed(t, events))
	before := len(events)
	for s := 7200; s < 9000; s += 60 {
		for i := range 30 {
			events = append(events, at(float64(s), fmt.Sprintf("clock-%02d", i), "Ping"))
		}
	}
	events = append(events, at(8990, "p", "Connect", from("203.0.113.200")))
	for i := range 30 {
		events = append(events, at(9400, fmt.Sprintf("clock-%02d", i), "Ping"))
	}
	c.produce(events[before:])
	c.finish(undisturbed(t, events))
	var got []string
	for p := range recoveryPartitions {
		err := c.client.ReadAll(t.Context(), schemas.TopicEvents, p, func(rec *kafka.FetchedRecord) error {
			var r schemas.BatchReader
			r.Reset(rec.Value)
			var ev schemas.Event
			for r.Next(&ev) {
				if string(ev.Device) != "p" || string(ev.Source) != schemas.SourceBehavior {
					continue
				}
				var m map[string]any
				if err := json.Unmarshal(ev.Message, &m); err != nil {
					return err
				}
				if string(ev.Type) != schemas.TypeDatapoint {
					got = append(got, fmt.Sprint(string(ev.Type), " ", m["silent_seconds"]))
				} else if m["new_source_ip"] == true {
					got = append(got, fmt.Sprint("new address ", m["source_ips"]))
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	expect(t, "of the device", strings.Join(got, ", "), "DeviceSilent 960, DeviceReturned 1850, new address [203.0.113.200]")
}
