package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/ingest/decode"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

const testPartitions = 4

// broker is an in-memory broker with the topics, and a client and a producer.
type broker struct {
	client   *kafka.Client
	producer *kafka.Producer
}

func newBroker(t *testing.T, opts kafka.ProducerOptions) *broker {
	t.Helper()
	cluster := testkit.KafkaFake(t)
	client, err := kafka.Dial(kafka.Config{Brokers: cluster.ListenAddrs()}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	specs := []kafka.TopicSpec{{Name: schemas.TopicEvents, Partitions: testPartitions}, {Name: schemas.TopicDeadLetter, Partitions: 1}}
	if err := client.EnsureTopics(t.Context(), specs); err != nil {
		t.Fatal(err)
	}
	opts.Linger = -1
	producer, err := kafka.NewProducer(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(producer.Close(ctx), client.Close()); err != nil {
			t.Error(err)
		}
	})
	return &broker{client, producer}
}

// published is one event of tocsin.events.
type published struct {
	partition int
	lane      string
	device    string
	number    int // of the line that it was
}

func (b *broker) events(t *testing.T) []published {
	t.Helper()
	var all []published
	for part := range testPartitions {
		err := b.client.ReadAll(t.Context(), schemas.TopicEvents, part, func(rec *kafka.FetchedRecord) error {
			var r schemas.BatchReader
			var ev schemas.Event
			r.Reset(rec.Value)
			for r.Next(&ev) {
				if schemas.Partition(ev.Device, testPartitions) != part {
					t.Errorf("device %s is in partition %d", ev.Device, part)
				}
				var line struct{ N int }
				if err := json.Unmarshal(ev.Message, &line); err != nil {
					t.Error(err)
				}
				all = append(all, published{part, string(r.Lane(ev.Lane)), string(ev.Device), line.N})
			}
			return r.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func (b *broker) deadLetters(t *testing.T) []schemas.DeadLetter {
	t.Helper()
	var all []schemas.DeadLetter
	err := b.client.ReadAll(t.Context(), schemas.TopicDeadLetter, 0, func(rec *kafka.FetchedRecord) error {
		var letter schemas.DeadLetter
		if err := json.Unmarshal(rec.Value, &letter); err != nil {
			return err
		}
		if string(rec.Key) != letter.Source {
			t.Errorf("dead letter of %s has key %s", letter.Source, rec.Key)
		}
		all = append(all, letter)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// line is an IoT Core log line that carries a number.
func line(number int) string {
	return fmt.Sprintf(`{"timestamp":"2026-11-23 18:00:00.%03d","logLevel":"INFO","traceId":"t-%d","accountId":"111122223333","status":"Success",`+
		`"eventType":"Connect","protocol":"MQTT","clientId":"device-%d","principalId":"p","sourceIp":"192.0.2.1","sourcePort":1,"n":%d}`,
		number%1000, number, number%50, number)
}

func lines(from, n int) []byte {
	var b bytes.Buffer
	for i := range n {
		b.WriteString(line(from + i))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// script is a source with a list of payloads. It repeats what is given back,
// and ends when everything is acknowledged.
type script struct {
	name     string
	ordered  bool
	payloads [][]byte

	mu   sync.Mutex
	acks []int // by payload: how often Ack was called for the delivery in hand
	bad  []string
}

func (s *script) Run(ctx context.Context, hand func(context.Context, *Delivery) error) error {
	again := make(chan int, len(s.payloads))
	left := atomic.Int64{}
	left.Store(int64(len(s.payloads)))
	s.acks = make([]int, len(s.payloads))
	done := make(chan struct{})
	deliver := func(i int) error {
		s.mu.Lock()
		s.acks[i] = 0
		s.mu.Unlock()
		return hand(ctx, &Delivery{
			Data: s.payloads[i], Source: "file", Lane: s.name, Origin: s.name + "/" + strconv.Itoa(i), Received: time.Now(),
			Ordered: s.ordered,
			Ack: func(err error) {
				s.mu.Lock()
				if s.acks[i]++; s.acks[i] > 1 {
					s.bad = append(s.bad, fmt.Sprintf("%s/%d acknowledged again: %v", s.name, i, err))
				}
				s.mu.Unlock()
				if err != nil {
					again <- i
				} else if left.Add(-1) == 0 {
					close(done)
				}
			},
		})
	}
	for i := range s.payloads {
		if err := deliver(i); err != nil {
			return err
		}
	}
	for {
		select {
		case i := <-again:
			if err := deliver(i); err != nil {
				return err
			}
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func newTestPipeline(t *testing.T, opts Options) *Pipeline {
	t.Helper()
	opts.Partitions = testPartitions
	opts.NewDecoder = func() *decode.Decoder { return decode.New(decode.Options{}) }
	p, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// numbers are the sorted line numbers without repetitions, and how many there
// were with them.
func numbers(events []published) ([]int, int) {
	var all []int
	for _, e := range events {
		all = append(all, e.number)
	}
	slices.Sort(all)
	n := len(all)
	return slices.Compact(all), n
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}
